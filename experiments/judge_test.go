package experiments

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/seqrec"
)

func TestMetricsByHand(t *testing.T) {
	c := Cases{
		Users: Numbers{0, 1, 2, 3}, Items: Numbers{2, 2, 2, 2},
		Rank: Numbers{1, 5.5, 11, 20}, Masked: Numbers{1, 2, 3, 4}, LogP: Numbers{-1, -2, -3, -6},
	}
	m := c.Means()
	for metric, want := range map[string]float64{
		"hit@1": 1. / 4, "hit@5": 1. / 4, "hit@10": 2. / 4, "hit@20": 1,
		"ndcg@5": 1. / 4, "ndcg@10": (1 + 1/math.Log2(6.5)) / 4,
		"mrr@10": (1 + 1/5.5) / 4, "mrr@20": (1 + 1/5.5 + 1./11 + 1./20) / 4,
		"masked_hit@5": 1, "masked_mrr@5": (1 + 1./2 + 1./3 + 1./4) / 4, "masked_ndcg@1": 1. / 4,
		"log_p": -3,
	} {
		require.InDelta(t, want, m[metric], 1e-12, metric)
	}
	require.Len(t, m, 25)
	_, err := c.Values("recall@10")
	require.ErrorContains(t, err, `no metric "recall@10"; there are hit@1, `)
}

func TestNumbersInAFile(t *testing.T) {
	for _, n := range []Numbers{{1, 2.5, -6.0251}, {}} {
		text, err := json.Marshal(n)
		require.NoError(t, err)
		var back Numbers
		require.NoError(t, json.Unmarshal(text, &back))
		require.Len(t, back, len(n))
		for i := range n {
			require.Equal(t, n[i], back[i])
		}
	}
	var n Numbers
	for _, bad := range []string{`"1 x"`, `"NaN"`, `"1 Inf"`, `7`, `[1]`} {
		require.Error(t, json.Unmarshal([]byte(bad), &n), bad)
	}
}

// fixed is a recommender with the same scores for everybody.
type fixed struct {
	seqrec.Recommender
	scores []float32
}

func (f fixed) Name() string { return "fixed" }

func (f fixed) Scores(_ context.Context, histories [][]int32) (out [][]float32, err error) {
	for range histories {
		out = append(out, slices.Clone(f.scores))
	}
	return out, nil
}

func TestTheColdViewExchangesTheTargetAlone(t *testing.T) {
	none := float32(math.Inf(-1))
	// Items 2, 3 and 4, and what 3 and 4 are by their vectors.
	model := fixed{scores: []float32{none, none, 1, 2, 0.5, 3, -1}}
	got, err := judgeCold(t.Context(), model, []testCase{{0, []int32{2}, 3}, {1, []int32{2, 3}, 4}}, 5, map[int32]int32{3: 5, 4: 6})
	require.NoError(t, err)
	require.InDelta(t, 3-math.Log(math.Exp(1)+math.Exp(3)+math.Exp(0.5)), got[0], 1e-4)
	require.InDelta(t, -1-math.Log(math.Exp(1)+math.Exp(2)+math.Exp(-1)), got[1], 1e-4)
}
