package tensor

import (
	lib "github.com/sugarme/gotch/libtch"
)

// Kind is an element type.
type Kind int32

// Element types.
const (
	Float32  Kind = kindF32
	BFloat16 Kind = kindBF16
	Int64    Kind = kindInt64
	Bool     Kind = kindBool
)

func kindOf(k int) Kind { return Kind(k) }

// unary, binary and scalar are the shapes that most operations have.
func (s *Scope) unary(op string, f func(*lib.Ctensor, lib.Ctensor), x *Tensor) *Tensor {
	var c lib.Ctensor
	f(&c, x.c)
	return s.own(op, c, x)
}

func (s *Scope) binary(op string, f func(*lib.Ctensor, lib.Ctensor, lib.Ctensor), x, y *Tensor) *Tensor {
	var c lib.Ctensor
	f(&c, x.c, y.c)
	return s.own(op, c, x, y)
}

func (s *Scope) scalar(op string, f func(*lib.Ctensor, lib.Ctensor, lib.Cscalar), x *Tensor, v float64) *Tensor {
	var c lib.Ctensor
	k := lib.AtsFloat(v)
	f(&c, x.c, k)
	lib.AtsFree(k)
	return s.own(op, c, x)
}

// Elementwise operations; shapes broadcast as in PyTorch.

func (s *Scope) Add(x, y *Tensor) *Tensor     { return s.binary("add", lib.AtgAdd, x, y) }
func (s *Scope) Sub2(x, y *Tensor) *Tensor    { return s.binary("sub", lib.AtgSub, x, y) }
func (s *Scope) Mul(x, y *Tensor) *Tensor     { return s.binary("mul", lib.AtgMul, x, y) }
func (s *Scope) Div(x, y *Tensor) *Tensor     { return s.binary("div", lib.AtgDiv, x, y) }
func (s *Scope) Maximum(x, y *Tensor) *Tensor { return s.binary("maximum", lib.AtgMaximum, x, y) }
func (s *Scope) Minimum(x, y *Tensor) *Tensor { return s.binary("minimum", lib.AtgMinimum, x, y) }

func (s *Scope) AddScalar(x *Tensor, v float64) *Tensor {
	return s.scalar("add_scalar", lib.AtgAddScalar, x, v)
}
func (s *Scope) MulScalar(x *Tensor, v float64) *Tensor {
	return s.scalar("mul_scalar", lib.AtgMulScalar, x, v)
}

func (s *Scope) Neg(x *Tensor) *Tensor     { return s.unary("neg", lib.AtgNeg, x) }
func (s *Scope) Exp(x *Tensor) *Tensor     { return s.unary("exp", lib.AtgExp, x) }
func (s *Scope) Log(x *Tensor) *Tensor     { return s.unary("log", lib.AtgLog, x) }
func (s *Scope) Sqrt(x *Tensor) *Tensor    { return s.unary("sqrt", lib.AtgSqrt, x) }
func (s *Scope) Rsqrt(x *Tensor) *Tensor   { return s.unary("rsqrt", lib.AtgRsqrt, x) }
func (s *Scope) Square(x *Tensor) *Tensor  { return s.unary("square", lib.AtgSquare, x) }
func (s *Scope) Sigmoid(x *Tensor) *Tensor { return s.unary("sigmoid", lib.AtgSigmoid, x) }
func (s *Scope) Tanh(x *Tensor) *Tensor    { return s.unary("tanh", lib.AtgTanh, x) }
func (s *Scope) Relu(x *Tensor) *Tensor    { return s.unary("relu", lib.AtgRelu, x) }
func (s *Scope) Silu(x *Tensor) *Tensor    { return s.unary("silu", lib.AtgSilu, x) }

// Gelu is the exact one, x * Phi(x).
func (s *Scope) Gelu(x *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgGelu(&c, x.c, "none")
	return s.own("gelu", c, x)
}

// MaskedFill replaces the elements where the bool mask is true.
func (s *Scope) MaskedFill(x, mask *Tensor, v float64) *Tensor {
	var c lib.Ctensor
	k := lib.AtsFloat(v)
	lib.AtgMaskedFill(&c, x.c, mask.c, k)
	lib.AtsFree(k)
	return s.own("masked_fill", c, x, mask)
}

// Reductions.

func (s *Scope) Sum(x *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgSum(&c, x.c, kindF32)
	return s.own("sum", c, x)
}

func (s *Scope) Mean(x *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgMean(&c, x.c, kindF32)
	return s.own("mean", c, x)
}

func (s *Scope) SumDim(x *Tensor, dim int64, keep bool) *Tensor {
	var c lib.Ctensor
	lib.AtgSumDimIntlist(&c, x.c, []int64{dim}, 1, flag(keep), kindF32)
	return s.own("sum_dim", c, x)
}

func (s *Scope) LogSumExp(x *Tensor, dim int64) *Tensor {
	var c lib.Ctensor
	lib.AtgLogsumexp(&c, x.c, []int64{dim}, 1, 0)
	return s.own("logsumexp", c, x)
}

// Linear algebra.

func (s *Scope) Matmul(x, y *Tensor) *Tensor { return s.binary("matmul", lib.AtgMatmul, x, y) }

// Linear is x Wᵀ + b; b may be nil.
func (s *Scope) Linear(x, w, b *Tensor) *Tensor {
	var c lib.Ctensor
	if b == nil {
		lib.AtgLinear(&c, x.c, w.c, nil)
		return s.own("linear", c, x, w)
	}
	lib.AtgLinear(&c, x.c, w.c, b.c)
	return s.own("linear", c, x, w, b)
}

