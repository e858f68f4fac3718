package seqrec

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// Where the horizontal filters count for nothing in the loss, their gradient is the
// penalty's: W / |W|, weighted.
func TestCaserLearnsSmallHorizontalFilters(t *testing.T) {
	h := tinies[4]
	m := newTiny(t, h, Options{Seed: 1})
	state, err := m.FullState()
	require.NoError(t, err)
	clear(state["fc1.weight"].Data)
	require.NoError(t, m.RestoreFull(state, 12))
	gradient := gradients(t, m, []Sequence{{Items: []int32{2, 3, 4}, From: 1}})
	for i := range h.MaxLen {
		name := caser{h}.horizontal(i) + ".weight"
		square := 0.0
		for _, w := range state[name].Data {
			square += float64(w) * float64(w)
		}
		for j, w := range state[name].Data {
			require.InEpsilon(t, 1e-4*float64(w)/math.Sqrt(square), gradient[name][j], 1e-4, "%s[%d]", name, j)
		}
	}
	require.True(t, allZero(gradient["conv_v.weight"]), "no other filter has one")
}
