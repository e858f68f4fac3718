package histories

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/stream"
)

func TestAHistoryHasTheOrderOfTheLog(t *testing.T) {
	s := newSystem(t, 4)
	s.produce(s.clicks(0, 500)...)
	m := s.join()
	s.caughtUp()
	s.produce(s.clicks(500, 1000)...)
	s.caughtUp()
	m.leave()
	s.requireView()
	require.Equal(t, 900, m.applied())
	require.Equal(t, 100, m.duplicate(), "the same source and id counts once")
}

func TestEventsOfOnePlaceDoNotHideThoseOfAnother(t *testing.T) {
	s := newSystem(t, 1)
	for i, source := range []string{"a", "a/b"} {
		id := []string{"b/1", "1"}[i]
		rec, err := stream.NewRecord(s.topic(), "u", id, source, epoch, stream.Interaction{User: "u", Item: source, Type: "click"})
		require.NoError(t, err)
		s.produce(rec)
	}
	m := s.join()
	s.caughtUp()
	m.leave()
	items, err := s.store.History(t.Context(), "u", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "a/b"}, items)
}

// Offsets in Redis are the truth; those in Kafka follow, for people.
func TestLeavingCommitsWhatTheViewHolds(t *testing.T) {
	s := newSystem(t, 4)
	s.produce(s.clicks(0, 100)...)
	m := s.join()
	s.caughtUp()
	m.leave()
	held, err := s.store.Offsets(t.Context())
	require.NoError(t, err)
	committed, err := s.adm.FetchOffsets(t.Context(), m.group)
	require.NoError(t, err)
	for p, next := range held {
		o, ok := committed.Lookup(s.topic(), p)
		require.True(t, ok)
		require.Equal(t, next, o.At)
	}

	// Somebody resets the group; the view knows better.
	_, err = s.adm.DeleteGroup(t.Context(), m.group)
	require.NoError(t, err)
	s.produce(s.clicks(100, 200)...)
	m = s.join()
	s.caughtUp()
	m.leave()
	s.requireView()
	require.Equal(t, 90, m.applied())
	require.Equal(t, 10, m.duplicate(), "nothing older was read again")
}

// What a transaction wrote and took back was never there, and the offsets of its
// markers are no lag for ever.
func TestOnlyCommittedEventsCount(t *testing.T) {
	s := newSystem(t, 1)
	txn, err := stream.NewTxn(t.Context(), s.cfg.Kafka, s.cfg.Kafka.TopicPrefix+"writer")
	require.NoError(t, err)
	defer txn.Close()
	m := s.join()
	for i := range 6 {
		require.NoError(t, txn.Begin())
		require.NoError(t, txn.Produce(t.Context(), s.record(i, "u", fmt.Sprint("i", i))))
		if i%2 == 0 {
			require.NoError(t, txn.Commit(t.Context()))
		} else {
			require.NoError(t, txn.Abort(t.Context()))
		}
	}
	s.caughtUp() // markers included
	m.leave()
	items, err := s.store.History(t.Context(), "u", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"i0", "i2", "i4"}, items)
}

func TestPoisonIsSetAsideBeforeItsOffsetMoves(t *testing.T) {
	s := newSystem(t, 1)
	unknown := s.record(1, "u", "from the future")
	unknown.Headers = slices.DeleteFunc(unknown.Headers, func(h kgo.RecordHeader) bool { return h.Key == stream.HeaderType })
	s.produce(
		s.record(0, "u", "a"),
		unknown,
		&kgo.Record{Topic: s.topic(), Key: []byte("u"), Value: []byte("{")},
		s.record(3, "u", "b"),
	)
	m := s.join()
	s.caughtUp()
	m.leave()
	items, err := s.store.History(t.Context(), "u", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, items)
	letters := s.letters()
	require.Len(t, letters, 2)
	require.Equal(t, "{", string(letters[1].Value))
	require.Contains(t, letters[1].Headers, kgo.RecordHeader{Key: stream.HeaderDeadOffset, Value: []byte("2")})
	require.Contains(t, letters[1].Headers, kgo.RecordHeader{Key: stream.HeaderDeadRole, Value: []byte("histories")})
}

