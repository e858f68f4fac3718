package evaluator

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/models/prequential"
	"seralm/stream"
)

const arm = "sasrec"

// The planted snapshot that has learnt the event would rank it first.
func TestTheCurveHoldsNoMemoryOfTheAnswer(t *testing.T) {
	s := newSystem(t)
	s.cfg.Evaluator.Window = 4
	s.click("u", "a", "b", "c", "d") // offsets 0 to 3
	s.publish(planted(1, map[int32]int64{0: 1}, "a"))
	s.publish(planted(2, map[int32]int64{0: 4}, "d"))
	v := s.begin(0, 2)
	v.awaitRanked(3)
	v.leave()
	got := v.eval.Tallies()[0].Window()
	require.EqualValues(t, 3, got.Events, "the user's first event has no history")
	require.InDelta(t, (rank("a", "b")+rank("a", "c")+rank("a", "d"))/3, got.MRR, 1e-9)
}

func TestAnEventIsRankedByTheSnapshotThatLandedBeforeIt(t *testing.T) {
	s := newSystem(t)
	s.click("u", "a", "b")
	s.publish(planted(1, map[int32]int64{0: 1}, "b"))
	v := s.begin(0, 1)
	v.awaitRanked(1)
	s.click("u", "c")
	v.awaitRanked(2)
	v.leave()
	require.InDelta(t, (rank("b", "b")+rank("b", "c"))/2, v.eval.Tallies()[0].Window().MRR, 1e-9)
}

func TestOldEventsAreLearntAndNotRanked(t *testing.T) {
	s := newSystem(t)
	s.publish(planted(1, map[int32]int64{0: 0}, "a"))
	s.click("u", "a", "b", "c", "d", "e", "a") // one batch, the first four old
	v := s.begin(4, 1)
	v.awaitRanked(2)
	v.leave()
	require.EqualValues(t, 2, v.Ranked())
	require.InDelta(t, (rank("a", "e")+rank("a", "a"))/2, v.eval.Tallies()[0].Window().MRR, 1e-9)
	require.EqualValues(t, 6, v.eval.Counts().Events)
}

func TestARestartedEvaluatorRanksOnlyWhatArrives(t *testing.T) {
	s := newSystem(t)
	s.click("u", "a", "b", "c")
	ctx, stop := context.WithCancel(t.Context())
	e := New(s.cfg, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	end := make(chan error, 1)
	go func() { end <- e.Run(ctx) }()
	clicks := int64(0)
	require.Eventually(t, func() bool { // it has begun once it ranks
		s.click("u", "d")
		clicks++
		return e.Ranked() > 0
	}, time.Minute, 5*time.Millisecond)
	stop()
	require.NoError(t, <-end)
	require.LessOrEqual(t, e.Ranked(), clicks)
	require.NotEmpty(t, e.Curve())
}

// The other arms go on, and the served one does not count.
func TestItRunsWithoutASnapshot(t *testing.T) {
	s := newSystem(t)
	s.click("u", "a", "b", "a", "b")
	v := s.begin(0, 0)
	v.awaitRanked(3)
	v.leave()
	curve := v.Curve()
	require.NotEmpty(t, curve)
	require.NotContains(t, curve[0].Arms, arm)
	require.Contains(t, curve[0].Arms, "popularity")
	require.Contains(t, curve[0].Arms, "transitions")
}

func TestPoisonAndRepeatedEventsArePassedOver(t *testing.T) {
	s := newSystem(t)
	topic := stream.NamesOf(s.cfg.Kafka.TopicPrefix).Interactions()
	s.publish(planted(1, map[int32]int64{0: 0}, "b"))
	s.click("u", "a")
	require.NoError(t, s.cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: []byte("u"), Value: []byte("{")}).FirstErr())
	s.n-- // "a" again, under the same id
	s.click("u", "a")
	s.click("u", "b")
	v := s.begin(0, 1)
	v.awaitRanked(1)
	v.leave()
	require.Equal(t, prequential.Counts{Events: 3, Duplicates: 1, First: 1, NewItems: 1, Ranked: 1}, v.eval.Counts())
	require.InDelta(t, 1, v.eval.Tallies()[0].Window().MRR, 1e-9)
}

