package histories

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"seralm/config"
	"seralm/feature"
	"seralm/stream"
	"seralm/stream/streamtest"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		panic(child(spec)) // it is killed before it ends
	}
	goleak.VerifyTestMain(m)
}

const patience = 60 * time.Second

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// system is a log and a view: the embedded Redis's engine, or the server that
// SERALM_TEST_REDIS names, with keys of the test's own.
type system struct {
	t     testing.TB
	cfg   config.Config
	fake  *miniredis.Miniredis // nil with a real Redis
	store *feature.Store
	redis *redis.Client
	cl    *kgo.Client
	adm   *kadm.Client
}

func newSystem(t testing.TB, partitions int32) *system {
	t.Helper()
	cfg := config.Default()
	name := streamtest.Prefix()
	cfg.Kafka.TopicPrefix, cfg.Kafka.Partitions, cfg.Redis.KeyPrefix = name, partitions, name
	cfg.Redis.Timeout = 10 * time.Second // a busy machine is not what is tested
	cfg.Kafka.Brokers = streamtest.Brokers(t, kfake.GroupMinSessionTimeout(100*time.Millisecond))
	return fill(t, cfg)
}

// fill makes the topics and the view that cfg names.
func fill(t testing.TB, cfg config.Config) *system {
	t.Helper()
	s := &system{t: t, cfg: cfg}
	if s.cfg.Redis.Addr = os.Getenv("SERALM_TEST_REDIS"); s.cfg.Redis.Addr == "" {
		s.fake = miniredis.RunT(t)
		s.cfg.Redis.Addr = s.fake.Addr()
	}
	s.store = s.open()
	s.redis = redis.NewClient(&redis.Options{Addr: s.cfg.Redis.Addr})
	s.cl = streamtest.Topics(t, s.cfg.Kafka)
	s.adm = kadm.NewClient(s.cl)
	t.Cleanup(func() {
		if s.fake == nil { // the real one is shared
			_, err := s.store.Wipe(context.Background())
			require.NoError(t, err)
		}
		require.NoError(t, s.store.Close())
		require.NoError(t, s.redis.Close())
	})
	return s
}

func (s *system) open() *feature.Store {
	s.t.Helper()
	store, err := feature.Open(s.t.Context(), s.cfg.Redis)
	require.NoError(s.t, err)
	return store
}

func (s *system) topic() string { return stream.NamesOf(s.cfg.Kafka.TopicPrefix).Interactions() }

// record is the n-th event of the test: its id is its number, its time n seconds
// after the epoch.
func (s *system) record(n int, user, item string) *kgo.Record {
	s.t.Helper()
	return s.recordWithID(fmt.Sprint(n), n, user, item)
}

func (s *system) recordWithID(id string, n int, user, item string) *kgo.Record {
	s.t.Helper()
	rec, err := stream.NewRecord(s.topic(), user, id, "test", epoch.Add(time.Duration(n)*time.Second),
		stream.Interaction{User: user, Item: item, Type: "click"})
	require.NoError(s.t, err)
	return rec
}

// clicks are the events [from, to), of 40 users and 501 items; every tenth repeats an
// earlier one.
func (s *system) clicks(from, to int) (recs []*kgo.Record) {
	s.t.Helper()
	for n := from; n < to; n++ {
		id := n
		if n%10 == 9 {
			id = n - 3
		}
		recs = append(recs, s.recordWithID(fmt.Sprint(id), n, fmt.Sprint("u", id*7%40), fmt.Sprint("i", id%501)))
	}
	return recs
}

func (s *system) produce(recs ...*kgo.Record) {
	s.t.Helper()
	require.NoError(s.t, s.cl.ProduceSync(s.t.Context(), recs...).FirstErr())
}

// member is a consumer that runs.
type member struct {
	*Consumer
	t    testing.TB
	reg  *prometheus.Registry
	stop context.CancelFunc
	end  chan error
}

func (s *system) join(change ...func(*Consumer)) *member {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	reg := prometheus.NewRegistry()
	m := &member{t: s.t, reg: reg, stop: stop, end: make(chan error, 1), Consumer: New(s.cfg, s.store, reg, slog.New(slog.DiscardHandler))}
	m.session = 6 * time.Second // the least that a broker takes
	for _, c := range change {
		c(m.Consumer)
	}
	go func() { m.end <- m.Run(ctx) }()
	s.t.Cleanup(stop)
	return m
}

