package pregenerator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/stream"
)

// aligned is a system whose policy is rolled out.
func aligned(t testing.TB) *system {
	s := newSystem(t)
	s.cfg.Alignment.Enabled = true
	return s
}

// learn publishes the policy after so many iterations. Its texts begin with the adapter.
func (s *system) learn(step int64, adapter ...string) {
	s.t.Helper()
	slots, _, err := stream.ReadSlots(s.t.Context(), s.cfg.Kafka, s.cfg.Alignment.Name, 4)
	require.NoError(s.t, err)
	p := stream.PolicySnapshot{Policy: version(step), Epoch: 1, Created: time.Now(), Adapter: []byte(append(adapter, fmt.Sprint("policy", step))[0])}
	recs, err := p.Records(slots, s.names().Snapshots())
	require.NoError(s.t, err)
	s.produce(recs...)
}

func version(step int64) stream.ModelVersion {
	return stream.ModelVersion{Name: "fake+lora", Step: step}
}

// decide is what the gate or an operator writes.
func (s *system) decide(by string, rollout int64, action stream.RolloutAction) {
	s.t.Helper()
	rec, err := stream.RolloutRecord(s.names().Rollouts(), "test", time.Now(), stream.Decision{Rollout: rollout, Action: action, By: by, Reason: "a test says so"})
	require.NoError(s.t, err)
	s.produce(rec)
}

// rolledOut is the newest state, and all drafts ever written, in their order.
func (s *system) rolledOut() (st stream.Rollout, drafts []stream.Draft) {
	s.t.Helper()
	require.NoError(s.t, scan(s.t.Context(), s.cfg.Kafka, s.names().Rollouts(), func(rec *kgo.Record) error {
		body, err := stream.DecodeRolloutRecord(rec)
		switch b := body.(type) {
		case stream.Rollout:
			st = b
		case stream.Draft:
			drafts = append(drafts, b)
		}
		return err
	}))
	return st, drafts
}

// reaches waits for a roll-out to be in a phase, and returns it.
func (s *system) reaches(id int64, phase stream.RolloutPhase) (st stream.Rollout) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("roll-out %d is %s", id, phase), func() bool {
		st, _ = s.rolledOut()
		return st.ID == id && st.Phase == phase
	})
	return st
}

// raw are the values of the newest knowledge of each item, as they lie in the log.
func (s *system) raw() map[string]string {
	s.t.Helper()
	out := map[string]string{}
	require.NoError(s.t, scan(s.t.Context(), s.cfg.Kafka, s.names().Knowledge(), func(rec *kgo.Record) error {
		out[string(rec.Key)] = string(rec.Value)
		return nil
	}))
	return out
}

func by(step int64, n int) string { return fmt.Sprintf("policy%d writes about Title %d.", step, n) }

