package generator

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/models/vocab"
)

const testDim, testKnowledge, testMaxLen, testBias = 5, 3, 4, -0.7

// weighted is a recommender whose user vector is a sum of the history's rows, the newest
// of which count most.
type weighted struct {
	table []float32
	extra int
	calls int // histories encoded
}

func (w *weighted) Users(_ context.Context, histories [][]int32, extra [][]float32) ([][]float32, error) {
	if len(extra) > w.extra {
		return nil, fmt.Errorf("%d rows", len(extra))
	}
	w.calls += len(histories)
	table := slices.Concat(w.table, slices.Concat(extra...))
	out := make([][]float32, len(histories))
	for i, h := range histories {
		h = h[max(0, len(h)-testMaxLen):]
		out[i] = make([]float32, testDim)
		for t, r := range h {
			for d := range testDim {
				out[i][d] += table[int(r)*testDim+d] / float32(len(h)-t)
			}
		}
	}
	return out, nil
}

func (w *weighted) Close() {}

// judged is a judge of so many items with random rows, and recent instances.
func judged(t *testing.T, items, instances int) (*judge, *recent, *vocab.Vocabulary, *weighted) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(items), 2))
	values := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = float32(r.NormFloat64()) / 2
		}
		return out
	}
	snap := &snapshot.Snapshot{Tensors: map[string]snapshot.Tensor{
		itemTable:    {Shape: []int64{int64(vocab.FirstItem + items), testDim}, Data: values((vocab.FirstItem + items) * testDim)},
		tower.Weight: {Shape: []int64{testDim, testKnowledge}, Data: values(testDim * testKnowledge)},
		tower.Mean:   {Shape: []int64{testKnowledge}, Data: values(testKnowledge)},
		tower.Scale:  {Shape: []int64{1}, Data: []float32{2}},
		historyBias:  {Shape: []int64{1}, Data: []float32{testBias}},
	}}
	snap.Architecture.Rows, snap.Architecture.Dim, snap.Architecture.MaxLen = vocab.FirstItem+items, testDim, testMaxLen
	for i := range items {
		snap.IDs = append(snap.IDs, fmt.Sprint("i", i))
	}
	var users *weighted
	j, err := newJudge(snap, 4, func(s *snapshot.Snapshot, extra int) (Users, error) {
		users = &weighted{table: s.Tensors[itemTable].Data, extra: extra}
		return users, nil
	})
	require.NoError(t, err)
	// The sampler's own rows are others than the snapshot's, and it knows an item more.
	own := vocab.New(1)
	for i := range items {
		own.Observe(fmt.Sprint("i", items-1-i))
	}
	own.Observe("new")
	recent := newRecent(instances)
	for range instances + 7 { // the first ones are forgotten
		var in Instance
		for range 1 + r.IntN(6) { // up to two more than the model sees
			in.x = append(in.x, int32(vocab.FirstItem+r.IntN(items+1)))
		}
		in.y = int32(vocab.FirstItem + r.IntN(items+1))
		recent.add(in)
	}
	return j, recent, own, users
}

// objective is the sum of log p(y|x) over the instances, all computed anew, with the
// item's row replaced wherever it is.
func objective(t *testing.T, j *judge, recent *recent, own *vocab.Vocabulary, item int32, row []float32) (sum float64) {
	t.Helper()
	table := slices.Clone(j.table)
	copy(table[int(item)*testDim:], row)
	model := &weighted{table: table}
	for _, in := range recent.ring {
		x, y, ok := j.see(in.Instance, own)
		if !ok {
			continue // an item that the snapshot does not know
		}
		users, err := model.Users(t.Context(), [][]int32{x}, nil)
		require.NoError(t, err)
		x = x[max(0, len(x)-testMaxLen):]
		score := func(r int) float64 {
			z := dot(users[0], table[r*testDim:(r+1)*testDim])
			if slices.Contains(x, int32(r)) {
				z += testBias
			}
			return z
		}
		z := 0.0
		for r := vocab.FirstItem; r < j.rows; r++ {
			z += math.Exp(score(r))
		}
		sum += score(int(y)) - math.Log(z)
	}
	return sum
}

func texts(n int) (vectors [][]float32) {
	r := rand.New(rand.NewPCG(9, 9))
	for range n {
		v := make([]float32, testKnowledge)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		vectors = append(vectors, v)
	}
	return vectors
}

