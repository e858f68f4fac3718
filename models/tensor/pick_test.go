package tensor

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A class is picked when the share of the weights before it is at most u, and u
// below the share with it.
func TestPickInvertsTheCumulatedWeights(t *testing.T) {
	do(t, func(s *Scope) {
		row := []float32{0, 1, 0, 2, 1, 0} // shares 0, 1/4, 0, 1/2, 1/4, 0
		for u, want := range map[float32]int64{0: 1, 0.2499: 1, 0.25: 3, 0.7499: 3, 0.75: 4, 1 - 1./(1<<24): 4} {
			require.Equal(t, []int64{3, want}, s.Int64s(s.Pick(s.F32(append([]float32{0, 0, 0, 9, 0, 0}, row...), 2, 6), []float32{0.5, u})), "u %v", u)
		}
		require.PanicsWithError(t, "pick(f32 [1 6]): 2 random numbers for its rows", func() { s.Pick(s.F32(row, 1, 6), []float32{0, 0}) })
	})
}

func TestSortDescendingSaysWhereTheyWere(t *testing.T) {
	do(t, func(s *Scope) {
		values, at := s.SortDescending(s.F32([]float32{1, 3, 2, -1}, 1, 4), 1)
		require.Equal(t, []float32{3, 2, 1, -1}, s.Values(values))
		require.Equal(t, []int64{1, 2, 0, 3}, s.Int64s(at))
	})
}

func TestOnlyTheResultOutlivesItsScope(t *testing.T) {
	thread := start(t)
	require.NoError(t, thread.Do(func(s *Scope) {
		before := thread.Live()
		y := s.Only(func(s *Scope) *Tensor { return s.Exp(s.Zeros(Float32, 3)) })
		require.Equal(t, before+1, thread.Live())
		require.Equal(t, []float32{1, 1, 1}, s.Values(y))
		require.Panics(t, func() {
			s.Only(func(s *Scope) *Tensor { return s.Matmul(s.Zeros(Float32, 2, 3), s.Zeros(Float32, 2, 3)) })
		})
		require.Equal(t, before+1, thread.Live())
	}))
}
