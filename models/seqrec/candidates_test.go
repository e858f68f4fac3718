package seqrec

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/snapshot"
	"seralm/models/tensor"
	"seralm/models/vocab"
)

// Gradients of a softmax over drawn items, on average over many draws, against the full
// one: the more are drawn, the nearer, and the same when all are.
func TestASampledSoftmaxBecomesTheFullOne(t *testing.T) {
	const items, d, draws = 40, 3, 3000
	r := rand.New(rand.NewPCG(1, 2))
	normal := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = float32(r.NormFloat64())
		}
		return out
	}
	batch := func() ([]*group, []int64) {
		g := newGroup(2, 3)
		g.put(0, []int32{5, 1, 9})
		g.put(1, []int32{7})
		g.want(0, 0)
		g.want(0, 2)
		g.want(1, 0)
		return []*group{g}, []int64{7, 30, 1}
	}
	const rows = vocab.FirstItem + items
	table := append(make([]float32, vocab.FirstItem*d), normal(items*d)...)
	hidden := normal(3 * d)

	thread, err := tensor.Start(tensor.Options{Threads: 1})
	require.NoError(t, err)
	defer thread.Close()
	type result struct {
		nll, rho      float64
		items, hidden []float32
	}
	ask := func(negatives int, seed uint64) (out result) {
		require.NoError(t, thread.Do(func(s *tensor.Scope) {
			groups, targets := batch()
			all := s.F32(table, rows, d)
			if negatives == 0 {
				a := crossEntropy(s, question{items: realItems(s, all), hidden: s.F32(hidden, 3, d), targets: targets, seen: histories(groups), rho: 0.7})
				out = result{a.nll, a.rho, s.Values(a.items), s.Values(a.hidden)}
				return
			}
			c := sample(groups, targets, items, negatives, seed)
			c.rename(groups, targets)
			named := s.I64(c.rows, int64(len(c.rows)))
			a := crossEntropy(s, question{
				items: realItems(s, s.IndexSelect(all, 0, named)), hidden: s.F32(hidden, 3, d), targets: targets,
				logWeights: c.logWeights(s), seen: histories(groups), rho: 0.7,
			})
			gradient := make([]float32, rows*d)
			for i, v := range s.Values(a.items) {
				gradient[int(c.rows[vocab.FirstItem+i/d])*d+i%d] += v
			}
			out = result{a.nll, a.rho, gradient[vocab.FirstItem*d:], s.Values(a.hidden)}
		}))
		return out
	}
	want := ask(0, 0)
	all := ask(items, 1)
	require.InDelta(t, want.nll, all.nll, 1e-6)
	require.InDelta(t, want.rho, all.rho, 1e-6)
	require.InDeltaSlice(t, want.items, all.items, 1e-6)
	require.InDeltaSlice(t, want.hidden, all.hidden, 1e-6)

	off := func(negatives int) float64 {
		mean := make([]float64, items*d)
		for seed := range uint64(draws) {
			for i, v := range ask(negatives, seed).items {
				mean[i] += float64(v) / draws
			}
		}
		square := 0.0
		for i, v := range mean {
			square += (v - float64(want.items[i])) * (v - float64(want.items[i]))
		}
		return math.Sqrt(square)
	}
	few, more, most := off(3), off(12), off(30)
	require.Greater(t, few, 2*more)
	require.Greater(t, more, 1.5*most)
	require.Less(t, most, 0.01)
}

func TestTheCandidatesOfAStepAreAFunctionOfItsSeed(t *testing.T) {
	g := newGroup(1, 3)
	g.put(0, []int32{5, vocab.Unknown, 9})
	a, b := sample([]*group{g}, []int64{11}, 1000, 50, 1), sample([]*group{g}, []int64{11}, 1000, 50, 1)
	require.Equal(t, a, b)
	require.Equal(t, []int64{vocab.Padding, vocab.Unknown, 5, 9, 13}, a.rows[:a.named], "what the batch names comes first")
	require.EqualValues(t, 20, a.weight)
	slices.Sort(a.rows)
	require.Len(t, slices.Compact(a.rows), len(b.rows), "no item twice")

	// Each of the others is drawn as often as any.
	counts := make([]int, vocab.FirstItem+40)
	for seed := range uint64(4000) {
		for _, row := range sample([]*group{g}, []int64{11}, 40, 10, seed).rows {
			counts[row]++
		}
	}
	for row, n := range counts {
		switch row {
		case vocab.Padding, vocab.Unknown, 5, 9, 13:
			require.Equal(t, 4000, n)
		default:
			require.InDelta(t, 1000, n, 5*math.Sqrt(750), "row %d", row)
		}
	}
}

// With all items drawn, a step is that of the full softmax: what histories and candidates
// do to the rows comes together in the rows that a step works with, and goes on to the table
// and the tower.
func TestAStepOverSomeRowsIsTheStepOverAll(t *testing.T) {
	for _, knowledge := range []int{0, 3} {
		learnt := func(negatives int) map[string]snapshot.Tensor {
			m, err := New(Hyper{Name: "sasrec", Dim: 8, Layers: 1, Heads: 2, Inner: 8, MaxLen: 5}, 30,
				Options{Seed: 1, LearningRate: 1e-2, Threads: 1, Knowledge: knowledge, Negatives: negatives, HistoryBias: true})
			require.NoError(t, err)
			defer m.Close()
			if knowledge > 0 {
				require.NoError(t, m.SetKnowledge([]int32{4, 9, 20}, [][]float32{{1, 2, 3}, {-1, 0, 1}, {2, -2, 1}}))
			}
			for step := range uint64(3) {
				_, err := m.Learn(t.Context(), []Sequence{{Items: []int32{4, 9, vocab.Unknown, 25}}, {Items: []int32{20, 7}}, {Items: []int32{9, 9, 4, 28, 3, 11}}}, step+1)
				require.NoError(t, err)
			}
			state, err := m.FullState()
			require.NoError(t, err)
			return state
		}
		want, got := learnt(0), learnt(30)
		require.Len(t, got, len(want))
		for name := range want {
			require.InDeltaSlice(t, want[name].Data, got[name].Data, 1e-5, "%s, knowledge %d", name, knowledge)
		}
	}
}