func TestAPolicyIsRolledOutAndTakenBack(t *testing.T) {
	s := aligned(t)
	const items = 10
	s.announce(0, items)
	s.finish(Options{})
	before := s.raw()
	s.learn(49) // one too few
	m := &model{name: "fake"}
	r := s.start(Options{Writer: m, Popular: ranking{"i3", "i5"}})
	s.learn(60)
	st := s.reaches(1, stream.RolloutJudging)
	require.Equal(t, items, st.Drafts)
	require.Equal(t, version(60), st.Policy)
	require.Nil(t, st.Served)
	require.Equal(t, before, s.raw(), "a draft is nobody's knowledge")
	_, drafts := s.rolledOut()
	require.Equal(t, []string{"i3", "i5", "i9", "i8"}, []string{drafts[0].Item, drafts[1].Item, drafts[2].Item, drafts[3].Item}, "the popular ones first, then the newest")
	for _, d := range drafts {
		require.True(t, strings.HasPrefix(d.Candidate.Text, "policy60 writes"), d.Candidate.Text)
		require.Equal(t, version(60), d.Candidate.Policy)
		require.Equal(t, s.known()[d.Item], d.Served)
		require.Equal(t, hashes("v1").of(d.Candidate.Text), d.Candidate.Vector)
	}

	// While nobody has decided, new items are the served model's.
	s.announce(items, items+1)
	s.has("i10", stream.OriginLLM)
	require.Equal(t, "fake", s.known()["i10"].Policy.Name)

	s.decide(stream.ByGate, 1, stream.ActionPromote)
	st = s.reaches(1, stream.RolloutPromoted)
	require.Equal(t, items, st.Moved)
	require.Zero(t, st.Stale)
	require.Equal(t, stream.ActionPromote, st.Decision.Action)
	for n := range items {
		k := s.known()[fmt.Sprint("i", n)]
		require.Equal(t, by(60, n), k.Text)
		require.Equal(t, version(60), k.Policy)
	}
	require.Equal(t, "fake", s.known()["i10"].Policy.Name, "it had no draft, and a good text")
	s.announce(items+1, items+2)
	s.has("i11", stream.OriginLLM)
	require.Equal(t, by(60, 11), s.known()["i11"].Text, "new items are the promoted policy's")

	s.decide(stream.ByOperator, 1, stream.ActionRollback)
	st = s.reaches(1, stream.RolloutWithdrawn)
	require.Equal(t, items, st.Moved)
	require.Nil(t, st.Served)
	s.eventually("the item that only the withdrawn policy wrote about is written again", func() bool { return s.known()["i11"].Policy.Name == "fake" })
	after := s.raw()
	for item, value := range before {
		require.Equal(t, value, after[item], item)
	}

	// What was taken back gets another chance, but not at once.
	s.learn(109)
	s.learn(110)
	require.Equal(t, version(110), s.reaches(2, stream.RolloutJudging).Policy)
	r.leave()
	for _, ev := range s.written() {
		require.NotContains(t, ev.Body.Text, "policy110")
	}
}

func TestAHeldRolloutIsPromotedByHandOrSuperseded(t *testing.T) {
	s := aligned(t)
	s.announce(0, 6)
	s.finish(Options{})
	before := s.raw()
	r := s.start(Options{})
	s.learn(50)
	s.reaches(1, stream.RolloutJudging)
	s.decide(stream.ByGate, 1, stream.ActionHold)
	require.Equal(t, "a test says so", s.reaches(1, stream.RolloutHeld).Reason)
	s.decide(stream.ByGate, 1, stream.ActionPromote) // the gate has spoken
	s.learn(99)
	s.learn(100)
	s.reaches(2, stream.RolloutJudging)
	require.Equal(t, before, s.raw())
	s.decide(stream.ByGate, 2, stream.ActionHold)
	s.reaches(2, stream.RolloutHeld)
	s.decide(stream.ByOperator, 1, stream.ActionPromote) // it is over
	s.decide(stream.ByOperator, 2, stream.ActionPromote)
	s.reaches(2, stream.RolloutPromoted)
	require.Equal(t, by(100, 4), s.known()["i4"].Text)

	// The next one is thrown away while it is judged, then the served one is taken back.
	s.learn(150)
	s.reaches(3, stream.RolloutJudging)
	s.decide(stream.ByOperator, 2, stream.ActionRollback) // not while another is open
	s.decide(stream.ByOperator, 3, stream.ActionRollback)
	st := s.reaches(3, stream.RolloutWithdrawn)
	require.Equal(t, version(100), st.Served.Policy)
	require.Equal(t, by(100, 4), s.known()["i4"].Text)
	s.decide(stream.ByOperator, 2, stream.ActionRollback)
	s.eventually("it is taken back", func() bool {
		st, _ = s.rolledOut()
		return st.Served == nil && st.Phase == stream.RolloutWithdrawn
	})
	require.Equal(t, before, s.raw())
	r.leave()
}