// Shapes.

func (s *Scope) View(x *Tensor, shape ...int64) *Tensor {
	var c lib.Ctensor
	lib.AtgReshape(&c, x.c, shape, len(shape))
	return s.own("reshape", c, x)
}

func (s *Scope) Transpose(x *Tensor, a, b int64) *Tensor {
	var c lib.Ctensor
	lib.AtgTranspose(&c, x.c, a, b)
	return s.own("transpose", c, x)
}

func (s *Scope) Permute(x *Tensor, dims ...int64) *Tensor {
	var c lib.Ctensor
	lib.AtgPermute(&c, x.c, dims, len(dims))
	return s.own("permute", c, x)
}

func (s *Scope) Contiguous(x *Tensor) *Tensor { return s.unary("contiguous", lib.AtgContiguous, x) }

// Narrow is x[..., start:start+length, ...] along dim, without a copy.
func (s *Scope) Narrow(x *Tensor, dim, start, length int64) *Tensor {
	var c lib.Ctensor
	lib.AtgNarrow(&c, x.c, dim, start, length)
	return s.own("narrow", c, x)
}

// Select is x[..., i, ...] along dim, which disappears.
func (s *Scope) Select(x *Tensor, dim, i int64) *Tensor {
	var c lib.Ctensor
	lib.AtgSelect(&c, x.c, dim, i)
	return s.own("select", c, x)
}

func (s *Scope) Unsqueeze(x *Tensor, dim int64) *Tensor {
	var c lib.Ctensor
	lib.AtgUnsqueeze(&c, x.c, dim)
	return s.own("unsqueeze", c, x)
}

func (s *Scope) Cat(dim int64, xs ...*Tensor) *Tensor {
	cs := make([]lib.Ctensor, len(xs))
	for i, x := range xs {
		cs[i] = x.c
	}
	var c lib.Ctensor
	lib.AtgCat(&c, cs, len(cs), dim)
	return s.own("cat", c, xs...)
}

// Zeros and Full.

func (s *Scope) Zeros(k Kind, shape ...int64) *Tensor {
	var c lib.Ctensor
	lib.AtgZeros(&c, shape, len(shape), int32(k), s.thread.device)
	return s.own("zeros", c)
}

// To converts the element type.
func (s *Scope) To(x *Tensor, k Kind) *Tensor {
	var c lib.Ctensor
	lib.AtgTotype(&c, x.c, int32(k))
	return s.own("to_kind", c, x)
}

// Detach is x without its history.
func (s *Scope) Detach(x *Tensor) *Tensor { return s.unary("detach", lib.AtgDetach, x) }

// Indexing.

// Embedding looks up rows of w [R, d] by int64 ids of any shape.
func (s *Scope) Embedding(w, ids *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgEmbedding(&c, w.c, ids.c, -1, 0, 0)
	return s.own("embedding", c, w, ids)
}

// IndexSelect takes entries along dim by an int64 vector.
func (s *Scope) IndexSelect(x *Tensor, dim int64, index *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgIndexSelect(&c, x.c, dim, index.c)
	return s.own("index_select", c, x, index)
}

// Gather takes one entry along dim per element of index.
func (s *Scope) Gather(x *Tensor, dim int64, index *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgGather(&c, x.c, dim, index.c, 0)
	return s.own("gather", c, x, index)
}

// Layers.

// LayerNorm over the last dimension.
func (s *Scope) LayerNorm(x, w, b *Tensor, eps float64) *Tensor {
	shape := w.Shape()
	var c lib.Ctensor
	lib.AtgLayerNorm(&c, x.c, shape, len(shape), w.c, b.c, eps, 1)
	return s.own("layer_norm", c, x, w, b)
}

func (s *Scope) Softmax(x *Tensor, dim int64) *Tensor {
	var c lib.Ctensor
	lib.AtgSoftmax(&c, x.c, dim, kindF32)
	return s.own("softmax", c, x)
}

func (s *Scope) LogSoftmax(x *Tensor, dim int64) *Tensor {
	var c lib.Ctensor
	lib.AtgLogSoftmax(&c, x.c, dim, kindF32)
	return s.own("log_softmax", c, x)
}

// NLLLoss is the mean of -logp[i, target[i]].
func (s *Scope) NLLLoss(logp, target *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgNllLoss(&c, logp.c, target.c, nil, 1, -100)
	return s.own("nll_loss", c, logp, target)
}

// Dropout zeroes elements with probability p and scales the rest by 1/(1-p).
func (s *Scope) Dropout(x *Tensor, p float64) *Tensor {
	if p == 0 {
		return x
	}
	var c lib.Ctensor
	lib.AtgDropout(&c, x.c, p, 1)
	return s.own("dropout", c, x)
}

// Attention is softmax(QKᵀ/sqrt(d) where mask, -inf elsewhere) V, for Q, K, V
// [B, H, L, d] and a bool mask that broadcasts to [B, H, L, L], with dropout on
// the probabilities.
func (s *Scope) Attention(q, k, v, mask *Tensor, dropout float64) *Tensor {
	var c lib.Ctensor
	lib.AtgScaledDotProductAttention(&c, q.c, k.c, v.c, mask.c, dropout, 0, 0, 1)
	return s.own("scaled_dot_product_attention", c, q, k, v, mask)
}

func flag(b bool) int32 {
	if b {
		return 1
	}
	return 0
}
