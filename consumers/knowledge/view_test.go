package knowledge

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/encoding/json"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
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
// SERALM_TEST_REDIS names.
type system struct {
	t     testing.TB
	cfg   config.Config
	fake  *miniredis.Miniredis // nil with a real Redis
	store *feature.Store
	redis *redis.Client
	cl    *kgo.Client
	adm   *kadm.Client
	reg   *prometheus.Registry
}

func newSystem(t testing.TB) *system {
	t.Helper()
	s := &system{t: t, cfg: config.Default()}
	name := streamtest.Prefix()
	s.cfg.Kafka.TopicPrefix, s.cfg.Kafka.Partitions, s.cfg.Redis.KeyPrefix = name, 2, name
	s.cfg.Redis.Timeout = 10 * time.Second // a busy machine is not what is tested
	s.cfg.Kafka.Brokers = streamtest.Brokers(t)
	if s.cfg.Redis.Addr = os.Getenv("SERALM_TEST_REDIS"); s.cfg.Redis.Addr == "" {
		s.fake = miniredis.RunT(t)
		s.cfg.Redis.Addr = s.fake.Addr()
	}
	var err error
	s.store, err = feature.Open(t.Context(), s.cfg.Redis)
	require.NoError(t, err)
	s.redis = redis.NewClient(&redis.Options{Addr: s.cfg.Redis.Addr})
	s.cl = streamtest.Topics(t, s.cfg.Kafka)
	s.adm = kadm.NewClient(s.cl)
	t.Cleanup(func() {
		if s.fake == nil { // the real one is shared
			_, err := s.store.WipeKnowledge(context.Background())
			require.NoError(t, err)
		}
		require.NoError(t, s.store.Close())
		require.NoError(t, s.redis.Close())
	})
	return s
}

func (s *system) names() stream.Names { return stream.NamesOf(s.cfg.Kafka.TopicPrefix) }

// write writes the records [from, to) of 40 items; every seventh removes.
func (s *system) write(from, to int) {
	s.t.Helper()
	var recs []*kgo.Record
	for n := from; n < to; n++ {
		item := fmt.Sprint("i", n*7%40)
		at := epoch.Add(time.Duration(n) * time.Second)
		var body any = stream.Knowledge{
			Item: item, Text: fmt.Sprint("text ", n), Vector: stream.Vector{float32(n), -0.5}, PromptHash: "85a14d3e",
			Policy: stream.ModelVersion{Name: "smollm2", Step: int64(n)}, Encoder: "minilm", Origin: stream.OriginLLM,
		}
		if n%7 == 6 {
			body = stream.NoKnowledge{}
		}
		rec, err := stream.NewRecord(s.names().Knowledge(), item, fmt.Sprint(n), "test", at, body)
		require.NoError(s.t, err)
		recs = append(recs, rec)
	}
	require.NoError(s.t, s.cl.ProduceSync(s.t.Context(), recs...).FirstErr())
}

type role struct {
	t    testing.TB
	stop context.CancelFunc
	end  chan error
	*View
}

func (s *system) start() *role {
	s.t.Helper()
	s.reg = prometheus.NewRegistry()
	ctx, stop := context.WithCancel(context.Background())
	r := &role{s.t, stop, make(chan error, 1), New(s.cfg, s.store, s.reg, slog.New(slog.DiscardHandler))}
	go func() { r.end <- r.Run(ctx) }()
	s.t.Cleanup(stop)
	return r
}

func (r *role) failure() error {
	r.t.Helper()
	select {
	case err := <-r.end:
		return err
	case <-time.After(patience):
		require.Fail(r.t, "the consumer does not end")
		return nil
	}
}

func (r *role) leave() {
	r.t.Helper()
	r.stop()
	require.NoError(r.t, r.failure())
}

func (s *system) eventually(what string, ok func() bool) {
	s.t.Helper()
	require.Eventually(s.t, ok, patience, 2*time.Millisecond, what)
}

