package tensor

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAScopeFreesAllItMade(t *testing.T) {
	thread := start(t)
	for range 3 {
		require.NoError(t, thread.Do(func(s *Scope) {
			x := s.F32(normal(1, 6), 2, 3)
			for range 10 {
				x = s.Add(x, x)
			}
			require.EqualValues(t, 11, thread.Live())
			s.Sub(func(s *Scope) {
				s.Exp(s.Neg(x))
				require.EqualValues(t, 13, thread.Live())
			})
			require.EqualValues(t, 11, thread.Live(), "Sub frees at its end")
		}))
		require.Zero(t, thread.Live())
	}
}

// In a nested scope, with gradients on: the worst place to fail.
func TestAFailedOperationNamesItselfAndLeavesNothing(t *testing.T) {
	thread := start(t)
	err := thread.Do(func(s *Scope) {
		x := s.Leaf(s.F32(normal(1, 6), 2, 3))
		s.Sub(func(s *Scope) {
			s.Grad(func() { s.Matmul(s.Exp(x), s.I64([]int64{1, 2}, 2, 1)) })
		})
		require.Fail(t, "the failed operation must end the function")
	})
	var op *OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, "matmul", op.Op)
	require.Equal(t, []string{"f32 [2 3]", "i64 [2 1]"}, op.Operands)
	require.ErrorContains(t, err, "matmul(f32 [2 3], i64 [2 1]): ")
	require.NotContains(t, err.Error(), "Exception raised", "libtorch's stack is of no use to anyone")
	require.Zero(t, thread.Live())

	require.NoError(t, thread.Do(func(s *Scope) {
		x := s.Leaf(s.F32([]float32{1}, 1))
		require.Error(t, thread.failure(func() { s.Backward(s.Exp(x)) }), "gradients must be off again")
	}))
}

// failure is the *OpError that f panics with, on the thread.
func (t *Thread) failure(f func()) (err error) {
	defer func() {
		if e, ok := recover().(*OpError); ok {
			err = e
		}
	}()
	f()
	return nil
}

func TestWrongDataIsRefused(t *testing.T) {
	thread := start(t)
	for _, c := range []struct {
		name string
		f    func(s *Scope)
		want string
	}{
		{"values that do not fill a shape", func(s *Scope) { s.F32([]float32{1, 2, 3}, 2, 2) }, "F32([2 2]): 3 values do not fill the shape"},
		{"another kind", func(s *Scope) { s.Values(s.I64([]int64{1}, 1)) }, "Read(i64 [1]): it is read as 1 elements of f32"},
		{"another size", func(s *Scope) { s.Read(s.F32([]float32{1, 2}, 2), make([]float32, 3)) }, "Read(f32 [2]): it is read as 3 elements of f32"},
		{"no single value", func(s *Scope) { s.Value(s.F32([]float32{1, 2}, 2)) }, "Read(f32 [2]): it is read as 1 elements of f32"},
		{"backward without a graph", func(s *Scope) { s.Backward(s.F32([]float32{1})) }, "backward(f32 []): "},
	} {
		require.ErrorContains(t, thread.Do(c.f), c.want, c.name)
		require.Zero(t, thread.Live(), c.name)
	}
}

func TestWhatGoesInComesOut(t *testing.T) {
	do(t, func(s *Scope) {
		f := []float32{0, -1.5, float32(math.Inf(1)), math.MaxFloat32, math.SmallestNonzeroFloat32, 7}
		x := s.F32(f, 3, 2)
		require.Equal(t, f, s.Values(x))
		require.Equal(t, []int64{3, 2}, x.Shape())
		require.EqualValues(t, 2, x.Dim(-1))
		require.Equal(t, Float32, x.Kind())
		require.Equal(t, 6, x.Numel())

		i := []int64{math.MinInt64, 0, math.MaxInt64}
		require.Equal(t, i, s.Int64s(s.I64(i, 3)))
		b := []bool{true, false, true, true}
		require.Equal(t, b, s.Bools(s.Bool(b, 2, 2)))

		scalar := s.F32([]float32{4})
		require.Nil(t, scalar.Shape())
		require.Equal(t, 4.0, s.Value(scalar))
		empty := s.F32(nil, 0, 5)
		require.Equal(t, []int64{0, 5}, empty.Shape())
		require.Empty(t, s.Values(empty))
	})
}

// A view that is not contiguous is read in the order of its own indices.
func TestATransposedTensorIsReadTransposed(t *testing.T) {
	do(t, func(s *Scope) {
		x := s.Transpose(s.F32([]float32{1, 2, 3, 4, 5, 6}, 2, 3), 0, 1)
		require.Equal(t, []float32{1, 4, 2, 5, 3, 6}, s.Values(x))
	})
}

func TestAKeptTensorOutlivesItsScope(t *testing.T) {
	thread := start(t)
	var kept *Tensor
	require.NoError(t, thread.Do(func(s *Scope) {
		s.Sub(func(s *Scope) { kept = s.Keep(s.Exp(s.F32([]float32{0}, 1))) })
		require.Equal(t, 1.0, s.Value(kept))
	}))
	require.EqualValues(t, 1, thread.Live())
	require.NoError(t, thread.Do(func(s *Scope) {
		require.Equal(t, 1.0, s.Value(kept))
		require.PanicsWithValue(t, "BUG: keeping a tensor of another scope", func() { s.Keep(kept) })
		s.Free(kept)
		s.Free(kept)
		s.Free(nil)
		require.Zero(t, thread.Live())
	}))
}
