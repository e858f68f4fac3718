package seqrec

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// A catalogue in clusters of which one is taken seven times in ten. The ids have learnt
// this when the texts arrive: what is left for the texts to explain? With ids dropped, as
// much as the ids did, so a new item whose text is like the popular ones' is scored like
// one of them. Without, the ids keep a good part to themselves, and the new item stands
// behind every item that it is like.
func TestIDDropoutMakesTheTextOfANewItemCount(t *testing.T) {
	for seed := range uint64(2) {
		better, gap := coldStart(t, seed, 0.3)
		require.Greater(t, gap, 0.8)
		require.Less(t, better, clusterItems-1., "among the items it is like")
		better, gap = coldStart(t, seed, 0)
		require.Less(t, gap, 0.65)
		require.InDelta(t, clusterItems, better, 0.3, "behind them all")
	}
}

const clusters, clusterItems = 4, 10

// coldStart trains on ids, then on ids and texts, and scores new items of each cluster.
// better is how many of the popular cluster's items stand before a new one of it, on
// average; gap is how much higher new items of that cluster score than those of others,
// in units of that difference between the items known.
func coldStart(t *testing.T, seed uint64, idDropout float64) (better, gap float64) {
	t.Helper()
	const (
		dim, fresh         = 16, 8 // of vectors; new items per cluster
		idsAlone, withText = 300, 200
		rows               = 2 + clusters*clusterItems
	)
	r := rand.New(rand.NewPCG(seed, 77))
	normal := func(scale float64, around []float32) []float32 {
		v := make([]float32, dim)
		for j := range v {
			v[j] = around[j] + float32(scale*r.NormFloat64())
		}
		return v
	}
	var centres, known, unseen [][]float32
	for range clusters {
		centres = append(centres, normal(1, make([]float32, dim)))
	}
	var items []int32
	for c, centre := range centres {
		for i := range clusterItems {
			items = append(items, int32(2+c*clusterItems+i))
			known = append(known, normal(0.3, centre))
		}
		for range fresh {
			unseen = append(unseen, normal(0.3, centre))
		}
	}
	m, err := New(Hyper{Name: "sasrec", Dim: 16, Layers: 1, Heads: 2, Inner: 32, MaxLen: 6}, rows,
		Options{Seed: seed, LearningRate: 1e-2, Threads: 1, Knowledge: dim, IDDropout: idDropout})
	require.NoError(t, err)
	defer m.Close()
	for step := range uint64(idsAlone + withText) {
		if step == idsAlone {
			require.NoError(t, m.SetKnowledge(items, known))
		}
		var batch []Sequence
		for range 16 {
			q := Sequence{From: 1}
			for range 6 {
				cluster := 0
				if r.IntN(10) >= 7 {
					cluster = 1 + r.IntN(clusters-1)
				}
				q.Items = append(q.Items, int32(2+cluster*clusterItems+r.IntN(clusterItems)))
			}
			batch = append(batch, q)
		}
		_, err := m.Learn(t.Context(), batch, step)
		require.NoError(t, err)
	}

	all, err := cold(t, m, unseen).Scores(t.Context(), [][]int32{{2, 3, 15}})
	require.NoError(t, err)
	warm, cold := all[0][2:rows], all[0][rows:]
	for _, score := range cold[:fresh] {
		for _, other := range warm[:clusterItems] {
			if other > score {
				better += 1. / fresh
			}
		}
	}
	difference := func(scores []float32, n int) float64 { return mean(scores[:n]) - mean(scores[n:]) }
	return better, difference(cold, fresh) / difference(warm, clusterItems)
}

func mean(values []float32) (m float64) {
	for _, v := range values {
		m += float64(v) / float64(len(values))
	}
	return m
}