func TestSnapshotsThatCannotBeUsedArePassedOver(t *testing.T) {
	s := newSystem(t)
	other := planted(1, map[int32]int64{0: 0}, "c")
	other.Model = "other"
	s.publish(other)
	topic := stream.NamesOf(s.cfg.Kafka.TopicPrefix).Snapshots()
	damaged := stream.ChunkRecords(topic, s.cfg.Recommender.Name, 2, "2", []byte("{}"), []byte("x"), stream.DefaultChunk)
	require.NoError(t, s.cl.ProduceSync(t.Context(), damaged...).FirstErr())
	strange := planted(3, map[int32]int64{0: 0}, "c")
	strange.Architecture.Name = "gru"
	s.publish(strange)
	s.publish(planted(4, map[int32]int64{0: 0}, "b"))
	s.click("u", "a", "b")
	v := s.begin(0, 1)
	v.awaitRanked(1)
	v.leave()
	require.InDelta(t, rank("b", "b"), v.eval.Tallies()[0].Window().MRR, 1e-9)
}

func TestWithoutTheSnapshotsTopicItEndsInsteadOfMeasuringNothing(t *testing.T) {
	s := newSystem(t)
	_, err := s.adm.DeleteTopic(t.Context(), stream.NamesOf(s.cfg.Kafka.TopicPrefix).Snapshots())
	require.NoError(t, err)
	err = New(s.cfg, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)).Run(t.Context())
	require.ErrorContains(t, err, "snapshots")
}

func pacing() *Evaluator {
	cfg := config.Default()
	cfg.Evaluator.MaxLead, cfg.Evaluator.MaxWait = 10, time.Second
	return New(cfg, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
}

// land is a snapshot that has learnt n records, without a model.
func (s *served) land(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.models = append(s.models, &model{learnt: n})
	close(s.landed)
	s.landed = make(chan struct{})
}

func waited(t *testing.T, e *Evaluator, read int64) time.Duration {
	t.Helper()
	start := time.Now()
	require.NoError(t, e.pace(t.Context(), read))
	return time.Since(start)
}

// Without a trainer the evaluation goes on: each wait buys as many records as the
// lead, so 5,000 in 10 s by default, and not one batch.
func TestWithoutSnapshotsEachWaitBuysALead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := pacing()
		e.paced = 100 // the log begins here
		require.Zero(t, waited(t, e, 110))
		require.Equal(t, time.Second, waited(t, e, 111))
		require.Zero(t, waited(t, e, 121))
		require.Equal(t, time.Second, waited(t, e, 122))
	})
}

func TestTheEvaluatorIsAheadOfTheSnapshotsByTheLeadAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := pacing()
		e.served.land(50)
		require.Zero(t, waited(t, e, 60))
		go func() {
			time.Sleep(300 * time.Millisecond)
			e.served.land(55) // not enough
			time.Sleep(300 * time.Millisecond)
			e.served.land(70)
		}()
		require.Equal(t, 600*time.Millisecond, waited(t, e, 66))
		require.Zero(t, waited(t, e, 80))

		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, e.pace(ctx, 81), context.DeadlineExceeded)
	})
}

func TestALongCurveIsThinned(t *testing.T) {
	e := pacing()
	for range 10 * maxCurve {
		e.publish()
	}
	curve := e.Curve()
	require.LessOrEqual(t, len(curve), maxCurve)
	require.Greater(t, len(curve), maxCurve/3)
	for i := range curve[1:] {
		require.False(t, curve[i+1].Time.Before(curve[i].Time))
	}
	curve[0].Events = -1
	require.NotEqual(t, curve[0].Events, e.Curve()[0].Events, "a copy")
}