// caughtUp waits until the view holds all that the log holds now, and requires it to be
// what the log's newest records say.
func (s *system) caughtUp() {
	s.t.Helper()
	ends, err := s.adm.ListCommittedOffsets(s.t.Context(), s.names().Knowledge())
	require.NoError(s.t, err)
	s.eventually("the view holds the log", func() bool {
		held, err := s.store.KnowledgeOffsets(s.t.Context())
		reached := err == nil
		ends.Each(func(o kadm.ListedOffset) {
			next, ok := held[o.Partition]
			reached = reached && ok && next >= o.Offset
		})
		return reached
	})
	want := map[string]string{}
	ctx, cancel := context.WithCancel(s.t.Context())
	err = stream.Follow(ctx, s.cfg.Kafka, s.names().Knowledge(), func(rec *kgo.Record) error {
		if ev, err := stream.DecodeKnowledge(rec); err == nil {
			want[ev.Body.Item] = ev.Body.Text
			if ev.Deleted {
				delete(want, ev.Body.Item)
			}
		}
		return nil
	}, cancel)
	require.ErrorIs(s.t, err, context.Canceled)
	require.NotEmpty(s.t, want)
	var items []string
	for n := range 40 {
		items = append(items, fmt.Sprint("i", n))
	}
	known, err := s.store.Knowledge(s.t.Context(), items)
	require.NoError(s.t, err)
	got := map[string]string{}
	for item, k := range known {
		got[item] = k.Text
	}
	require.Equal(s.t, want, got)
}

func TestTheViewIsWhatTheLogSays(t *testing.T) {
	s := newSystem(t)
	s.write(0, 200)
	r := s.start()
	s.caughtUp()
	s.write(200, 300)
	s.caughtUp()
	known, err := s.store.Knowledge(t.Context(), []string{"i1"})
	require.NoError(t, err)
	k := known["i1"]
	n := int(k.PolicyStep)
	require.Equal(t, feature.Knowledge{
		Item: "i1", Text: fmt.Sprint("text ", n), Vector: []float32{float32(n), -0.5}, PromptHash: "85a14d3e",
		Policy: "smollm2", PolicyStep: int64(n), Encoder: "minilm", Origin: "llm", Time: epoch.Add(time.Duration(n) * time.Second),
	}, k)
	applied := func() int { return int(testutil.ToFloat64(r.records.WithLabelValues("applied"))) }
	s.eventually("what the view holds is counted", func() bool { return applied() == 300 })
	r.leave()

	// Going on where the view ends, nothing is applied again.
	s.write(300, 310)
	r = s.start()
	s.caughtUp()
	s.eventually("no lag", func() bool { return testutil.ToFloat64(r.lag) == 0 })
	s.eventually("only what is new is counted", func() bool { return applied() == 10 })
	r.leave()
}

func TestAWipedOrEmptiedViewIsFilledAgain(t *testing.T) {
	s := newSystem(t)
	s.write(0, 200)
	r := s.start()
	s.caughtUp()
	_, err := s.store.WipeKnowledge(t.Context())
	require.NoError(t, err)
	s.caughtUp()
	for range 2 { // as FLUSHALL does, at one instant
		const script = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end return 1"
		require.NoError(t, s.redis.Eval(t.Context(), script, nil, s.cfg.Redis.KeyPrefix+"*").Err())
		s.caughtUp()
	}
	r.leave()
}

// Redis failed over to a replica that lacked the newest writes.
func TestAViewThatWentBackIsReadAgainFromThere(t *testing.T) {
	s := newSystem(t)
	s.write(0, 200)
	r := s.start()
	s.caughtUp()
	require.NoError(t, s.redis.HSet(t.Context(), s.cfg.Redis.KeyPrefix+":knowledge", "0", 3, "1", 5).Err())
	s.caughtUp()
	s.write(200, 250)
	s.caughtUp()
	r.leave()
}

func TestAnOutageOfRedisDelaysAndLosesNothing(t *testing.T) {
	s := newSystem(t)
	if s.fake == nil { // a real one cannot be told to fail
		s.fake = miniredis.RunT(t)
		require.NoError(t, s.store.Close())
		s.cfg.Redis.Addr = s.fake.Addr()
		var err error
		s.store, err = feature.Open(t.Context(), s.cfg.Redis)
		require.NoError(t, err)
	}
	r := s.start()
	for i := range 3 {
		s.write(100*i, 100*i+50)
		s.caughtUp()
		s.fake.SetError("LOADING Redis is loading the dataset in memory")
		s.write(100*i+50, 100*i+100)
		s.fake.SetError("")
	}
	s.caughtUp()
	r.leave()
}

