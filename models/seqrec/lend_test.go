package seqrec

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/snapshot"
	"seralm/models/tower"
)

// with returns a state in which a row has another vector, or one at all, and all else,
// the statistics among it, is as it was.
func with(t *testing.T, state map[string]snapshot.Tensor, row int32, vector []float32) map[string]snapshot.Tensor {
	t.Helper()
	known, vectors := slices.Clone(state[knowledgeRows].Data), slices.Clone(state[knowledgeVectors].Data)
	before := 0
	for _, yes := range known[:row] {
		before += int(yes)
	}
	at := before * tinyKnowledge
	if known[row] == 0 {
		vectors = slices.Insert(vectors, at, vector...)
		known[row] = 1
	} else {
		copy(vectors[at:], vector)
	}
	out := map[string]snapshot.Tensor{}
	for name, x := range state {
		out[name] = x
	}
	out[knowledgeRows] = snapshot.Tensor{Shape: state[knowledgeRows].Shape, Data: known}
	out[knowledgeVectors] = snapshot.Tensor{Shape: []int64{int64(len(vectors) / tinyKnowledge), tinyKnowledge}, Data: vectors}
	return out
}

// A step with lent vectors is that of a model which has them as its own, for an item that
// has another vector (5) and for one that has none (4); and then it has its own again.
func TestAStepWithLentVectorsIsThatOfAModelThatHasThem(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		o := Options{Seed: 5, IDDropout: 0.4, Dropout: 0.2}
		m := withKnowledge(t, h, o)
		state := stir(t, m)
		lent := vectorsOf(rand.New(rand.NewPCG(8, 8)), 2)
		batch := randomBatch(rand.New(rand.NewPCG(2, 2)), 5, 12)

		var loss Loss
		require.NoError(t, m.Lend([]int32{5, 4}, lent, func() (err error) {
			loss, err = m.Learn(t.Context(), batch, 3)
			return err
		}))
		got, err := m.FullState()
		require.NoError(t, err)
		require.NotEqual(t, state[itemTable], got[itemTable], "it has learnt")

		o.Knowledge = tinyKnowledge
		owner := newTiny(t, h, o)
		require.NoError(t, owner.RestoreFull(with(t, with(t, state, 5, lent[0]), 4, lent[1]), 12))
		want, err := owner.Learn(t.Context(), batch, 3)
		require.NoError(t, err)
		require.Equal(t, want, loss)
		theirs, err := owner.FullState()
		require.NoError(t, err)
		for _, p := range m.shapes() {
			require.Equal(t, theirs[p.name], got[p.name], p.name)
		}

		for _, name := range []string{knowledgeRows, knowledgeVectors, tower.Mean, tower.Scale} {
			require.Equal(t, state[name], got[name], name)
		}
		// The next step is that of a model that was restored, whose rows are made anew.
		again := newTiny(t, h, o)
		require.NoError(t, again.RestoreFull(got, 12))
		want, err = again.Learn(t.Context(), batch, 4)
		require.NoError(t, err)
		loss, err = m.Learn(t.Context(), batch, 4)
		require.NoError(t, err)
		require.Equal(t, want, loss)
	})
}

func TestLentVectorsAreTakenBackWhateverHappens(t *testing.T) {
	m := withKnowledge(t, tiny, Options{Seed: 5})
	before, err := m.FullState()
	require.NoError(t, err)
	v := vectorsOf(rand.New(rand.NewPCG(8, 8)), 2)
	broken := errors.New("broken")
	require.Equal(t, broken, m.Lend([]int32{5, 4}, v, func() error {
		require.Equal(t, v[0], m.Knowledge(5))
		return broken
	}))
	never := func() error { require.Fail(t, "nothing was lent"); return nil }
	require.ErrorContains(t, m.Lend([]int32{5, 5}, v, never), "row 5 is lent two")
	require.ErrorContains(t, m.Lend([]int32{12}, v[:1], never), "row 12, which is no item")
	require.ErrorContains(t, m.Lend([]int32{5}, [][]float32{v[0][:3]}, never), "of 3 numbers")
	require.ErrorContains(t, newTiny(t, tiny, Options{}).Lend([]int32{5}, v[:1], never), "knowledge_dim")
	require.Nil(t, m.Knowledge(4))
	after, err := m.FullState()
	require.NoError(t, err)
	require.Equal(t, before, after)
}
