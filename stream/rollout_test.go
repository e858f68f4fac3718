package stream

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func rolloutSamples() (Rollout, Draft, Decision) {
	at := time.UnixMilli(1.7e12).UTC()
	k := func(text string, step int64) Knowledge {
		return Knowledge{
			Item: "i/1", Text: text, Vector: Vector{1, -0.5}, PromptHash: "85a14d3e", Policy: ModelVersion{"smollm2", step}, Encoder: "minilm", Origin: OriginLLM, Time: at,
		}
	}
	d := Decision{
		Rollout: 2, Action: ActionHold, By: ByGate, Reason: "worse", Time: at,
		Evidence: &Evidence{Recommender: SnapshotVersion{"r", 1, 9}, Items: 4, Cold: Comparison{Events: 40, Users: 7, Served: -6, Candidate: -6.5, Change: -0.5, Low: -0.6, High: -0.4}, Tolerance: 0.02},
	}
	return Rollout{
			ID: 2, Phase: RolloutHeld, Alignment: "policy", Policy: ModelVersion{"smollm2+lora", 100}, Epoch: 3, Slot: 1, Encoder: "minilm", Began: at, Time: at,
			Reason: "worse", Drafts: 4, Decision: &d, Served: &ServedPolicy{1, ModelVersion{"smollm2+lora", 50}, 0}, Return: true,
		},
		Draft{Rollout: 2, Slot: 1, Item: "i/1", Candidate: k("new", 100), Served: k("old", 50), Partition: 3, Offset: 77, Time: at}, d
}

func TestRolloutRecordsReadBack(t *testing.T) {
	st, draft, decision := rolloutSamples()
	keys := map[string]bool{}
	for _, body := range []any{st, draft, decision} {
		rec, err := RolloutRecord("rollouts", "test", time.UnixMilli(1.7e12), body)
		require.NoError(t, err)
		back, err := DecodeRolloutRecord(rec)
		require.NoError(t, err)
		require.Equal(t, body, back)
		keys[string(rec.Key)] = true
	}
	require.Equal(t, map[string]bool{"state": true, "draft/1/i/1": true, "decision/gate": true}, keys, "what compaction keeps apart")

	p := PolicySnapshot{Policy: ModelVersion{"smollm2+lora", 100}, Epoch: 3, Created: time.UnixMilli(1.7e12).UTC(), Adapter: []byte(strings.Repeat("adapter", 400_000))}
	recs, err := AdapterRecords("rollouts", 2, 1, p)
	require.NoError(t, err)
	require.Greater(t, len(recs), 2)
	chunks := NewChunkReader(1 << 30)
	var blob *Blob
	for _, rec := range recs {
		body, err := DecodeRolloutRecord(rec)
		require.NoError(t, err)
		require.Nil(t, body)
		blob, err = chunks.Add(rec)
		require.NoError(t, err)
	}
	require.Equal(t, 1, blob.Slot)
	back, err := DecodePolicySnapshot(blob)
	require.NoError(t, err)
	require.Equal(t, p.Adapter, back.Adapter)
	require.Equal(t, p.Policy, back.Policy)
}

func TestBadRolloutRecordsAreNamed(t *testing.T) {
	for name, change := range map[string]func(*Rollout, *Draft, *Decision) any{
		"phase":   func(r *Rollout, _ *Draft, _ *Decision) any { r.Phase = "flying"; return *r },
		"id":      func(r *Rollout, _ *Draft, _ *Decision) any { r.ID = 0; return *r },
		"undo":    func(r *Rollout, _ *Draft, _ *Decision) any { r.Phase = RolloutWithdrawing; return *r },
		"slot":    func(r *Rollout, _ *Draft, _ *Decision) any { r.Served.Slot = 3; return *r },
		"policy":  func(r *Rollout, _ *Draft, _ *Decision) any { r.Policy.Name = ""; return *r },
		"item":    func(_ *Rollout, d *Draft, _ *Decision) any { d.Candidate.Item = "i2"; return *d },
		"vector":  func(_ *Rollout, d *Draft, _ *Decision) any { d.Served.Vector = nil; return *d },
		"rollout": func(_ *Rollout, d *Draft, _ *Decision) any { d.Rollout = 0; return *d },
		"action":  func(_ *Rollout, _ *Draft, d *Decision) any { d.Action = "perhaps"; return *d },
		"by":      func(_ *Rollout, _ *Draft, d *Decision) any { d.By = "me"; return *d },
	} {
		r, draft, decision := rolloutSamples()
		_, err := RolloutRecord("rollouts", "test", time.UnixMilli(1.7e12), change(&r, &draft, &decision))
		var invalid *InvalidError
		require.ErrorAs(t, err, &invalid, name)
		require.Equal(t, name, invalid.Field)
	}
	_, err := DecodeRolloutRecord(&kgo.Record{Key: []byte("gossip"), Value: []byte("{}")})
	require.True(t, IsInvalid(err))
	st, _, _ := rolloutSamples()
	rec, err := RolloutRecord("rollouts", "test", time.UnixMilli(1.7e12), st)
	require.NoError(t, err)
	rec.Key = []byte("state/2")
	_, err = DecodeRolloutRecord(rec)
	require.True(t, IsInvalid(err), "a second key would be a second state to compaction")
}

func TestWhatMayBeDoneToARollout(t *testing.T) {
	st, _, _ := rolloutSamples()
	for phase, want := range map[RolloutPhase]struct {
		promote bool
		back    []int64
	}{
		RolloutWriting: {false, []int64{2}}, RolloutJudging: {true, []int64{2}}, RolloutHeld: {true, []int64{2, 1}},
		RolloutPromoting: {}, RolloutWithdrawing: {}, RolloutWithdrawn: {false, []int64{1}}, RolloutPromoted: {false, []int64{1}},
	} {
		st.Phase = phase
		require.Equal(t, want.promote, st.Promotable(), phase)
		require.Equal(t, want.back, st.Withdrawable(), phase)
	}
	st.Phase, st.Return = RolloutHeld, false
	require.Equal(t, []int64{2}, st.Withdrawable(), "the served one has no way back")
	require.Equal(t, 1, st.FreeSlot())
	st.Previous = &ServedPolicy{Slot: 1}
	require.Equal(t, 2, st.FreeSlot())
	require.Zero(t, Rollout{}.FreeSlot())
}
