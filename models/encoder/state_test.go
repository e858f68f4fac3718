package encoder

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/safetensors"
	"seralm/models/snapshot"
)

func learn(t testing.TB, e *Encoder, seed uint64) {
	t.Helper()
	_, err := e.Learn(t.Context(), titles, random(seed, len(titles), e.Dim()))
	require.NoError(t, err)
}

func fullState(t testing.TB, e *Encoder) map[string]snapshot.Tensor {
	t.Helper()
	state, err := e.FullState()
	require.NoError(t, err)
	return state
}

// Through the bytes of a checkpoint, and on to the bit as if nothing had been.
func TestARestoredEncoderGoesOnToTheBit(t *testing.T) {
	for _, train := range []string{last, full} {
		e, restored := learner(t, train), learner(t, train)
		versions := map[string]bool{e.Version(): true}
		for seed := range uint64(3) {
			learn(t, e, seed)
			versions[e.Version()] = true
		}
		require.Len(t, versions, 4, "one a step")
		require.Equal(t, e.files+"-"+train+"@3", e.Version())

		raw, err := snapshot.EncodeTensors(fullState(t, e))
		require.NoError(t, err)
		state, err := snapshot.DecodeTensors(raw)
		require.NoError(t, err)
		learn(t, restored, 9) // to be forgotten
		require.NoError(t, restored.RestoreFull(state))
		require.Equal(t, e.Version(), restored.Version())
		require.Equal(t, encode(t, e, titles), encode(t, restored, titles))
		for seed := range uint64(3) {
			learn(t, e, 3+seed)
			learn(t, restored, 3+seed)
		}
		require.Equal(t, fullState(t, e), fullState(t, restored))
		require.Equal(t, encode(t, e, titles), encode(t, restored, titles))
	}
}

func TestStatesThatAreRefused(t *testing.T) {
	e := learner(t, last)
	learn(t, e, 1)
	state := fullState(t, e)
	const matrix = "encoder.layer.1.output.dense.weight"

	dir := copyFolder(t)
	rewrite(t, dir, func(x *safetensors.Named) bool { x.Data[0] ^= 1; return true })
	other := open(t, dir, Options{Threads: 1, Train: last, LearningRate: 1})
	require.EqualError(t, other.RestoreFull(state),
		"encoder: the state is that of last."+e.files+", this is last."+other.files+": what is trained, and of which files")
	require.ErrorContains(t, learner(t, full).RestoreFull(state), "the state is that of last."+e.files+", this is full."+e.files)

	frozen := open(t, "testdata/tiny", Options{Threads: 1})
	require.ErrorContains(t, frozen.RestoreFull(state), "it is frozen")
	_, err := frozen.FullState()
	require.ErrorContains(t, err, "it is frozen")

	learn(t, e, 2)
	for _, c := range []struct {
		name  string
		value *snapshot.Tensor
		want  string
	}{
		{"encoder.steps.last." + e.files, nil, "the state lacks encoder.steps.last."},
		{matrix, nil, "the state lacks " + matrix},
		{"adam.m." + matrix, nil, "the state lacks adam.m." + matrix},
		{"adam.v." + matrix, &snapshot.Tensor{Shape: []int64{48, 32}, Data: make([]float32, 32*48)}, "is [48 32], 1536 numbers, in the state, [32 48] in this model"},
		{matrix, &snapshot.Tensor{Shape: []int64{32, 48}, Data: make([]float32, 9)}, "is [32 48], 9 numbers, in the state"},
	} {
		damaged := maps.Clone(state)
		if c.value == nil {
			delete(damaged, c.name)
		} else {
			damaged[c.name] = *c.value
		}
		before := fullState(t, e)
		require.ErrorContains(t, e.RestoreFull(damaged), c.want)
		require.Equal(t, before, fullState(t, e))
	}
}
