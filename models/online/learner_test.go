package online

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/models/seqrec"
	"seralm/models/snapshot"
)

func newLearner(t *testing.T) *Learner { return newLearnerOf(t, 2) }

func newLearnerOf(t *testing.T, rows int) *Learner {
	t.Helper()
	m, err := seqrec.New(seqrec.Hyper{Name: "sasrec", Dim: 8, Layers: 1, Heads: 2, Inner: 8, MaxLen: 6}, rows,
		seqrec.Options{Seed: 3, LearningRate: 1e-2, Dropout: 0.2, ClipNorm: 1, Threads: 1})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	// Small bounds, so that users and items go, keys turn over and items are admitted.
	return NewLearner(NewSequencer(SequencerOptions{MaxLen: 6, MaxUsers: 15, DedupWindow: 50, AdmitAfter: 2, MaxItems: 25, Replay: 1.5, Seed: 3}), m)
}

func batches(n int) [][]Event {
	r := rand.New(rand.NewPCG(5, 5))
	var out [][]Event
	id := 0
	for range n {
		var b []Event
		for range 1 + r.IntN(20) {
			if r.IntN(10) > 0 { // else a repeated id
				id++
			}
			b = append(b, Event{
				Key: EventKey("t", fmt.Sprint(id)), User: fmt.Sprint("u", r.IntN(25)), Item: fmt.Sprint("i", r.IntN(40)),
				Time: time.UnixMilli(int64(1e12) + int64(id)),
			})
		}
		out = append(out, b)
	}
	return out
}

// Batches straight equal k batches, save, restore elsewhere, the rest: the saved
// bytes at the end are the same, for every k.
func TestALearnerResumesToTheBit(t *testing.T) {
	all := batches(20)
	end := func(k int) (model, sequencer []byte) {
		l := newLearner(t)
		for i, b := range all {
			if i == k {
				m, s, err := l.Save()
				require.NoError(t, err)
				l = newLearner(t)
				require.NoError(t, l.Restore(m, s))
			}
			_, err := l.Step(t.Context(), b, nil)
			require.NoError(t, err)
		}
		m, s, err := l.Save()
		require.NoError(t, err)
		return m, s
	}
	model, sequencer := end(-1)
	for k := range all {
		m, s := end(k)
		require.Equal(t, model, m, "stopped before batch %d", k)
		require.Equal(t, string(sequencer), string(s), "stopped before batch %d", k)
	}
}

// An event is learnt once, whatever the architecture: one that learns a target of a
// sequence has a sequence of each.
func TestEveryEventIsATargetOfEveryArchitecture(t *testing.T) {
	for _, h := range []seqrec.Hyper{
		{Name: "gru4rec", Dim: 8, Layers: 1, Inner: 8, MaxLen: 6},
		{Name: "caser", Dim: 8, MaxLen: 6, Vertical: 2, Horizontal: 2},
	} {
		m, err := seqrec.New(h, 2, seqrec.Options{Seed: 3, LearningRate: 1e-2, Threads: 1})
		require.NoError(t, err)
		t.Cleanup(m.Close)
		l := NewLearner(NewSequencer(SequencerOptions{MaxLen: 6, MaxUsers: 100, DedupWindow: 1000, AdmitAfter: 1, Seed: 3}), m)
		met, keys := map[string]bool{}, map[uint64]bool{}
		for _, b := range batches(10) {
			want := 0
			for _, e := range b {
				if keys[e.Key] {
					continue
				}
				keys[e.Key] = true
				if met[e.User] {
					want++
				}
				met[e.User] = true
			}
			r, err := l.Step(t.Context(), b, nil)
			require.NoError(t, err)
			require.Equal(t, want, r.Loss.Targets, h.Name)
		}
	}
}

func TestASnapshotProbeIsTheModelsOwnAnswer(t *testing.T) {
	l := newLearner(t)
	for _, b := range batches(10) {
		_, err := l.Step(t.Context(), b, nil)
		require.NoError(t, err)
	}
	s, err := l.Snapshot(t.Context(), 3)
	require.NoError(t, err)
	require.Len(t, s.Probe.Histories, 3)
	manifest, payload, err := snapshot.Encode(s)
	require.NoError(t, err)
	back, err := snapshot.Decode(manifest, payload)
	require.NoError(t, err)
	scores, err := l.Model.Scores(t.Context(), back.Probe.Histories)
	require.NoError(t, err)
	for i, rows := range back.Probe.Rows {
		require.NotEmpty(t, rows)
		for k, r := range rows {
			require.Equal(t, scores[i][r], back.Probe.Scores[i][k])
		}
	}
}

func TestARestoredStateMustFitTheSettings(t *testing.T) {
	l := newLearner(t)
	for _, b := range batches(10) {
		_, err := l.Step(t.Context(), b, nil)
		require.NoError(t, err)
	}
	model, sequencer, err := l.Save()
	require.NoError(t, err)
	other := newLearner(t)
	other.Sequencer = NewSequencer(SequencerOptions{MaxLen: 6, MaxUsers: 15, DedupWindow: 20, AdmitAfter: 2})
	require.ErrorContains(t, other.Restore(model, sequencer), "trainer.dedup_window")
	require.ErrorContains(t, newLearner(t).Restore(model, sequencer[:40]), "sequencer's state")
	require.ErrorContains(t, newLearner(t).Restore(model[:40], sequencer), "model's state")
}

// The weights go back after a numeric failure while the vocabulary, which is of the
// log, does not: items met since begin anew.
func TestWeightsGoBackToACheckpointOfFewerItems(t *testing.T) {
	all := batches(12)
	l := newLearner(t)
	var model, sequencer []byte
	renewed := map[int32]bool{} // since
	for i, b := range all {
		if i == 3 {
			var err error
			model, sequencer, err = l.Save()
			require.NoError(t, err)
			clear(renewed)
		}
		batch := l.Next(b, l.StepNumber()+1)
		for _, r := range batch.Renewed {
			renewed[r.Row] = true
		}
		_, err := l.Learn(t.Context(), batch, b, nil)
		require.NoError(t, err)
	}
	require.NotEmpty(t, renewed)
	old, err := snapshot.DecodeTensors(model)
	require.NoError(t, err)
	const table = "item_embedding.weight"
	require.Less(t, old[table].Shape[0], int64(l.Vocabulary().Rows()), "the vocabulary has grown")

	require.NoError(t, l.RestoreModel(model, sequencer))
	now, err := l.Model.State()
	require.NoError(t, err)
	require.EqualValues(t, l.Vocabulary().Rows(), now[table].Shape[0])
	first, err := newLearnerOf(t, l.Vocabulary().Rows()).Model.State()
	require.NoError(t, err)
	for r := range int32(l.Vocabulary().Rows()) {
		from := old[table]
		if renewed[r] || int64(r) >= old[table].Shape[0] {
			from = first[table]
		}
		require.Equal(t, from.Data[r*8:r*8+8], now[table].Data[r*8:r*8+8], "row %d", r)
	}
	_, err = l.Step(t.Context(), batches(13)[12], nil)
	require.NoError(t, err)
}