// After a promoted roll-out another one: the way back is to the one before, whose policy
// writes again about new items, though its trainer has long overwritten it.
func TestTheWayBackIsToThePolicyBefore(t *testing.T) {
	s := aligned(t)
	s.cfg.Alignment.RolloutItems = 4
	s.announce(0, 6)
	s.finish(Options{})
	r := s.start(Options{})
	for i, step := range []int64{50, 100} {
		s.learn(step)
		require.Equal(t, 4, s.reaches(int64(i+1), stream.RolloutJudging).Drafts)
		s.decide(stream.ByGate, int64(i+1), stream.ActionPromote)
		s.reaches(int64(i+1), stream.RolloutPromoted)
	}
	r.leave()
	for step := int64(101); step < 106; step++ {
		s.learn(step)
	}
	r = s.start(Options{})
	s.decide(stream.ByOperator, 2, stream.ActionRollback)
	st := s.reaches(2, stream.RolloutWithdrawn)
	require.Equal(t, version(50), st.Served.Policy)
	require.False(t, st.Return)
	for n, want := range []int64{0, 0, 50, 50, 50, 50} { // the newest four were rolled out
		k := s.known()[fmt.Sprint("i", n)]
		require.Equal(t, want, k.Policy.Step, k.Text)
	}
	r.leave()
	r = s.start(Options{})
	s.announce(6, 7)
	s.has("i6", stream.OriginLLM)
	require.Equal(t, by(50, 6), s.known()["i6"].Text)
	s.decide(stream.ByOperator, 1, stream.ActionRollback) // there is no second way back
	s.announce(7, 8)
	s.has("i7", stream.OriginLLM)
	require.Equal(t, by(50, 7), s.known()["i7"].Text)
	r.leave()
}

func TestADraftOfWhatChangedMeanwhileIsLeft(t *testing.T) {
	s := aligned(t)
	s.announce(0, 8)
	s.finish(Options{})
	r := s.start(Options{})
	s.learn(50)
	s.reaches(1, stream.RolloutJudging)
	s.announce(0, 1, func(it *stream.Item) { it.Title = "Another 0" })
	s.announce(1, 2, func(it *stream.Item) { it.Hidden = true })
	s.remove("i2")
	n, err := Import(t.Context(), s.cl, s.names(), hashes("v1"), strings.NewReader(`{"i3": "ready"}`), func(int) {})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	s.eventually("all is known", func() bool {
		k := s.known()
		_, there := k["i2"]
		return k["i0"].Text == "fake writes about Another 0." && !there && k["i3"].Origin == stream.OriginImport
	})
	// The pregenerator has read of them when it has written about what came after.
	s.announce(8, 9)
	s.has("i8", stream.OriginLLM)
	s.eventually("it knows", func() bool {
		e, _ := r.ledger.Load().look("i1")
		k, _ := r.ledger.Load().look("i3")
		return e.hidden && k.known.origin == stream.OriginImport
	})
	s.decide(stream.ByGate, 1, stream.ActionPromote)
	st := s.reaches(1, stream.RolloutPromoted)
	require.Equal(t, 4, st.Moved)
	require.Equal(t, 4, st.Stale)
	k := s.known()
	require.Equal(t, "fake writes about Another 0.", k["i0"].Text)
	require.Equal(t, "fake writes about Title 1.", k["i1"].Text)
	require.NotContains(t, k, "i2")
	require.Equal(t, "ready", k["i3"].Text)
	require.Equal(t, by(50, 4), k["i4"].Text)

	// Back, what changed since it was promoted is left, too.
	s.announce(4, 5, func(it *stream.Item) { it.Title = "Another 4" })
	s.eventually("it is written again", func() bool { return s.known()["i4"].Text == "policy50 writes about Another 4." })
	s.remove("i5")
	s.eventually("it is gone", func() bool { _, there := s.known()["i5"]; return !there })
	s.decide(stream.ByOperator, 1, stream.ActionRollback)
	st = s.reaches(1, stream.RolloutWithdrawn)
	require.Equal(t, 3, st.Moved, "i6, i7, and i1, which never lost its text")
	s.eventually("it is the served model's", func() bool { return s.known()["i4"].Text == "fake writes about Another 4." })
	require.NotContains(t, s.known(), "i5")
	require.Equal(t, "fake writes about Title 6.", s.known()["i6"].Text)
	r.leave()
}

