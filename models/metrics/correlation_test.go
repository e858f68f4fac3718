package metrics

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSpearman(t *testing.T) {
	for _, c := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{1, 2, 3, 4}, []float64{-7, 0, .5, 900}, 1},
		{[]float64{1, 2, 3, 4}, []float64{4, 3, 2, 1}, -1},
		{[]float64{1, 2, 3, 4}, []float64{2, 1, 4, 3}, .6},      // 1 - 6*4/(4*15)
		{[]float64{1, 2, 2, 3}, []float64{1, 2, 3, 4}, .948683}, // scipy.stats.spearmanr
		{[]float64{5, 5, 5}, []float64{1, 2, 3}, 0},
		{nil, nil, 0},
	} {
		require.InDelta(t, c.want, Spearman(c.a, c.b), 1e-6)
		require.InDelta(t, c.want, Spearman(c.b, c.a), 1e-6)
	}
}
