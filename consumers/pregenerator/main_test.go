package pregenerator

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"seralm/config"
	"seralm/feature"
	"seralm/stream"
	"seralm/stream/streamtest"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		if err := child(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const patience = 60 * time.Second

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// system is a log.
type system struct {
	t   testing.TB
	cfg config.Config
	cl  *kgo.Client
}

func newSystem(t testing.TB) *system {
	t.Helper()
	return on(t, streamtest.Brokers(t))
}

// on is a system on the brokers given.
func on(t testing.TB, brokers []string) *system {
	t.Helper()
	s := &system{t: t, cfg: config.Default()}
	s.cfg.Kafka.Brokers = brokers
	s.cfg.Kafka.TopicPrefix = streamtest.Prefix()
	s.cfg.Knowledge.Domain, s.cfg.Knowledge.Batch = "movies", 4
	s.cl = streamtest.Topics(t, s.cfg.Kafka)
	return s
}

func (s *system) names() stream.Names { return stream.NamesOf(s.cfg.Kafka.TopicPrefix) }

// announce writes events of the n-th items: their ids are i0, i1, ...; the later ones
// are the newer.
func (s *system) announce(from, to int, change ...func(*stream.Item)) {
	s.t.Helper()
	var recs []*kgo.Record
	for n := from; n < to; n++ {
		it := stream.Item{Item: fmt.Sprint("i", n), Title: fmt.Sprint("Title ", n), Categories: []string{"Crime", "Drama"}}
		for _, c := range change {
			c(&it)
		}
		recs = append(recs, s.record(s.names().Items(), it.Item, epoch.Add(time.Duration(n)*time.Second), it))
	}
	s.produce(recs...)
}

func (s *system) remove(item string) {
	s.t.Helper()
	s.produce(s.record(s.names().Items(), item, epoch, nil))
}

var ids atomic.Int64

func (s *system) record(topic, key string, at time.Time, body any) *kgo.Record {
	s.t.Helper()
	rec, err := stream.NewRecord(topic, key, fmt.Sprint(ids.Add(1)), "test", at, body)
	require.NoError(s.t, err)
	return rec
}

func (s *system) produce(recs ...*kgo.Record) {
	s.t.Helper()
	require.NoError(s.t, s.cl.ProduceSync(s.t.Context(), recs...).FirstErr())
}

// written is the whole knowledge topic, oldest first within an item.
func (s *system) written() (all []stream.Event[stream.Knowledge]) {
	s.t.Helper()
	require.NoError(s.t, knowledge(s.t.Context(), s.cfg.Kafka, func(ev stream.Event[stream.Knowledge]) error {
		all = append(all, ev)
		return nil
	}))
	return all
}

// known is the newest knowledge of each item.
func (s *system) known() map[string]stream.Knowledge {
	s.t.Helper()
	out := map[string]stream.Knowledge{}
	for _, ev := range s.written() {
		if ev.Deleted {
			delete(out, ev.Body.Item)
		} else {
			out[ev.Body.Item] = ev.Body
		}
	}
	return out
}

func (s *system) eventually(what string, ok func() bool) {
	s.t.Helper()
	require.Eventually(s.t, ok, patience, 5*time.Millisecond, what)
}

// has waits until the item's knowledge is of that origin.
func (s *system) has(item string, origin stream.Origin) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%s has knowledge of origin %q", item, origin), func() bool { return s.known()[item].Origin == origin })
}

// model is a writer of texts that tells the test what it is asked.
type model struct {
	name   string
	step   int64
	answer func(a Ask, attempt int) (string, error) // nil: a text about the title
	hold   chan struct{}                            // not nil: each batch waits for a token
	policy *stream.PolicySnapshot                   // that is loaded

	mu    sync.Mutex
	asked []string // titles, in order
	calls int
}

func (m *model) Version() stream.ModelVersion {
	if m.policy != nil {
		return m.policy.Policy
	}
	return stream.ModelVersion{Name: m.name, Step: m.step}
}

// Load takes any adapter but a broken one.
func (m *model) Load(p *stream.PolicySnapshot) error {
	if p != nil && string(p.Adapter) == "broken" {
		return errors.New("its adapter is of another rank")
	}
	m.policy = p
	return nil
}

func (m *model) Write(ctx context.Context, asks []Ask, attempt int) ([]Answer, error) {
	m.mu.Lock()
	m.calls++
	for _, a := range asks {
		m.asked = append(m.asked, titleOf(a))
	}
	m.mu.Unlock()
	if m.hold != nil {
		select {
		case <-m.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	out := make([]Answer, len(asks))
	for i, a := range asks {
		name := m.name
		if m.policy != nil {
			name = string(m.policy.Adapter)
		}
		out[i] = Answer{Text: fmt.Sprintf(" %s writes about %s. ", name, titleOf(a)), Tokens: 7}
		if m.answer != nil {
			var err error
			if out[i].Text, err = m.answer(a, attempt); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (m *model) order() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string{}, m.asked...)
}

func titleOf(a Ask) string {
	_, rest, _ := strings.Cut(a.User, "Title: ")
	title, _, _ := strings.Cut(rest, "\n")
	return title
}

// hashes is an encoder: a vector is a function of the text.
type hashes string

func (h hashes) Version() string { return string(h) }

func (h hashes) Encode(_ context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i, text := range texts {
		f := fnv.New32a()
		fmt.Fprint(f, h, text)
		out[i] = []float32{float32(f.Sum32()), 1}
	}
	return out, nil
}

func (h hashes) of(text string) stream.Vector {
	out, _ := h.Encode(context.Background(), []string{text})
	return out[0]
}

// ranking is a fixed popularity.
type ranking []string

func (r ranking) Popular(context.Context, int) ([]feature.Scored, error) {
	var out []feature.Scored
	for _, item := range r {
		out = append(out, feature.Scored{Item: item, Score: 1})
	}
	return out, nil
}

// role is a pregenerator that runs.
type role struct {
	*Pregenerator
	t    testing.TB
	stop context.CancelFunc
	end  chan error
}

func (s *system) start(o Options, change ...func(*Pregenerator)) *role {
	s.t.Helper()
	if o.Writer == nil {
		o.Writer = &model{name: "fake"}
	}
	if o.Encoder == nil {
		o.Encoder = hashes("v1")
	}
	o.Registry, o.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	p, err := New(s.cfg, o)
	require.NoError(s.t, err)
	for _, c := range change {
		c(p)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &role{p, s.t, stop, make(chan error, 1)}
	go func() { r.end <- p.Run(ctx) }()
	s.t.Cleanup(stop)
	return r
}

// failure waits for the role to end.
func (r *role) failure() error {
	r.t.Helper()
	select {
	case err := <-r.end:
		// What was committed is visible a moment later; a writer of the same id waits for it.
		txn, failed := stream.NewTxn(r.t.Context(), r.cfg.Kafka, r.cfg.Kafka.TopicPrefix+transactionalID)
		require.NoError(r.t, failed)
		txn.Close()
		return err
	case <-time.After(patience):
		require.Fail(r.t, "the pregenerator does not end")
		return nil
	}
}

func (r *role) leave() {
	r.t.Helper()
	r.stop()
	require.NoError(r.t, r.failure())
}

// finish writes all that is due.
func (s *system) finish(o Options) {
	s.t.Helper()
	o.Once = true
	require.NoError(s.t, s.start(o).failure())
}
