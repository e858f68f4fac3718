package rollout

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/stream"
)

func (s *system) ends() map[int32]int64 {
	s.Helper()
	ends, err := stream.CommittedEnds(s.Context(), kadm.NewClient(s.Client), s.Names().Interactions())
	require.NoError(s, err)
	return ends
}

// drafts writes drafts of the items that users take, and the state that has them judged.
func (s *system) drafts(id int64, served, candidate string) {
	s.Helper()
	for n := range drafted {
		s.put(draft(id, n, served, candidate))
	}
	s.put(judging(id))
}

// What is judged is what the snapshot from before the roll-out had not learnt, and
// nothing before there is enough of it.
func TestItIsJudgedByWhatWasNotLearnt(t *testing.T) {
	s := newSystem(t)
	s.interactions(0, 300)
	s.recommender(1, "c")
	s.drafts(1, "c", "ccc")
	r, g := s.gate(openBag)
	s.interactions(300, 340)
	s.eventually("it counts", func() bool { return testutil.ToFloat64(g.metrics.events) == 40 })
	_, decisions := s.topic()
	require.Empty(t, decisions)
	s.recommender(2, "c") // it has learnt them: the roll-out keeps to the first
	s.interactions(340, 420)
	d := s.decision(1)
	require.Equal(t, stream.ActionPromote, d.Action, d.Reason)
	require.EqualValues(t, 1, d.Evidence.Recommender.Step)
	require.GreaterOrEqual(t, d.Evidence.Warm.Events, 50)
	require.LessOrEqual(t, d.Evidence.Warm.Events, 120)
	require.Equal(t, drafted, d.Evidence.Items)
	require.Positive(t, d.Evidence.Cold.Low)
	s.eventually("it counts its decision", func() bool { // after it is written
		return testutil.ToFloat64(g.metrics.decisions.WithLabelValues("promote")) == 1
	})
	require.InDelta(t, d.Evidence.Cold.Low, testutil.ToFloat64(g.metrics.change.WithLabelValues("cold", "low")), 1e-9)
	r.leave()

	// Another gate has nothing to add.
	r, _ = s.gate(openBag)
	s.drafts(2, "c", "a")
	s.interactions(420, 620)
	d = s.decision(2)
	require.EqualValues(t, 2, d.Rollout)
	require.Equal(t, stream.ActionHold, d.Action)
	require.Contains(t, d.Reason, "may be worse")
	require.Negative(t, d.Evidence.Warm.High)
	r.leave()
	_, decisions = s.topic()
	require.Len(t, decisions, 2)
}

// Ended while it computes, it has decided nothing; the next one does, once.
func TestWhatWasNotDecidedIsDecidedByTheNext(t *testing.T) {
	s := newSystem(t)
	s.interactions(0, 100)
	s.recommender(1, "c")
	s.drafts(1, "c", "ccc")
	s.interactions(100, 300)
	began, hold := make(chan struct{}, 2), make(chan struct{})
	r, _ := s.gate(func(snap *snapshot.Snapshot) (Scorer, error) {
		sc, err := openBag(snap)
		sc.(*bag).hold = hold
		began <- struct{}{}
		return sc, err
	})
	<-began
	r.stop()
	close(hold)
	r.leave()
	_, decisions := s.topic()
	require.Empty(t, decisions)
	r, _ = s.gate(openBag)
	require.Equal(t, stream.ActionPromote, s.decision(1).Action)
	r.leave()
}

func TestWhatCannotBeJudgedIsHeldWithTheReason(t *testing.T) {
	s := newSystem(t)
	s.interactions(0, 100)
	base := s.snapshot(1, "c")
	delete(base.Tensors, tower.Weight)
	s.Publish(base)
	s.drafts(1, "c", "ccc")
	r, _ := s.gate(openBag)
	s.interactions(100, 300)
	d := s.decision(1)
	require.Equal(t, stream.ActionHold, d.Action)
	require.Contains(t, d.Reason, "reads no knowledge")

	// Drafts of items that nobody takes.
	r.leave()
	s.recommender(2, "c")
	s.put(draft(2, drafted+1, "c", "ccc"), judging(2))
	r, _ = s.gate(openBag)
	s.interactions(300, 600)
	d = s.decision(2)
	require.Equal(t, stream.ActionHold, d.Action)
	require.Contains(t, d.Reason, "0 with items that have a draft")
	r.leave()

	// A fault of the machine is none of the roll-out.
	s.put(draft(3, 1, "c", "ccc"))
	s.drafts(3, "c", "ccc")
	s.interactions(600, 900)
	broken := errors.New("no memory")
	r, _ = s.gate(func(*snapshot.Snapshot) (Scorer, error) { return nil, broken })
	require.ErrorIs(t, <-r.end, broken)
	_, decisions := s.topic()
	require.Len(t, decisions, 2)
}

func TestHeldOutAreTheNewestInteractionsBehindTheOffsets(t *testing.T) {
	s := newSystem(t)
	s.interactions(0, 60)
	from := s.ends()
	s.interactions(60, 100)
	s.interactions(90, 100) // once more, as a producer that was not sure
	all := taken(0, 100)
	var want []instance
	histories := map[string][]string{}
	for n, ev := range all {
		x := histories[ev.Body.User]
		if n >= 60 && len(x) > 0 {
			want = append(want, instance{ev.Body.User, append([]string{}, x[max(0, len(x)-8):]...), ev.Body.Item})
		}
		histories[ev.Body.User] = append(x, ev.Body.Item)
	}
	got, err := heldOut(t.Context(), s.Config, from, 8, 1000)
	require.NoError(t, err)
	require.Equal(t, want, got)
	got, err = heldOut(t.Context(), s.Config, from, 8, 15)
	require.NoError(t, err)
	require.Equal(t, want[len(want)-15:], got)
}