func TestTwoThatFillOneViewDoNoHarm(t *testing.T) {
	s := newSystem(t)
	a, b := s.start(), s.start()
	for i := range 10 {
		s.write(100*i, 100*i+100)
	}
	s.caughtUp()
	a.leave()
	b.leave()
}

func TestPoisonIsSetAside(t *testing.T) {
	s := newSystem(t)
	s.write(0, 20)
	require.NoError(t, s.cl.ProduceSync(t.Context(), &kgo.Record{Topic: s.names().Knowledge(), Key: []byte("i1"), Value: []byte("{")}).FirstErr())
	s.write(20, 40)
	r := s.start()
	s.caughtUp()
	r.leave()
	var letters []string
	ctx, cancel := context.WithCancel(t.Context())
	err := stream.Follow(ctx, s.cfg.Kafka, s.names().DeadLetters(), func(rec *kgo.Record) error {
		letters = append(letters, string(rec.Value))
		return nil
	}, cancel)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"{"}, letters)
}

// Transactions leave markers in the log. The view's offset moves over them, so that it
// can be told from the offsets that it is whole.
func TestTheViewMovesOverMarkersAndWhatWasTakenBack(t *testing.T) {
	s := newSystem(t)
	s.write(0, 20)
	txn, err := stream.NewTxn(t.Context(), s.cfg.Kafka, s.cfg.Kafka.TopicPrefix+"writer")
	require.NoError(t, err)
	defer txn.Close()
	r := s.start()
	for i := range 4 {
		rec, err := stream.NewRecord(s.names().Knowledge(), "i1", fmt.Sprint("t", i), "test", epoch, stream.Knowledge{
			Item: "i1", Text: fmt.Sprint("transaction ", i), Vector: stream.Vector{1}, Encoder: "e", Origin: stream.OriginTitle,
		})
		require.NoError(t, err)
		require.NoError(t, txn.Begin())
		require.NoError(t, txn.Produce(t.Context(), rec))
		if i%2 == 0 {
			require.NoError(t, txn.Commit(t.Context()))
		} else {
			require.NoError(t, txn.Abort(t.Context()))
		}
	}
	s.caughtUp()
	r.leave()
}

func TestAnotherLogIsNotMixedIntoTheView(t *testing.T) {
	s := newSystem(t)
	s.write(0, 20)
	r := s.start()
	s.caughtUp()
	r.leave()
	held, err := s.store.KnowledgeOffsets(t.Context())
	require.NoError(t, err)
	key := s.cfg.Redis.KeyPrefix + ":knowledge"
	require.NoError(t, s.redis.HSet(t.Context(), key, "0", held[0]+15).Err())
	err = s.start().failure()
	var lost *stream.LostError
	require.ErrorAs(t, err, &lost)
	require.EqualValues(t, 15, lost.Count())
	require.ErrorContains(t, err, "seralm rebuild")

	require.NoError(t, s.redis.HSet(t.Context(), key, "topic", "another").Err())
	var other *feature.OtherLogError
	require.ErrorAs(t, s.start().failure(), &other)
}

// childEnv makes the test binary a consumer: its configuration as JSON.
const childEnv = "SERALM_TEST_KNOWLEDGE_CHILD"

func child(spec string) error {
	var cfg config.Config
	if err := json.Unmarshal([]byte(spec), &cfg); err != nil {
		return err
	}
	store, err := feature.Open(context.Background(), cfg.Redis)
	if err != nil {
		return err
	}
	return New(cfg, store, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)).Run(context.Background())
}

func TestKilledAtAnyMomentTheViewIsWhatTheLogSays(t *testing.T) {
	s := newSystem(t)
	spec, err := json.Marshal(s.cfg)
	require.NoError(t, err)
	for i := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+string(spec))
		require.NoError(t, cmd.Start())
		s.write(400*i, 400*i+400)
		reached := int64(200*i + rand.IntN(150))
		s.eventually("it applies", func() bool {
			held, err := s.store.KnowledgeOffsets(t.Context())
			return err == nil && held[0]+held[1] > reached
		})
		require.NoError(t, cmd.Process.Kill()) // SIGKILL
		_ = cmd.Wait()                         // killed
	}
	r := s.start()
	s.caughtUp()
	r.leave()
}
