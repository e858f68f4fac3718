package snapshot

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func sample() *Snapshot {
	s := &Snapshot{IDs: []string{"a", "b"}, Tensors: map[string]Tensor{
		"item_embedding.weight": {[]int64{4, 1}, []float32{0, 1, 2, 3}},
	}}
	s.Model, s.Epoch, s.Step = "recommender", 2, 7
	s.Architecture = Architecture{Name: "sasrec", Rows: 4, Dim: 1, Layers: 1, Heads: 1, Inner: 1, MaxLen: 5}
	s.Offsets = map[int32]int64{0: 5, 3: 9}
	s.Watermark = time.UnixMilli(1e12).UTC()
	s.Probe = Probe{Histories: [][]int32{{2, 3}}, Rows: [][]int32{{2}}, Scores: [][]float32{{0.5}}}
	return s
}

func TestASnapshotSurvivesTheTrip(t *testing.T) {
	manifest, payload, err := Encode(sample())
	require.NoError(t, err)
	got, err := Decode(manifest, payload)
	require.NoError(t, err)
	want := sample()
	require.Equal(t, want.IDs, got.IDs)
	require.Equal(t, want.Tensors, got.Tensors)
	require.Equal(t, want.Offsets, got.Offsets)
	require.Equal(t, want.Probe, got.Probe)
	require.Equal(t, Version{2, 7}, got.Version())
}

func TestVersionsAreOrderedByEpochThenStep(t *testing.T) {
	require.True(t, Version{1, 9}.Less(Version{2, 1}))
	require.True(t, Version{2, 1}.Less(Version{2, 2}))
	require.False(t, Version{2, 2}.Less(Version{2, 2}))
}

func TestADamagedSnapshotIsRefusedByName(t *testing.T) {
	edit := func(change func(m *Manifest)) func([]byte, []byte) ([]byte, []byte) {
		return func(manifest, payload []byte) ([]byte, []byte) {
			var m Manifest
			require.NoError(t, json.Unmarshal(manifest, &m))
			change(&m)
			out, err := json.Marshal(m)
			require.NoError(t, err)
			return out, payload
		}
	}
	for name, c := range map[string]struct {
		damage func(manifest, payload []byte) ([]byte, []byte)
		want   string
	}{
		"a flipped bit":   {func(m, p []byte) ([]byte, []byte) { p[len(p)/3] ^= 1; return m, p }, "tensors.safetensors: sha256"},
		"a lost tail":     {func(m, p []byte) ([]byte, []byte) { return m, p[:len(p)-3] }, "vocabulary.json"},
		"a longer tail":   {func(m, p []byte) ([]byte, []byte) { return m, append(p, 1) }, "belong to no part"},
		"no manifest":     {func(_, p []byte) ([]byte, []byte) { return []byte("{"), p }, "manifest"},
		"another format":  {edit(func(m *Manifest) { m.Format = 99 }), "format 99"},
		"another table":   {edit(func(m *Manifest) { m.Architecture.Rows = 9 }), "9 item rows for 2 items"},
		"another vocab":   {edit(func(m *Manifest) { m.VocabularyHash = "x" }), "vocabulary's hash"},
		"a foreign probe": {edit(func(m *Manifest) { m.Probe.Histories[0][0] = 77 }), "row 77"},
		"a short probe":   {edit(func(m *Manifest) { m.Probe.Scores = nil }), "0 of scores"},
		"another width":   {edit(func(m *Manifest) { m.Architecture.Dim = 2 }), "item_embedding.weight is [4 1], the architecture says [4 2]"},
		"no tensors": {func(m, p []byte) ([]byte, []byte) {
			var size int64
			m, p = edit(func(m *Manifest) { size, m.Parts = m.Parts[0].Size, m.Parts[1:] })(m, p)
			return m, p[size:]
		}, "item_embedding.weight is [], the architecture says [4 1]"},
		"a negative part": {edit(func(m *Manifest) { m.Parts[0].Size = -1 }), "-1 bytes expected"},
	} {
		t.Run(name, func(t *testing.T) {
			manifest, payload, err := Encode(sample())
			require.NoError(t, err)
			_, err = Decode(c.damage(manifest, bytes.Clone(payload)))
			require.ErrorIs(t, err, ErrInvalid)
			require.ErrorContains(t, err, c.want)
		})
	}
	s := sample()
	s.Tensors["item_embedding.weight"].Data[2] = float32(math.NaN())
	manifest, payload, err := Encode(s)
	require.NoError(t, err)
	_, err = Decode(manifest, payload)
	require.ErrorContains(t, err, "value 2 is NaN")
}

func FuzzDecode(f *testing.F) {
	manifest, payload, err := Encode(sample())
	require.NoError(f, err)
	f.Add(manifest, payload)
	f.Add([]byte(`{"format":1,"parts":[{"name":"x","size":1}]}`), []byte("x"))
	f.Fuzz(func(t *testing.T, manifest, payload []byte) {
		if s, err := Decode(manifest, payload); err == nil {
			_, _, err := Encode(s)
			require.NoError(t, err)
		}
	})
}