// leave ends the member and requires that to be clean.
func (m *member) leave() {
	m.t.Helper()
	m.stop()
	require.NoError(m.t, m.failure())
}

// failure waits for the member to end.
func (m *member) failure() error {
	m.t.Helper()
	select {
	case err := <-m.end:
		return err
	case <-time.After(patience):
		require.Fail(m.t, "the consumer does not end")
		return nil
	}
}

func (m *member) applied() int   { return int(testutil.ToFloat64(m.metrics.once)) }
func (m *member) duplicate() int { return int(testutil.ToFloat64(m.metrics.again)) }
func (m *member) old() int       { return int(testutil.ToFloat64(m.metrics.old)) }

func (m *member) partitions() []int32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.parts))
}

func (s *system) eventually(what string, ok func() bool) {
	s.t.Helper()
	require.Eventually(s.t, ok, patience, 2*time.Millisecond, what)
}

// caughtUp waits until the view holds all that the log holds now.
func (s *system) caughtUp() {
	s.t.Helper()
	ends, err := s.adm.ListCommittedOffsets(s.t.Context(), s.topic())
	require.NoError(s.t, err)
	s.eventually("the view holds the log", func() bool {
		held, err := s.store.Offsets(s.t.Context())
		if err != nil {
			return false
		}
		reached := true
		ends.Each(func(o kadm.ListedOffset) {
			next, ok := held[o.Partition]
			reached = reached && ok && next >= o.Offset
		})
		return reached
	})
}

// view is all that a look-up can see.
type view struct {
	Histories map[string][]string
	Popular   map[string]float64
}

// expected makes the view of the log in one go, without anything of the consumer's.
func (s *system) expected() view {
	s.t.Helper()
	v := view{map[string][]string{}, map[string]float64{}}
	seen := map[string]bool{}
	ctx, cancel := context.WithCancel(s.t.Context())
	err := stream.Follow(ctx, s.cfg.Kafka, s.topic(), func(rec *kgo.Record) error {
		ev, err := stream.DecodeInteraction(rec)
		if key := ev.Body.User + "\n" + ev.Source + "\n" + ev.ID; err == nil && !seen[key] {
			seen[key] = true
			h := append(v.Histories[ev.Body.User], ev.Body.Item)
			v.Histories[ev.Body.User] = h[max(0, len(h)-s.cfg.Histories.Length):]
			v.Popular[ev.Body.Item]++
		}
		return nil
	}, cancel)
	require.ErrorIs(s.t, err, context.Canceled)
	return v
}

// held reads the view of the users that v has.
func (s *system) held(v view) view {
	s.t.Helper()
	out := view{map[string][]string{}, map[string]float64{}}
	for user := range v.Histories {
		items, err := s.store.History(s.t.Context(), user, s.cfg.Histories.Length)
		require.NoError(s.t, err)
		out.Histories[user] = items
	}
	popular, err := s.store.Popular(s.t.Context(), 1_000_000)
	require.NoError(s.t, err)
	for _, p := range popular {
		out.Popular[p.Item] = p.Score
	}
	return out
}

func (s *system) requireView() {
	s.t.Helper()
	want := s.expected()
	require.NotEmpty(s.t, want.Histories)
	held := s.held(want)
	for user, items := range want.Histories { // one by one: a difference of everything tells nothing
		require.Equal(s.t, items, held.Histories[user], "history of %s", user)
	}
	for item, n := range want.Popular {
		require.Equal(s.t, n, held.Popular[item], "popularity of %s", item)
	}
	require.Len(s.t, held.Popular, len(want.Popular))
}

// letters reads the dead letters.
func (s *system) letters() (recs []*kgo.Record) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	err := stream.Follow(ctx, s.cfg.Kafka, stream.NamesOf(s.cfg.Kafka.TopicPrefix).DeadLetters(), func(rec *kgo.Record) error {
		recs = append(recs, rec)
		return nil
	}, cancel)
	require.ErrorIs(s.t, err, context.Canceled)
	return recs
}
