package seqrec

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPopularityIsTheAddOneEstimate(t *testing.T) {
	p := NewPopularity()
	require.NoError(t, p.Resize(5))
	_, err := p.Learn(t.Context(), []Sequence{{Items: []int32{2, 2, 3}, From: 0}, {Items: []int32{4, 2}, From: 1}}, 0)
	require.NoError(t, err)
	s, err := p.Scores(t.Context(), [][]int32{{3}})
	require.NoError(t, err)
	require.InDeltaSlice(t, []float64{4. / 7, 2. / 7, 1. / 7}, probabilities(s[0])[2:], 1e-6)
}

// s(j) by hand for one history.
func TestTransitionsByHand(t *testing.T) {
	m := NewTransitions()
	require.NoError(t, m.Resize(5))
	// 2 -> 3 -> 4, then 2 -> 4.
	_, err := m.Learn(t.Context(), []Sequence{{Items: []int32{2, 3, 4}}, {Items: []int32{2, 4}}}, 0)
	require.NoError(t, err)
	s, err := m.Scores(t.Context(), [][]int32{{2}})
	require.NoError(t, err)
	// n(2,3) = 1, n(2,4) = 1/2 + 1; n(2) = n(4) = 2, n(3) = 1.
	a, b := 1/math.Sqrt(2*1), 1.5/math.Sqrt(2*2)
	pop := []float64{3. / 8, 2. / 8, 3. / 8}
	want := []float64{
		transitionMix * pop[0],
		(1-transitionMix)*a/(a+b) + transitionMix*pop[1],
		(1-transitionMix)*b/(a+b) + transitionMix*pop[2],
	}
	require.InDeltaSlice(t, want, probabilities(s[0])[2:], 1e-6)
}

func TestOnlyNewPositionsAreLearnt(t *testing.T) {
	whole, parts := NewTransitions(), NewTransitions()
	items := []int32{2, 3, 4, 2, 5, 3, 3, 4}
	require.NoError(t, whole.Resize(6))
	require.NoError(t, parts.Resize(6))
	_, err := whole.Learn(t.Context(), []Sequence{{Items: items}}, 0)
	require.NoError(t, err)
	for k := 1; k <= len(items); k++ {
		_, err := parts.Learn(t.Context(), []Sequence{{Items: items[:k], From: k - 1}}, 0)
		require.NoError(t, err)
	}
	require.Equal(t, whole.next, parts.next)
}

func TestReferencesAreDistributionsAndSurviveTheirState(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, m := range []Recommender{NewPopularity(), NewTransitions()} {
		require.NoError(t, m.Resize(12))
		_, err := m.Learn(t.Context(), randomBatch(r, 30, 12), 0)
		require.NoError(t, err)
		require.NoError(t, m.Resize(14)) // two rows that nobody has seen
		histories := [][]int32{{2}, {3, 4, 5, 6, 7, 8, 9}, {1, 13}, {}}
		before, err := m.Scores(t.Context(), histories)
		require.NoError(t, err)
		for _, s := range before {
			sum := 0.0
			for _, p := range probabilities(s) {
				sum += p
			}
			require.InDelta(t, 1, sum, 1e-5, m.Name())
			require.True(t, math.IsInf(float64(s[0]), -1) && math.IsInf(float64(s[1]), -1))
		}
		state, err := m.State()
		require.NoError(t, err)
		var again Recommender = NewPopularity()
		if m.Name() == "transitions" {
			again = NewTransitions()
		}
		require.NoError(t, again.Restore(state, 14))
		after, err := again.Scores(t.Context(), histories)
		require.NoError(t, err)
		for i := range before {
			require.InDeltaSlice(t, probabilities(before[i]), probabilities(after[i]), 1e-7)
		}
		require.Error(t, again.Restore(state, 99))
	}
}

func TestTransitionsKeepTheStrongest(t *testing.T) {
	m := NewTransitions()
	rows := int32(2*neighbours + 10)
	require.NoError(t, m.Resize(int(rows)))
	var batch []Sequence
	for j := int32(3); j < rows; j++ {
		batch = append(batch, Sequence{Items: []int32{2, j}})
		if j%2 == 0 {
			batch = append(batch, Sequence{Items: []int32{2, j}})
		}
	}
	_, err := m.Learn(t.Context(), batch, 0)
	require.NoError(t, err)
	require.LessOrEqual(t, len(m.next[2]), 2*neighbours)
	require.Contains(t, m.next[2], int32(4))
}

func probabilities(scores []float32) []float64 {
	out := make([]float64, len(scores))
	for i, v := range scores {
		out[i] = math.Exp(float64(v))
	}
	return out
}
