package tensor

import (
	"math"

	lib "github.com/sugarme/gotch/libtch"
)

// Matmul is the matrix product, batched over leading dimensions.
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

// LayerNorm over the last dimension.
func (s *Scope) LayerNorm(x, w, b *Tensor, eps float64) *Tensor {
	shape := w.Shape()
	var c lib.Ctensor
	lib.AtgLayerNorm(&c, x.c, shape, len(shape), w.c, b.c, eps, 1)
	return s.own("layer_norm", c, x, w, b)
}

// Softmax is float32 whatever x is, as is LogSoftmax.
func (s *Scope) Softmax(x *Tensor, dim int64) *Tensor {
	var c lib.Ctensor
	lib.AtgSoftmax(&c, x.c, dim, int32(Float32))
	return s.own("softmax", c, x)
}

func (s *Scope) LogSoftmax(x *Tensor, dim int64) *Tensor {
	var c lib.Ctensor
	lib.AtgLogSoftmax(&c, x.c, dim, int32(Float32))
	return s.own("log_softmax", c, x)
}

// Attention is softmax(QKᵀ/sqrt(d) where mask, -inf elsewhere) V, for Q [B, H, T, d],
// K and V [B, H, U, d] and a bool mask [T, U], with dropout on the probabilities.
func (s *Scope) Attention(q, k, v, mask *Tensor, dropout float64) *Tensor {
	if dropout == 0 { // libtorch's fused kernel knows only its own dropout
		var c lib.Ctensor
		lib.AtgScaledDotProductAttention(&c, q.c, k.c, v.c, mask.c, 0, 0, 0, 1)
		return s.own("scaled_dot_product_attention", c, q, k, v, mask)
	}
	shape, t, u, d := q.Shape(), q.Dim(2), k.Dim(2), q.Dim(3)
	bh := shape[0] * shape[1]
	flat := func(x *Tensor, n int64) *Tensor { return s.View(x, bh, n, d) }
	bias := s.MaskedFill(s.Zeros(q.Kind(), t, u), s.Not(mask), math.Inf(-1))
	kt := s.Transpose(flat(k, u), 1, 2)
	var c lib.Ctensor
	one, scale := lib.AtsFloat(1), lib.AtsFloat(1/math.Sqrt(float64(d)))
	lib.AtgBaddbmm(&c, bias.c, flat(q, t).c, kt.c, one, scale)
	lib.AtsFree(one)
	lib.AtsFree(scale)
	p := s.Softmax(s.own("attention", c, q, k, mask), 2)
	p = s.Dropout(s.To(p, q.Kind()), dropout)
	return s.View(s.Matmul(p, flat(v, u)), shape...)
}

// Conv1d convolves x [B, C, L] with w [D, C, K]; b may be nil.
func (s *Scope) Conv1d(x, w, b *Tensor, stride, padding int64) *Tensor {
	var c lib.Ctensor
	lib.AtgConv1d(&c, x.c, w.c, optional(b), []int64{stride}, 1, []int64{padding}, 1, []int64{1}, 1, 1)
	return s.own("conv1d", c, x, w)
}

func optional(t *Tensor) lib.Ctensor {
	if t == nil {
		return nil
	}
	return t.c
}
