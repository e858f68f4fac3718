package rollout

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/consumers/internal/toy"
	"seralm/consumers/knowledge"
	"seralm/consumers/pregenerator"
	"seralm/feature"
	"seralm/stream"
)

// writer says c of every item, and with a policy what the adapter says.
type writer struct{ policy *stream.PolicySnapshot }

func (w *writer) Version() stream.ModelVersion {
	if w.policy != nil {
		return w.policy.Policy
	}
	return stream.ModelVersion{Name: "toy"}
}

func (w *writer) Load(p *stream.PolicySnapshot) error { w.policy = p; return nil }

func (w *writer) Write(_ context.Context, asks []pregenerator.Ask, _ int) ([]pregenerator.Answer, error) {
	text := "c"
	if w.policy != nil {
		text = string(w.policy.Adapter)
	}
	out := make([]pregenerator.Answer, len(asks))
	for i := range out {
		out[i] = pregenerator.Answer{Text: text, Tokens: 1}
	}
	return out, nil
}

func pregenerate(cfg config.Config) func(context.Context) error {
	return func(ctx context.Context) error {
		p, err := pregenerator.New(cfg, pregenerator.Options{
			Writer: &writer{}, Encoder: letters{}, Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return err
		}
		return p.Run(ctx)
	}
}

// childEnv makes the test binary a pregenerator and a gate: "brokers|topic prefix".
const childEnv = "SERALM_TEST_ROLLOUT_CHILD"

func child(spec string) error {
	brokers, prefix, _ := strings.Cut(spec, "|")
	cfg := toy.Config(strings.Split(brokers, ","), prefix)
	configure(&cfg)
	g := New(cfg, Options{Open: openBag, Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)})
	g.poll = 5 * time.Millisecond
	failed := make(chan error, 2)
	go func() { failed <- g.Run(context.Background()) }()
	go func() { failed <- pregenerate(cfg)(context.Background()) }()
	return <-failed
}

func configure(cfg *config.Config) {
	cfg.Alignment.Enabled, cfg.Alignment.RolloutEvents, cfg.Knowledge.Batch = true, 200, 4
}

// learn publishes a policy whose texts are one text.
func (s *system) learn(step int64, text string) {
	s.Helper()
	slots, _, err := stream.ReadSlots(s.Context(), s.Config.Kafka, s.Config.Alignment.Name, 4)
	require.NoError(s, err)
	p := stream.PolicySnapshot{Policy: stream.ModelVersion{Name: "toy+lora", Step: step}, Epoch: 1, Created: time.Now(), Adapter: []byte(text)}
	recs, err := p.Records(slots, s.Names().Snapshots())
	require.NoError(s, err)
	s.Produce(recs...)
}

// announce describes the items.
func (s *system) announce() {
	s.Helper()
	for n := range drafted {
		it := stream.Item{Item: fmt.Sprint("i", n), Title: fmt.Sprint("Title ", n)}
		s.Produce(s.Record(s.Names().Items(), it.Item, fmt.Sprint("item-", n), n, it))
	}
}

// reaches waits for a roll-out to be in a phase.
func (s *system) reaches(id int64, phase stream.RolloutPhase) (st stream.Rollout) {
	s.Helper()
	s.eventually(fmt.Sprintf("roll-out %d is %s", id, phase), func() bool {
		st, _ = s.topic()
		return st.ID == id && st.Phase == phase
	})
	return st
}

// reader follows the knowledge topic as a scorer does: the newest vector of each item.
type reader struct {
	mu      sync.Mutex
	values  map[string]string // as in the log
	vectors map[string]stream.Vector
}

func (s *system) read() *reader {
	r := &reader{values: map[string]string{}, vectors: map[string]stream.Vector{}}
	run(s, func(ctx context.Context) error {
		return stream.Follow(ctx, s.Config.Kafka, s.Names().Knowledge(), func(rec *kgo.Record) error {
			ev, err := stream.DecodeKnowledge(rec)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.values[ev.Body.Item], r.vectors[ev.Body.Item] = string(rec.Value), ev.Body.Vector
			return err
		}, func() {})
	})
	return r
}

// sees reports whether every item has the text's vector.
func (r *reader) sees(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range drafted {
		if fmt.Sprint(r.vectors[fmt.Sprint("i", n)]) != fmt.Sprint(vector(text)) {
			return false
		}
	}
	return true
}

func (r *reader) log() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]string{}
	for item, value := range r.values {
		out[item] = value
	}
	return out
}

