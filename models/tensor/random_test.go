package tensor

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDropoutDropsItsShareAndKeepsTheMean(t *testing.T) {
	const n = 1 << 20
	do(t, func(s *Scope) {
		s.Seed(1)
		for _, p := range []float64{1. / (1 << 16), 0.1, 0.5, 0.9, 65535. / 65536} {
			s.Sub(func(s *Scope) {
				y := s.Values(s.Dropout(s.Full(1, Float32, n), p))
				rounded := math.Round(p*(1<<16)) / (1 << 16)
				scale := float32(1 / (1 - rounded))
				dropped := 0
				for _, v := range y {
					if v == 0 {
						dropped++
					} else if v != scale {
						require.Equal(t, scale, v, "p %v", p)
					}
				}
				// Five standard deviations of the binomial.
				require.InDelta(t, rounded, float64(dropped)/n, 5*math.Sqrt(rounded*(1-rounded)/n), "p %v", p)
			})
		}
		require.PanicsWithValue(t, "BUG: dropout probability 1", func() { s.Dropout(s.Zeros(Float32, 1), 1) })
	})
}

// Lag 1 to 8 within and across the four elements of a draw: no pattern.
func TestDropoutElementsAreIndependent(t *testing.T) {
	const n = 1 << 20
	do(t, func(s *Scope) {
		s.Seed(2)
		y := s.Values(s.Dropout(s.Full(1, Float32, n), 0.5)) // 0 or 2: mean 1, variance 1
		for lag := 1; lag <= 8; lag++ {
			covariance := 0.0
			for i := range n - lag {
				covariance += float64(y[i]-1) * float64(y[i+lag]-1) / n
			}
			require.InDelta(t, 0, covariance, 5/math.Sqrt(n), "lag %d", lag)
		}
	})
}

func TestDropoutKeepsKindShapeAndGradient(t *testing.T) {
	do(t, func(s *Scope) {
		s.Seed(3)
		y := s.Dropout(s.Full(1, BFloat16, 3, 5), 0.5)
		require.Equal(t, BFloat16, y.Kind())
		require.Equal(t, []int64{3, 5}, y.Shape())
		x := s.Leaf(s.Full(1, Float32, 64))
		s.Grad(func() { y = s.Dropout(x, 0.25); s.Backward(s.Sum(y)) })
		require.Equal(t, s.Values(y), s.Values(s.Gradient(x)), "what was dropped has no gradient")
	})
}

func TestDrawsAreAFunctionOfTheSeed(t *testing.T) {
	draw := func(s *Scope) []float32 {
		u := s.Values(s.Uniform(5))
		u = append(u, s.Values(s.Dropout(s.Full(1, Float32, 7), 0.5))...)
		return append(u, s.Values(s.Uniform(6))...)
	}
	a, b := start(t), start(t)
	at := func(thread *Thread, seed uint64) (u []float32) {
		require.NoError(t, thread.Do(func(s *Scope) { s.Seed(seed); u = draw(s) }))
		return u
	}
	want := at(a, 7)
	require.Equal(t, want, at(a, 7))
	require.Equal(t, want, at(b, 7), "another thread's draws are its own")
	require.NotEqual(t, want, at(a, 8))
	// A scope within goes on where its parent is, and the parent where it ended.
	require.NoError(t, a.Do(func(s *Scope) {
		s.Seed(7)
		got := s.Values(s.Uniform(5))
		s.Sub(func(s *Scope) { got = append(got, s.Values(s.Dropout(s.Full(1, Float32, 7), 0.5))...) })
		require.Equal(t, want, append(got, s.Values(s.Uniform(6))...))
	}))
	require.NoError(t, a.Do(func(s *Scope) {
		require.PanicsWithValue(t, "BUG: Uniform before Seed: it could not be repeated", func() { s.Uniform(1) })
	}))
}

func TestUniformFillsItsIntervalEvenly(t *testing.T) {
	const n, bins = 1 << 16, 64
	do(t, func(s *Scope) {
		s.Seed(4)
		counts := make([]int, bins)
		for _, u := range s.Values(s.Uniform(n)) {
			counts[int(u*bins)]++ // panics outside [0, 1)
		}
		expected := make([]float64, bins)
		for i := range expected {
			expected[i] = n / bins
		}
		require.Less(t, chiSquare(counts, expected), limit(bins-1))
	})
}

func chiSquare(counts []int, expected []float64) (x float64) {
	for i, n := range counts {
		x += (float64(n) - expected[i]) * (float64(n) - expected[i]) / expected[i]
	}
	return x
}

// limit is what chi-square with k degrees of freedom exceeds once in 10^4, after
// Wilson and Hilferty. The draws are seeded: a test passes always or never.
func limit(k int) float64 {
	v := 2 / (9 * float64(k))
	return float64(k) * math.Pow(1-v+3.719*math.Sqrt(v), 3)
}