// A producer is broken, or this version is: the role ends, and what it has not set
// aside stays in front of the offset.
func TestTooMuchPoisonEndsTheRole(t *testing.T) {
	s := newSystem(t, 1)
	s.produce(s.record(0, "u", "a"))
	var poison []*kgo.Record
	for range 200 {
		poison = append(poison, &kgo.Record{Topic: s.topic(), Key: []byte("u"), Value: []byte("{")})
	}
	s.produce(poison...)
	m := s.join(func(c *Consumer) { c.poison = 60 }) // and one more each second
	require.ErrorIs(t, m.failure(), stream.ErrTooManyDeadLetters)
	held, err := s.store.Offsets(t.Context())
	require.NoError(t, err)
	require.Greater(t, held[0], int64(60))
	require.Len(t, s.letters(), int(held[0])-1, "so that none is set aside twice when the role starts again")
	require.Equal(t, 1, m.applied())
}

func TestTheGroupIsNamedAfterTheView(t *testing.T) {
	a := config.Default()
	a.Kafka.TopicPrefix, a.Redis.Addr = "shop.", "redis:6379"
	require.Equal(t, "shop.histories-seralm@redis:6379/0", groupName(a))
	for name, change := range map[string]func(*config.Config){
		"another log":    func(c *config.Config) { c.Kafka.TopicPrefix = "x." },
		"another Redis":  func(c *config.Config) { c.Redis.Addr = "other:6379" },
		"another number": func(c *config.Config) { c.Redis.DB = 1 },
		"another prefix": func(c *config.Config) { c.Redis.KeyPrefix = "b" },
	} {
		b := a
		change(&b)
		require.NotEqual(t, groupName(a), groupName(b), name)
	}
	a.Redis.Addr = ""
	one, other := groupName(a), groupName(a)
	require.NotEqual(t, one, other, "each process has an embedded view of its own")
}

func TestEmbeddedViewsEachHoldEverything(t *testing.T) {
	s := newSystem(t, 2)
	s.produce(s.clicks(0, 200)...)
	want := s.expected()
	for range 2 {
		e := *s
		e.cfg.Redis.Addr = ""
		e.store = e.open()
		defer e.store.Close()
		m := e.join()
		e.caughtUp()
		require.Equal(t, want, e.held(want))
		defer m.leave()
	}
}

// It has to grow while the loop waits: that is when it is looked at.
func TestTheLagIsWhatTheViewDoesNotHold(t *testing.T) {
	s := newSystem(t, 2)
	s.failable()
	m := s.join()
	s.produce(s.clicks(0, 50)...)
	s.caughtUp()
	s.fake.SetError("LOADING Redis is loading the dataset in memory")
	s.produce(s.clicks(50, 150)...)
	s.eventually("100 behind", func() bool { return testutil.ToFloat64(m.metrics.lag) == 100 })
	m.leave()
	m = s.join() // it cannot even ask the view where to go on
	s.eventually("a member that comes then is behind, too", func() bool { return testutil.ToFloat64(m.metrics.lag) == 100 })
	s.fake.SetError("")
	s.eventually("none behind", func() bool { return testutil.ToFloat64(m.metrics.lag) == 0 })
	m.leave()
}

// Not a limit, a measurement: go test -v -run Visible.
func TestAnEventIsVisibleSoon(t *testing.T) {
	s := newSystem(t, 4)
	m := s.join()
	s.eventually("joined", func() bool { return len(m.partitions()) == 4 })
	const n = 200
	times := make([]time.Duration, n)
	for i := range n {
		user := fmt.Sprint("u", i)
		rec := s.record(i, user, "x")
		start := time.Now()
		s.produce(rec)
		s.eventually("visible", func() bool {
			items, err := s.store.History(t.Context(), user, 1)
			return err == nil && len(items) == 1
		})
		times[i] = time.Since(start)
	}
	m.leave()
	slices.Sort(times)
	t.Logf("from produce to seen in a look-up (polled each 2 ms): p50 %v p99 %v", times[n/2], times[n*99/100])
}