// From a policy's snapshot to what is served, and back.
func TestFromAPolicyToWhatIsServedAndBack(t *testing.T) {
	s := newSystem(t)
	configure(&s.Config)
	s.announce()
	s.interactions(0, 100)
	scorer := s.read()

	fake := miniredis.RunT(t)
	s.Config.Redis.Addr, s.Config.Redis.Timeout = fake.Addr(), 10*time.Second
	store, err := feature.Open(t.Context(), s.Config.Redis)
	require.NoError(t, err)
	defer store.Close()
	view := run(t, knowledge.New(s.Config, store, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)).Run)
	viewed := func(text string, step int64) bool {
		known, err := store.Knowledge(t.Context(), []string{"i0", "i17", "i29"})
		require.NoError(t, err)
		for _, k := range known {
			if k.Text != text || k.PolicyStep != step {
				return false
			}
		}
		return len(known) == 3
	}
	writes := run(t, pregenerate(s.Config))
	gate, _ := s.gate(openBag)
	s.eventually("texts of the model as it is", func() bool { return scorer.sees("c") && viewed("c", 0) })
	first := scorer.log()
	s.recommender(1, "c")

	s.learn(50, "ccc")
	st := s.reaches(1, stream.RolloutJudging)
	since, err := Since(t.Context(), s.Config.Kafka, st)
	require.NoError(t, err)
	require.Zero(t, since)
	s.interactions(100, 300)
	since, err = Since(t.Context(), s.Config.Kafka, st)
	require.NoError(t, err)
	require.EqualValues(t, 200, since)
	st = s.reaches(1, stream.RolloutPromoted)
	require.Equal(t, drafted, st.Moved)
	require.Positive(t, st.Decision.Evidence.Cold.Low)
	s.eventually("the better texts", func() bool { return scorer.sees("ccc") && viewed("ccc", 50) })
	second := scorer.log()

	// The recommender learns what it is now told; then a worse policy comes.
	s.recommender(2, "ccc")
	s.learn(100, "a")
	s.interactions(300, 500)
	st = s.reaches(2, stream.RolloutHeld)
	require.Negative(t, st.Decision.Evidence.Warm.High)
	require.Equal(t, second, scorer.log(), "what is held is not served")
	require.True(t, viewed("ccc", 50))

	s.put(stream.Decision{Rollout: 1, Action: stream.ActionRollback, By: stream.ByOperator})
	s.eventually("the first texts", func() bool { return scorer.sees("c") && viewed("c", 0) })
	s.reaches(2, stream.RolloutWithdrawn)
	require.Equal(t, first, scorer.log(), "bit for bit")

	for _, r := range []*running{gate, writes, view} {
		r.leave()
	}
}

// The same with one process that is killed again and again: every phase is reached, and
// in the end all is as it would be otherwise.
func TestTheWalkSurvivesKills(t *testing.T) {
	s := newSystem(t)
	configure(&s.Config)
	s.announce()
	s.interactions(0, 100)
	scorer := s.read()
	kills := 0
	// until starts the child, and kills it each time that something has changed.
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !ok(); {
			require.True(t, time.Now().Before(deadline), what)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(s.Config.Kafka.Brokers, ",")+"|"+s.Config.Kafka.TopicPrefix)
			require.NoError(t, cmd.Start())
			before, phase := s.written(), s.phase()
			s.eventually("the child does something", func() bool { return s.written() >= before+23 || s.phase() != phase || ok() })
			require.NoError(t, cmd.Process.Kill()) // SIGKILL
			_ = cmd.Wait()                         // killed
			kills++
		}
	}
	until("texts", func() bool { return scorer.sees("c") })
	first := scorer.log()
	s.recommender(1, "c")
	s.learn(50, "ccc")
	s.interactions(100, 300)
	until("promotion", func() bool { return s.phase() == "1 promoted" })
	s.eventually("the better texts", func() bool { return scorer.sees("ccc") })
	s.recommender(2, "ccc")
	s.learn(100, "a")
	s.interactions(300, 500)
	until("a hold", func() bool { return s.phase() == "2 held" })
	require.True(t, scorer.sees("ccc"))
	s.put(stream.Decision{Rollout: 1, Action: stream.ActionRollback, By: stream.ByOperator})
	until("the way back", func() bool { return s.phase() == "2 withdrawn" })
	s.eventually("the first texts", func() bool { return scorer.sees("c") })
	require.Equal(t, first, scorer.log())
	t.Logf("%d kills", kills)
	require.GreaterOrEqual(t, kills, 5)
}

func (s *system) phase() string {
	st, _ := s.topic()
	return fmt.Sprint(st.ID, " ", st.Phase)
}

// written is how many records of knowledge and drafts there are.
func (s *system) written() (n int) {
	s.Helper()
	for _, topic := range []string{s.Names().Knowledge(), s.Names().Rollouts()} {
		ctx, cancel := context.WithCancel(s.Context())
		err := stream.Follow(ctx, s.Config.Kafka, topic, func(*kgo.Record) error { n++; return nil }, cancel)
		require.ErrorIs(s, err, context.Canceled)
	}
	return n
}
