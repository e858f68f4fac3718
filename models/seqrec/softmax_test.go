package seqrec

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/tensor"
)

// Loss and both gradients against the definition in float64, over a table so large
// that the targets do not fit one chunk, and with a logit that exp cannot hold.
func TestCrossEntropyIsItsDefinition(t *testing.T) {
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

	var wantNLL float64
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
			for k := range d {
				wantHidden[i*d+k] += g * float64(items[j*d+k])
				wantItems[j*d+k] += g * float64(h[k])
			}
		}
	}

	thread, err := tensor.Start(tensor.Options{Threads: 1})
	require.NoError(t, err)
	defer thread.Close()
	var nll float64
	var byHidden, byItems []float32
	require.NoError(t, thread.Do(func(s *tensor.Scope) {
		a := crossEntropy(s, question{items: s.F32(items, rows, d), hidden: s.F32(hidden, n, d), targets: targets})
		nll, byHidden, byItems = a.nll, s.Values(a.hidden), s.Values(a.items)
	}))
	require.InEpsilon(t, wantNLL, nll, 1e-6)
	require.InDeltaSlice(t, wantHidden, byHidden, 1e-5)
	require.InDeltaSlice(t, wantItems, byItems, 1e-4)
	require.Zero(t, thread.Live())
}
