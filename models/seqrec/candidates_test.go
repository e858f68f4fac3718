package seqrec

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

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
	g := newGroup(2, 3)
	g.put(0, []int32{5, 1, 9})
	g.put(1, []int32{7})
	g.want(0, 0)
	g.want(0, 2)
	g.want(1, 0)
	groups, targets := []*group{g}, []int64{7, 30, 1}
	table, hidden := normal(items*d), normal(len(targets)*d)

	thread, err := tensor.Start(tensor.Options{Threads: 1})
	require.NoError(t, err)
	defer thread.Close()
	type result struct {
		nll, rho      float64
		items, hidden []float32
	}
	ask := func(negatives int, seed uint64) (out result) {
		require.NoError(t, thread.Do(func(s *tensor.Scope) {
			q := question{items: s.F32(table, items, d), hidden: s.F32(hidden, int64(len(targets)), d), targets: targets, seen: histories(groups), rho: 0.7}
			if negatives == 0 {
				a := crossEntropy(s, q)
				out = result{a.nll, a.rho, s.Values(a.items), s.Values(a.hidden)}
				return
			}
			c := sample(groups, targets, items, negatives, seed)
			rows := s.I64(c.rows, int64(len(c.rows)))
			a := crossEntropy(s, c.ask(s, q, rows))
			all := s.Zeros(tensor.Float32, items, d)
			s.IndexAddInPlace(all, 0, rows, a.items)
			out = result{a.nll, a.rho, s.Values(all), s.Values(a.hidden)}
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
	require.Equal(t, []int64{3, 7, 11}, a.rows[:a.named], "what the batch names comes first")
	require.EqualValues(t, 20, a.weight)
	slices.Sort(a.rows)
	require.Len(t, slices.Compact(a.rows), len(b.rows), "no item twice")

	// Each of the others is drawn as often as any.
	counts := make([]int, 40)
	for seed := range uint64(4000) {
		for _, row := range sample([]*group{g}, []int64{11}, 40, 10, seed).rows {
			counts[row]++
		}
	}
	for row, n := range counts {
		switch row {
		case 3, 7, 11:
			require.Equal(t, 4000, n)
		default:
			require.InDelta(t, 1000, n, 5*math.Sqrt(750), "row %d", row)
		}
	}
}
