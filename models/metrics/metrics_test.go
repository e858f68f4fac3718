package metrics

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

var inf, nan = float32(math.Inf(-1)), float32(math.NaN())

func TestRank(t *testing.T) {
	for name, c := range map[string]struct {
		scores []float32
		target int32
		masked []int32
		want   float64
	}{
		"best":                                   {[]float32{inf, inf, 3, 2, 1}, 2, nil, 1},
		"worst":                                  {[]float32{inf, inf, 3, 2, 1}, 4, nil, 3},
		"one tie counts half":                    {[]float32{inf, inf, 3, 3, 1}, 3, nil, 1.5},
		"all alike is the middle":                {[]float32{inf, inf, 0, 0, 0, 0, 0}, 3, nil, 3},
		"masking a better one":                   {[]float32{inf, inf, 3, 2, 1}, 4, []int32{2}, 2},
		"masking it twice":                       {[]float32{inf, inf, 3, 2, 1}, 4, []int32{2, 2}, 2},
		"masking a worse one":                    {[]float32{inf, inf, 3, 2, 1}, 2, []int32{4}, 1},
		"masking a tie":                          {[]float32{inf, inf, 3, 3, 1}, 3, []int32{2}, 1},
		"the target is never masked":             {[]float32{inf, inf, 3, 2, 1}, 3, []int32{3, 2}, 1},
		"reserved and foreign rows in a history": {[]float32{inf, inf, 3, 2, 1}, 3, []int32{0, 1, 99}, 2},
		"no score is behind every score":         {[]float32{inf, inf, 3, 2, inf}, 4, nil, 3},
		"no number is behind every number":       {[]float32{inf, inf, 3, 2, nan}, 4, []int32{2}, 2},
		"no number never competes":               {[]float32{inf, inf, nan, 2, 1}, 4, nil, 2},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, Rank(c.scores, c.target, c.masked)) })
	}
}

// The mean rank over random orders of ties is what Rank states at once.
func TestRankIsTheExpectedRankUnderRandomTieBreaks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		n := 3 + r.IntN(8)
		scores := make([]float32, n)
		for i := range scores {
			scores[i] = float32(r.IntN(3))
		}
		target := int32(r.IntN(n))
		const draws = 4000
		sum := 0.0
		for range draws {
			rank := 1
			for i, v := range scores {
				if v > scores[target] || v == scores[target] && int32(i) != target && r.IntN(2) == 0 {
					rank++
				}
			}
			sum += float64(rank)
		}
		require.InDelta(t, Rank(scores, target, nil), sum/draws, 0.1)
	}
}

func TestGainsAtCutOffs(t *testing.T) {
	require.Equal(t, 1.0, Hit(10, 10))
	require.Equal(t, 0.0, Hit(10.5, 10))
	require.Equal(t, 0.0, Hit(0, 10))
	require.Equal(t, 1.0, NDCG(1, 10))
	require.InDelta(t, 1/math.Log2(4), NDCG(3, 10), 1e-15)
	require.Equal(t, 0.0, NDCG(11, 10))
	require.Equal(t, 0.25, MRR(4, 10))
	require.Equal(t, 0.0, MRR(11, 10))
	require.Equal(t, 0.01, MRR(100, 0))
}

func TestLogSoftmaxSumsToOneAndSurvivesLargeScores(t *testing.T) {
	scores := []float32{inf, inf, 1000, 1001, 999, -1000}
	sum := 0.0
	for i := range scores {
		sum += math.Exp(LogSoftmaxAt(scores, int32(i)))
	}
	require.InDelta(t, 1, sum, 1e-12)
	require.InDelta(t, -math.Log(1+math.Exp(-1)+math.Exp(-2)), LogSoftmaxAt(scores, 3), 1e-12)
}

// 95 % intervals must hold the true mean about 95 times in 100.
func TestBootstrapCovers(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	held := 0
	const trials = 300
	for i := range trials {
		values := make([]float64, 80)
		for j := range values {
			values[j] = 0.3 + r.NormFloat64()
		}
		b := Bootstrap(values, 500, uint64(i))
		if b.Low <= 0.3 && 0.3 <= b.High {
			held++
		}
	}
	require.InDelta(t, 0.94, float64(held)/trials, 0.04)
}
