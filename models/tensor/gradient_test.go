package tensor

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Gradients of composed operations against central differences of <f(x), w> for a
// fixed w, by every element of every input.
func TestGradientsMatchFiniteDifferences(t *testing.T) {
	type in = []*Tensor
	for _, c := range []struct {
		name   string
		shapes [][]int64
		f      func(s *Scope, x in) *Tensor
	}{
		{"arithmetic", [][]int64{{2, 3}, {3}}, func(s *Scope, x in) *Tensor {
			return s.Div(s.Minus(s.Mul(x[0], x[1]), s.Neg(x[1])), s.AddScalar(s.Square(x[1]), 1))
		}},
		{"powers", [][]int64{{5}}, func(s *Scope, x in) *Tensor {
			positive := s.AddScalar(s.Square(x[0]), 0.5)
			return s.Add(s.Mul(s.Log(positive), s.Rsqrt(positive)), s.Mul(s.Sqrt(positive), positive))
		}},
		{"activations", [][]int64{{2, 4}}, func(s *Scope, x in) *Tensor {
			return s.Add(s.Gelu(x[0]), s.Mul(s.Silu(x[0]), s.MulScalar(x[0], 0.5)))
		}},
		{"choices", [][]int64{{6}, {6}}, func(s *Scope, x in) *Tensor {
			more := s.Greater(x[0], x[1])
			return s.Cat(0, s.MaskedFill(x[0], more, 7), s.Relu(x[1]), s.Clamp(x[0], -0.8, 0.8))
		}},
		{"a batched product", [][]int64{{2, 3, 4}, {2, 4, 2}}, func(s *Scope, x in) *Tensor { return s.Matmul(x[0], x[1]) }},
		{"linear", [][]int64{{2, 3, 4}, {5, 4}, {5}}, func(s *Scope, x in) *Tensor {
			return s.Linear(s.Silu(x[0]), x[1], x[2])
		}},
		{"layer norm", [][]int64{{3, 5}, {5}, {5}}, func(s *Scope, x in) *Tensor { return s.LayerNorm(x[0], x[1], x[2], 1e-5) }},
		{"softmax", [][]int64{{2, 5}}, func(s *Scope, x in) *Tensor {
			return s.Mul(s.Softmax(x[0], 1), s.LogSoftmax(x[0], 0))
		}},
		{"attention, fused", [][]int64{{2, 2, 3, 4}, {2, 2, 5, 4}, {2, 2, 5, 4}}, func(s *Scope, x in) *Tensor {
			return s.Attention(x[0], x[1], x[2], someMask(s), 0)
		}},
		{"attention with dropout", [][]int64{{2, 2, 3, 4}, {2, 2, 5, 4}, {2, 2, 5, 4}}, func(s *Scope, x in) *Tensor {
			s.Seed(5) // the same draw each time
			return s.Attention(x[0], x[1], x[2], someMask(s), 0.4)
		}},
		{"look-ups", [][]int64{{4, 3}}, func(s *Scope, x in) *Tensor {
			rows := s.Embedding(x[0], s.I64([]int64{3, 1, 3, 0}, 2, 2)) // a row twice
			some := s.IndexSelect(x[0], 1, s.I64([]int64{2, 2}, 2))
			one := s.Gather(x[0], 1, s.I64([]int64{0, 2, 1, 0}, 4, 1))
			return s.Cat(0, s.View(rows, -1), s.View(some, -1), s.View(one, -1))
		}},
		{"shapes", [][]int64{{2, 3, 4}}, func(s *Scope, x in) *Tensor {
			y := s.Contiguous(s.Permute(s.Narrow(x[0], 2, 1, 2), 2, 0, 1))
			y = s.Pad(s.Transpose(y, 0, 1), 1, 2)
			z := s.Expand(s.Unsqueeze(s.Select(x[0], 1, 2), 0), 3, -1, -1)
			return s.Cat(0, s.View(s.Mul(y, y), -1), s.View(z, -1))
		}},
		{"reductions", [][]int64{{3, 4}}, func(s *Scope, x in) *Tensor {
			most, _ := s.MaxDim(x[0], 1, true)
			top, _ := s.TopK(x[0], 2, 1)
			v := func(y *Tensor) *Tensor { return s.View(y, -1) }
			return s.Cat(0, v(s.Sum(s.Square(x[0]))), v(s.Mean(x[0])), v(s.SumDim(x[0], 0, false)), v(s.MeanDim(x[0], 1, true)),
				v(s.Norm(x[0])), v(most), v(top))
		}},
		{"convolutions", [][]int64{{2, 3, 8}, {2, 3, 3}, {2}}, func(s *Scope, x in) *Tensor {
			return s.Cat(0, s.View(s.Conv1d(x[0], x[1], x[2], 2, 1), -1), s.View(s.Conv1d(x[0], x[1], nil, 1, 0), -1))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			do(t, func(s *Scope) {
				inputs := make([][]float32, len(c.shapes))
				for i, shape := range c.shapes {
					inputs[i] = normal(uint64(i+1), int(elements(shape)))
				}
				tensors := func(s *Scope, as func(*Tensor) *Tensor) in {
					var x in
					for i, shape := range c.shapes {
						x = append(x, as(s.F32(inputs[i], shape...)))
					}
					return x
				}
				x := tensors(s, s.Leaf)
				var y *Tensor
				s.Grad(func() { y = c.f(s, x) })
				w := normal(99, y.Numel())
				s.BackwardFrom([]*Tensor{y}, []*Tensor{s.F32(w, y.Shape()...)})

				value := func() (sum float64) { // in float64 from f on
					s.Sub(func(s *Scope) {
						y := c.f(s, tensors(s, func(x *Tensor) *Tensor { return x }))
						for i, v := range s.Values(y) {
							sum += float64(v) * float64(w[i])
						}
					})
					return sum
				}
				const h = 1e-3
				for i := range inputs {
					got := s.Values(s.Gradient(x[i]))
					for j, was := range inputs[i] {
						inputs[i][j] = was + h
						up := value()
						inputs[i][j] = was - h
						down := value()
						inputs[i][j] = was
						require.InDelta(t, (up-down)/(2*h), got[j], 1e-2*(1+max(float64(got[j]), -float64(got[j]))), "input %d [%d]", i, j)
					}
				}
			})
		})
	}
}