// An item that the model has no answer to keeps what it has, and holds nothing up.
func TestARefusedItemHasNoDraft(t *testing.T) {
	s := aligned(t)
	s.announce(0, 4)
	s.finish(Options{})
	m := &model{name: "fake", answer: func(a Ask, _ int) (string, error) {
		if titleOf(a) == "Title 2" {
			return "", nil
		}
		return "a text", nil
	}}
	r := s.start(Options{Writer: m})
	s.learn(50)
	require.Equal(t, 3, s.reaches(1, stream.RolloutJudging).Drafts)
	r.leave()
}

func TestAPolicyThatCannotBeLoadedIsNotRolledOut(t *testing.T) {
	s := aligned(t)
	s.announce(0, 4)
	s.finish(Options{})
	r := s.start(Options{})
	s.learn(50, "broken")
	s.eventually("it is refused", func() bool { return testutil.ToFloat64(r.metrics.refused.WithLabelValues("policy")) == 1 })
	s.learn(60)
	require.Equal(t, version(60), s.reaches(1, stream.RolloutJudging).Policy)
	r.leave()

	// With another encoder its vectors are of no use.
	r = s.start(Options{Encoder: hashes("v2")})
	require.Contains(t, s.reaches(1, stream.RolloutWithdrawn).Reason, "another encoder")
	r.leave()
}

// A roll-out begins where most items have a text: not before, for a draft is beside one.
func TestWithoutTextsThereIsNothingToRollOut(t *testing.T) {
	s := aligned(t)
	s.announce(0, 9)
	m := &model{name: "fake", hold: make(chan struct{})}
	s.learn(50)
	r := s.start(Options{Writer: m})
	m.hold <- struct{}{}
	s.eventually("a batch is written", func() bool { return r.Progress().Written == 4 })
	st, _ := s.rolledOut()
	require.Zero(t, st.ID)
	close(m.hold)
	require.Equal(t, 9, s.reaches(1, stream.RolloutJudging).Drafts)
	r.leave()
}

// Nor does it wait for the rest of the catalogue when it has all that it may take.
func TestAFullRolloutDoesNotWait(t *testing.T) {
	s := aligned(t)
	s.cfg.Alignment.RolloutItems = 4
	s.announce(0, 40)
	m := &model{name: "fake", hold: make(chan struct{})}
	s.learn(50)
	r := s.start(Options{Writer: m})
	m.hold <- struct{}{} // a batch of texts
	s.reaches(1, stream.RolloutWriting)
	close(m.hold)
	require.Equal(t, 4, s.reaches(1, stream.RolloutJudging).Drafts)
	r.leave()
}

// Without alignment nothing is rolled out; what is served stays.
func TestWithoutAlignmentNothingBegins(t *testing.T) {
	s := aligned(t)
	s.announce(0, 4)
	s.finish(Options{})
	r := s.start(Options{})
	s.learn(50)
	s.reaches(1, stream.RolloutJudging)
	s.decide(stream.ByGate, 1, stream.ActionPromote)
	s.reaches(1, stream.RolloutPromoted)
	r.leave()
	s.cfg.Alignment.Enabled = false
	s.learn(500)
	s.announce(4, 5)
	s.finish(Options{})
	require.Equal(t, by(50, 4), s.known()["i4"].Text)
	require.Equal(t, by(50, 3), s.known()["i3"].Text)
	st, _ := s.rolledOut()
	require.EqualValues(t, 1, st.ID)
}
