package tensor

import (
	lib "github.com/sugarme/gotch/libtch"
)

// unary, binary and scalar are the forms that most operations have: with them a
// new one is a line.

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

func flag(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// Elementwise operations; shapes broadcast as in PyTorch.

func (s *Scope) Add(x, y *Tensor) *Tensor   { return s.binary("add", lib.AtgAdd, x, y) }
func (s *Scope) Minus(x, y *Tensor) *Tensor { return s.binary("sub", lib.AtgSub, x, y) }
func (s *Scope) Mul(x, y *Tensor) *Tensor   { return s.binary("mul", lib.AtgMul, x, y) }
func (s *Scope) Div(x, y *Tensor) *Tensor   { return s.binary("div", lib.AtgDiv, x, y) }

func (s *Scope) AddScalar(x *Tensor, v float64) *Tensor {
	return s.scalar("add_scalar", lib.AtgAddScalar, x, v)
}
func (s *Scope) MulScalar(x *Tensor, v float64) *Tensor {
	return s.scalar("mul_scalar", lib.AtgMulScalar, x, v)
}
func (s *Scope) Neg(x *Tensor) *Tensor    { return s.unary("neg", lib.AtgNeg, x) }
func (s *Scope) Exp(x *Tensor) *Tensor    { return s.unary("exp", lib.AtgExp, x) }
func (s *Scope) Log(x *Tensor) *Tensor    { return s.unary("log", lib.AtgLog, x) }
func (s *Scope) Sqrt(x *Tensor) *Tensor   { return s.unary("sqrt", lib.AtgSqrt, x) }
func (s *Scope) Rsqrt(x *Tensor) *Tensor  { return s.unary("rsqrt", lib.AtgRsqrt, x) }
func (s *Scope) Square(x *Tensor) *Tensor { return s.unary("square", lib.AtgSquare, x) }
func (s *Scope) Relu(x *Tensor) *Tensor   { return s.unary("relu", lib.AtgRelu, x) }
func (s *Scope) Silu(x *Tensor) *Tensor   { return s.unary("silu", lib.AtgSilu, x) }

// Gelu is the exact one, x * Phi(x).
func (s *Scope) Gelu(x *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgGelu(&c, x.c, "none")
	return s.own("gelu", c, x)
}

// Clamp bounds the elements.
func (s *Scope) Clamp(x *Tensor, low, high float64) *Tensor {
	var c lib.Ctensor
	l, h := lib.AtsFloat(low), lib.AtsFloat(high)
	lib.AtgClamp(&c, x.c, l, h)
	lib.AtsFree(l)
	lib.AtsFree(h)
	return s.own("clamp", c, x)
}

// Comparisons; the result is bool.

func (s *Scope) Greater(x, y *Tensor) *Tensor { return s.binary("gt", lib.AtgGtTensor, x, y) }
func (s *Scope) Not(x *Tensor) *Tensor        { return s.unary("logical_not", lib.AtgLogicalNot, x) }

// MaskedFill replaces the elements where the bool mask is true.
func (s *Scope) MaskedFill(x, mask *Tensor, v float64) *Tensor {
	var c lib.Ctensor
	k := lib.AtsFloat(v)
	lib.AtgMaskedFill(&c, x.c, mask.c, k)
	lib.AtsFree(k)
	return s.own("masked_fill", c, x, mask)
}

// Reductions. Sums and means are float32 whatever they are taken of.

func (s *Scope) Sum(x *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgSum(&c, x.c, int32(Float32))
	return s.own("sum", c, x)
}

func (s *Scope) Mean(x *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgMean(&c, x.c, int32(Float32))
	return s.own("mean", c, x)
}

func (s *Scope) SumDim(x *Tensor, dim int64, keep bool) *Tensor {
	var c lib.Ctensor
	lib.AtgSumDimIntlist(&c, x.c, []int64{dim}, 1, flag(keep), int32(Float32))
	return s.own("sum_dim", c, x)
}

func (s *Scope) MeanDim(x *Tensor, dim int64, keep bool) *Tensor {
	var c lib.Ctensor
	lib.AtgMeanDim(&c, x.c, []int64{dim}, 1, flag(keep), int32(Float32))
	return s.own("mean_dim", c, x)
}

// MaxDim is the largest value along dim, and where it is.
func (s *Scope) MaxDim(x *Tensor, dim int64, keep bool) (values, indices *Tensor) {
	var c [2]lib.Ctensor
	lib.AtgMaxDim(&c[0], x.c, dim, flag(keep))
	return s.own("max_dim", c[0], x), s.own("max_dim", c[1], x)
}

// TopK is the k largest values along dim, largest first, and where they are.
func (s *Scope) TopK(x *Tensor, k, dim int64) (values, indices *Tensor) {
	var c [2]lib.Ctensor
	lib.AtgTopk(&c[0], x.c, k, dim, 1, 1)
	return s.own("topk", c[0], x), s.own("topk", c[1], x)
}

// Norm is the Euclidean norm of all elements.
func (s *Scope) Norm(x *Tensor) *Tensor { return s.unary("norm", lib.AtgNorm, x) }

// In-place operations change their first operand, and what shares its memory.
// They are for numbers that autograd does not follow.

func (s *Scope) AddInPlace(x, y *Tensor) { s.binary("add_", lib.AtgAdd_, x, y) }
func (s *Scope) ExpInPlace(x *Tensor)    { s.unary("exp_", lib.AtgExp_, x) }
func (s *Scope) ZeroInPlace(x *Tensor)   { s.unary("zero_", lib.AtgZero_, x) }
func (s *Scope) MulScalarInPlace(x *Tensor, v float64) {
	s.scalar("mul_scalar_", lib.AtgMulScalar_, x, v)
}

// LerpInPlace moves x towards y: x += w (y - x).
func (s *Scope) LerpInPlace(x, y *Tensor, w float64) {
	var c lib.Ctensor
	k := lib.AtsFloat(w)
	lib.AtgLerp_(&c, x.c, y.c, k)
	lib.AtsFree(k)
	s.own("lerp_", c, x, y)
}

// AddmmInPlace is x += a b for matrices.
func (s *Scope) AddmmInPlace(x, a, b *Tensor) {
	var c lib.Ctensor
	lib.AtgAddmm_(&c, x.c, a.c, b.c)
	s.own("addmm_", c, x, a, b)
}

// ScatterAddInPlace adds each element of y to the element of x that index names
// along dim.
func (s *Scope) ScatterAddInPlace(x *Tensor, dim int64, index, y *Tensor) {
	var c lib.Ctensor
	lib.AtgScatterAdd_(&c, x.c, dim, index.c, y.c)
	s.own("scatter_add_", c, x, index, y)
}

// CopyInPlace overwrites x.
func (s *Scope) CopyInPlace(x, y *Tensor) {
	lib.AtCopy_(x.c, y.c)
	check("copy_", x, y)
}
