package seqrec

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/tensor"
)

// Loss and all gradients against the definition in float64, over a table so large that the
// targets do not fit one chunk, and with a logit that exp cannot hold; of logits as they
// are, and with weights of the candidates and histories in which items repeat.
func TestCrossEntropyIsItsDefinition(t *testing.T) {
	t.Run("items and hidden states", func(t *testing.T) { requireDefinition(t, false) })
	t.Run("weights and histories", func(t *testing.T) { requireDefinition(t, true) })
}

func requireDefinition(t *testing.T, more bool) {
	t.Helper()
	const n, d = 2*softmaxTargets + 3, 4
	const rows = softmaxElements / softmaxTargets
	r := rand.New(rand.NewPCG(1, 2))
	normal := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = float32(r.NormFloat64())
		}
		return out
	}
	items, hidden, targets := normal(rows*d), normal(n*d), make([]int64, n)
	for i := range targets {
		targets[i] = r.Int64N(rows)
	}
	for i := range d { // target 0's logit lies some 400 below the best: p underflows, log p does not
		hidden[i] *= 200
	}

	weights, rho := make([]float32, rows), 0.0
	all := make([]seen, n) // nothing
	if more {
		weights, rho = normal(rows), -1.3
		for i := range all {
			for k := range i % 7 {
				at := int64(k*k*1000+i) % rows
				all[i].at = append(all[i].at, at, at, targets[i])
				all[i].first = append(all[i].first, true, false, k == 0)
			}
		}
	}
	held := func(i, j int) bool {
		return slices.Contains(all[i].at, int64(j))
	}
	var wantNLL, wantRho float64
	wantHidden, wantItems := make([]float64, n*d), make([]float64, rows*d)
	logits := make([]float64, rows)
	for i := range n {
		h := hidden[i*d : i*d+d]
		best, sum := math.Inf(-1), 0.0
		for j := range rows {
			logits[j] = 0
			for k := range d {
				logits[j] += float64(h[k]) * float64(items[j*d+k])
			}
			logits[j] += float64(weights[j])
			if held(i, j) {
				logits[j] += rho
			}
			best = max(best, logits[j])
		}
		for j := range rows {
			sum += math.Exp(logits[j] - best)
		}
		lse := best + math.Log(sum)
		wantNLL += (lse - logits[targets[i]]) / n
		for j := range rows {
			g := math.Exp(logits[j]-lse) / n
			if j == int(targets[i]) {
				g -= 1. / n
			}
			if held(i, j) {
				wantRho += g
			}
			for k := range d {
				wantHidden[i*d+k] += g * float64(items[j*d+k])
				wantItems[j*d+k] += g * float64(h[k])
			}
		}
	}

	thread, err := tensor.Start(tensor.Options{Threads: 1})
	require.NoError(t, err)
	defer thread.Close()
	var nll, byRho float64
	var byHidden, byItems []float32
	require.NoError(t, thread.Do(func(s *tensor.Scope) {
		q := question{items: s.F32(items, rows, d), hidden: s.F32(hidden, n, d), targets: targets}
		if more {
			q.logWeights, q.seen, q.rho = s.F32(weights, 1, rows), all, rho
		}
		a := crossEntropy(s, q)
		nll, byRho, byHidden, byItems = a.nll, a.rho, s.Values(a.hidden), s.Values(a.items)
	}))
	require.InEpsilon(t, wantNLL, nll, 1e-6)
	require.InDelta(t, wantRho, byRho, 1e-5)
	require.InDeltaSlice(t, wantHidden, byHidden, 1e-5)
	require.InDeltaSlice(t, wantItems, byItems, 1e-4)
	require.Zero(t, thread.Live())
}