// The catalogue reward is what the whole objective changes by, instances with the item in
// their history among them.
func TestACatalogueRewardIsTheChangeOfTheWholeObjective(t *testing.T) {
	j, recent, own, users := judged(t, 30, 60)
	rows, err := j.cold(texts(4))
	require.NoError(t, err)
	worst, both := 0.0, 0
	for item := int32(vocab.FirstItem); int(item) < j.rows; item++ {
		known, err := recent.encode(t.Context(), j, own)
		require.NoError(t, err)
		with := 0
		for _, k := range known {
			if slices.Contains(k.x, item) {
				with++
			}
		}
		require.LessOrEqual(t, with, reencoded, "none of them is left to chance here")
		both += with
		before := users.calls
		rewards, err := j.catalogue(t.Context(), recent, own, item, rows)
		require.NoError(t, err)
		require.Equal(t, with*len(rows), users.calls-before, "no other forward pass")
		was := objective(t, j, recent, own, item, j.row(item))
		for i, row := range rows {
			want := objective(t, j, recent, own, item, row) - was
			worst = max(worst, math.Abs(want-rewards[i]))
			require.InDelta(t, want, rewards[i], 1e-4, "item row %d, text %d", item, i)
		}
	}
	require.Greater(t, both, 60)
	t.Logf("off by at most %.2g nats", worst)
}

// Of many instances with the item in their history a sample stands for all: on average
// over items what it stands for.
func TestASampleOfHistoriesStandsForAll(t *testing.T) {
	j, recent, own, users := judged(t, 4, 20*reencoded)
	rows, err := j.cold(texts(4))
	require.NoError(t, err)
	for item := int32(vocab.FirstItem); int(item) < j.rows; item++ {
		_, err := recent.encode(t.Context(), j, own)
		require.NoError(t, err)
		before := users.calls
		rewards, err := j.catalogue(t.Context(), recent, own, item, rows)
		require.NoError(t, err)
		require.Equal(t, reencoded*len(rows), users.calls-before)
		was := objective(t, j, recent, own, item, j.row(item))
		for i, row := range rows {
			want := objective(t, j, recent, own, item, row) - was
			require.InEpsilon(t, want, rewards[i], 0.25, "item row %d, text %d", item, i)
		}
	}
}

// An instance's reward is p(y|x,s), of the whole softmax.
func TestAnInstanceRewardIsTheProbability(t *testing.T) {
	j, recent, own, _ := judged(t, 12, 40)
	rows, err := j.cold(texts(4))
	require.NoError(t, err)
	for _, in := range recent.ring {
		x, y, ok := j.see(in.Instance, own)
		if !ok {
			continue
		}
		one := newRecent(1)
		one.add(in.Instance)
		for _, item := range append(slices.Clone(x), y) {
			if item < vocab.FirstItem {
				continue
			}
			p, err := j.instance(t.Context(), x, y, item, rows)
			require.NoError(t, err)
			for i, row := range rows {
				require.InDelta(t, objective(t, j, one, own, item, row), math.Log(p[i]), 1e-4)
			}
		}
	}
}

// chance is what Choose does, on average over its seeds.
func TestChanceIsHowOftenAnItemIsDrawn(t *testing.T) {
	j, recent, own, _ := judged(t, 6, 40)
	known, err := recent.encode(t.Context(), j, own)
	require.NoError(t, err)
	const seeds = 3000
	s := &Sampler{own: own, judge: j, recent: recent}
	s.cfg.Every = 1
	drawn := map[string]float64{}
	for seed := range uint64(seeds) {
		s.cfg.Seed = seed
		for i, in := range recent.ring {
			in.at.offset = int64(i)
			if item, ok := s.Choose(in.Instance, func(string) bool { return true }); ok {
				drawn[item] += 1. / seeds
			}
		}
	}
	total := 0.0
	for item := int32(vocab.FirstItem); int(item) < j.rows; item++ {
		n := chance(known, item)
		total += n
		require.InDelta(t, drawn[j.items.ID(item)], n, 0.15, "item row %d", item)
	}
	require.InDelta(t, float64(len(known)), total, 1e-9, "each instance draws one item")
}