// someMask lets each of 3 queries see some of 5 keys.
func someMask(s *Scope) *Tensor {
	return s.Bool([]bool{true, false, false, false, false, true, true, false, true, false, true, true, true, true, true}, 3, 5)
}

func TestGradientsAreOffUnlessAskedFor(t *testing.T) {
	do(t, func(s *Scope) {
		x := s.Leaf(s.F32([]float32{3}, 1))
		y := s.Square(x)
		require.ErrorContains(t, s.thread.failure(func() { s.Backward(s.Sum(y)) }), "does not require grad")
		require.Nil(t, s.Gradient(x), "no Backward reached it")
	})
}

func TestGradientsAddUpUntilTheyAreCleared(t *testing.T) {
	do(t, func(s *Scope) {
		x := s.Leaf(s.F32([]float32{3}, 1))
		for range 2 {
			s.Grad(func() { s.Backward(s.Sum(s.Square(x))) })
		}
		require.Equal(t, []float32{12}, s.Values(s.Gradient(x)))
		s.ZeroInPlace(s.Gradient(x))
		s.AddInPlace(s.Gradient(x), s.F32([]float32{1}, 1)) // it is the leaf's own
		s.Grad(func() { s.Backward(s.Sum(s.Square(x))) })
		require.Equal(t, []float32{7}, s.Values(s.Gradient(x)))
	})
}

// A closed-form gradient of several outputs is the one that a graph would give.
func TestBackwardFromIsBackwardThroughTheRest(t *testing.T) {
	do(t, func(s *Scope) {
		encode := func(x *Tensor) (a, b *Tensor) {
			s.Grad(func() { a, b = s.Silu(x), s.View(s.Exp(x), 3, 2) })
			return a, b
		}
		whole, parts := s.Leaf(s.F32(normal(1, 6), 2, 3)), s.Leaf(s.F32(normal(1, 6), 2, 3))
		a, b := encode(whole)
		s.Grad(func() { s.Backward(s.Add(s.Sum(s.Square(a)), s.Sum(s.Log(b)))) })
		a, b = encode(parts)
		s.BackwardFrom([]*Tensor{a, b}, []*Tensor{s.MulScalar(a, 2), s.Square(s.Rsqrt(b))})
		require.InDeltaSlice(t, s.Values(s.Gradient(whole)), s.Values(s.Gradient(parts)), 1e-6)
	})
}

func TestInPlaceOperationsAreTheirOthersWritten(t *testing.T) {
	do(t, func(s *Scope) {
		x, y := s.F32([]float32{1, 2, 3, 4}, 2, 2), s.F32([]float32{0, 1, 1, 2}, 2, 2)
		s.AddInPlace(s.Select(x, 0, 1), s.Select(y, 0, 0)) // through a view
		require.Equal(t, []float32{1, 2, 3, 5}, s.Values(x))
		s.MulScalarInPlace(x, 2)
		s.AddmmInPlace(x, y, y) // plus [1 2; 2 5]
		require.Equal(t, []float32{3, 6, 8, 15}, s.Values(x))
		s.ScatterAddInPlace(x, 1, s.I64([]int64{1, 0}, 2, 1), s.F32([]float32{-6, -8}, 2, 1))
		require.Equal(t, []float32{3, 0, 0, 15}, s.Values(x))
		s.LerpInPlace(x, y, 0.5)
		require.Equal(t, []float32{1.5, 0.5, 0.5, 8.5}, s.Values(x))
		s.CopyInPlace(x, y)
		s.ZeroInPlace(y)
		s.ExpInPlace(y)
		require.Equal(t, []float32{0, 1, 1, 2, 1, 1, 1, 1}, append(s.Values(x), s.Values(y)...))
	})
}
