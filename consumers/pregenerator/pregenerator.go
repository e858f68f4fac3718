package pregenerator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"seralm/config"
	"seralm/feature"
	"seralm/prompts"
	"seralm/stream"
)

// Ask is what a language model is asked about one item.
type Ask struct{ System, User string }

// Answer is its text, and how many tokens it took. An empty text is no answer.
type Answer struct {
	Text   string
	Tokens int
}

// Writer is a language model.
type Writer interface {
	// Version names the model and its parameters, with the adapter that is loaded.
	Version() stream.ModelVersion
	// Load takes the adapter of a policy, or with nil is the model as it is again. On an
	// error it is what it was.
	Load(policy *stream.PolicySnapshot) error
	// Write answers each ask. attempt is 0, and higher when an ask had no answer before.
	Write(ctx context.Context, asks []Ask, attempt int) ([]Answer, error)
}

// Encoder makes vectors of texts.
type Encoder interface {
	// Version: vectors of two versions have nothing to do with each other.
	Version() string
	Encode(ctx context.Context, texts []string) ([][]float32, error)
}

// Popularity tells which items are popular, most first. *feature.Store does.
type Popularity interface {
	Popular(ctx context.Context, n int) ([]feature.Scored, error)
}

// Options are the parts of a Pregenerator. All but Popular are needed.
type Options struct {
	Writer   Writer
	Encoder  Encoder
	Popular  Popularity // nil: the newest items alone come first
	Registry prometheus.Registerer
	Logger   *slog.Logger
	// Once ends Run when nothing is left to do, instead of waiting for new items.
	Once bool
}

// Pregenerator writes the knowledge topic.
type Pregenerator struct {
	Options
	cfg      config.Config
	names    stream.Names
	template *prompts.Template
	metrics  *metrics
	rolling  *rolloutMetrics
	progress progress
	base     stream.ModelVersion    // of the language model without an adapter
	ledger   atomic.Pointer[ledger] // of the present session

	// quiet is how long the writer that fenced this one must have written nothing
	// before this one takes over again.
	quiet time.Duration
}

// New returns a pregenerator that has not started.
func New(cfg config.Config, o Options) (*Pregenerator, error) {
	template, err := prompts.Load(cfg.Knowledge.Domain)
	if err != nil {
		return nil, err
	}
	o.Logger = o.Logger.With("role", "pregenerator")
	p := &Pregenerator{
		Options: o, cfg: cfg, names: stream.NamesOf(cfg.Kafka.TopicPrefix), template: template, quiet: 5 * time.Minute,
		base: o.Writer.Version(),
	}
	p.rolling = newRolloutMetrics(o.Registry)
	p.metrics = newMetrics(o.Registry, p.waits)
	return p, nil
}

const (
	// againAfter is the pause before the log is read again after a commit without an
	// answer.
	againAfter = time.Second
	// complainEach keeps one trouble from filling the log.
	complainEach = 30 * time.Second
)

// transactionalID, after the topic prefix, is that of the one writer of a system.
const transactionalID = "pregenerator"

// errDone ends a session that has nothing left to do.
var errDone = errors.New("everything is written")

// Run writes until ctx ends, which is a clean end (nil): what is written by then is
// published. With Options.Once it ends when nothing is left, too.
//
// While brokers are away it waits. A commit whose outcome nobody knows makes it read
// the log again. When another pregenerator takes over, it stands by until that one
// has been quiet for a while; with Once that is an error. Other errors are final.
func (p *Pregenerator) Run(ctx context.Context) error {
	for {
		err := p.session(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(err, errDone):
			return nil //nolint:nilerr // it ended because it was asked to, or is done
		case errors.Is(err, stream.ErrFenced) && !p.Once:
			p.Logger.Warn("another pregenerator has taken over; standing by until it is quiet", "error", err)
			p.rolling.show(stream.Rollout{}, 0) // that one shows it now
			p.ledger.Store(nil)                 // and what waits to be written
			if err := p.standBy(ctx); err != nil {
				return fmt.Errorf("standing by: %w", err)
			}
		case errors.Is(err, stream.ErrFenced):
			return fmt.Errorf("another pregenerator has taken over: %w", err)
		case errors.Is(err, stream.ErrUnknownOutcome), errors.Is(err, stream.ErrAborted):
			p.Logger.Warn("a batch may not have been published; reading the log again", "error", err)
			pause(ctx, againAfter)
		default:
			return fmt.Errorf("writing knowledge: %w", err)
		}
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// standBy returns when nobody has written knowledge, or drafts of it, for a while.
func (p *Pregenerator) standBy(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(p.quiet, cancel)
	defer idle.Stop()
	group, following := errgroup.WithContext(ctx)
	for _, topic := range []string{p.names.Knowledge(), p.names.Rollouts()} {
		group.Go(func() error {
			return stream.Follow(following, p.cfg.Kafka, topic, func(*kgo.Record) error {
				idle.Reset(p.quiet)
				return nil
			}, func() {})
		})
	}
	err := group.Wait()
	if ctx.Err() != nil {
		return nil // the wait is over, or the process ends
	}
	return err
}

// session is one life of a transactional writer, from reading what the log holds on.
type session struct {
	*Pregenerator
	ledger  *ledger
	out     *publisher
	vectors chan job
	// Each is closed when that topic was read to its end.
	knowledge, items chan struct{}
	failures         int // of the language model, in a row
	rolls            *rolls
}

func (p *Pregenerator) session(ctx context.Context) error {
	// First, so that no record of the writer before comes after our reading.
	txn, err := stream.NewTxn(ctx, p.cfg.Kafka, p.cfg.Kafka.TopicPrefix+transactionalID)
	if err != nil {
		return err
	}
	defer txn.Close()
	l := newLedger(p.cfg.Knowledge.MaxItems, p.base, p.Encoder.Version())
	s := &session{
		Pregenerator: p, ledger: l, out: &publisher{txn: txn, ledger: l, topic: p.names.Knowledge()},
		vectors: make(chan job, vectorJobs), knowledge: make(chan struct{}), items: make(chan struct{}),
	}
	s.rolls = newRolls(s)
	p.ledger.Store(l)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.rolls.follow(ctx) })
	group.Go(func() error { return s.rolls.followPolicy(ctx) })
	group.Go(func() error {
		if !s.await(ctx, s.rolls.caughtUp) {
			return ctx.Err()
		}
		return stream.Follow(ctx, p.cfg.Kafka, p.names.Knowledge(), func(rec *kgo.Record) error { return s.onKnowledge(ctx, rec) },
			func() { close(s.knowledge) })
	})
	group.Go(func() error {
		if !s.await(ctx, s.knowledge) {
			return ctx.Err()
		}
		return stream.Follow(ctx, p.cfg.Kafka, p.names.Items(), func(rec *kgo.Record) error { return s.onItem(ctx, rec) },
			func() { close(s.items) })
	})
	group.Go(func() error { return s.sweep(ctx) })
	group.Go(func() error { return s.encode(ctx) })
	group.Go(func() error { return s.write(ctx) })
	group.Go(func() error { return s.report(ctx) })
	return group.Wait()
}

// await waits until c is closed; false when ctx ends first.
func (s *session) await(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-ctx.Done():
		return false
	}
}

// onItem takes a record of the items topic. While title vectors wait to be made, so
// does the reading: this bounds the texts in memory.
func (s *session) onItem(ctx context.Context, rec *kgo.Record) error {
	ev, err := stream.DecodeItem(rec)
	if err != nil {
		if s.refused("invalid") {
			s.Logger.Warn("an item event is invalid and has no effect", "offset", rec.Offset, "partition", rec.Partition, "error", err)
		}
		return nil
	}
	words := prompts.Words(promptItem(ev.Body))
	if !ev.Deleted && words == "" && s.refused("empty") {
		s.Logger.Warn("an item without title, categories and text gets no knowledge", "item", ev.Body.Item)
	}
	hash := s.template.Hash(promptItem(ev.Body))
	d, ok := s.ledger.item(ev, rec.Timestamp, hash, words != "")
	if !ok {
		if s.refused("full") {
			s.Logger.Warn("there are more items than knowledge.max_items; the others get no knowledge", "max_items", s.cfg.Knowledge.MaxItems)
		}
		return nil
	}
	if d == nothing || d == text {
		return nil
	}
	s.ledger.handed(1)
	return s.hand(ctx, job{ev.Body.Item, place{ev.Partition, ev.Offset}, words, hash})
}

func (s *session) onKnowledge(ctx context.Context, rec *kgo.Record) error {
	ev, err := stream.DecodeKnowledge(rec)
	if err != nil {
		if s.refused("invalid") {
			s.Logger.Warn("a knowledge record is invalid and has no effect", "offset", rec.Offset, "partition", rec.Partition, "error", err)
		}
		return nil
	}
	d, err := s.ledger.learn(ev, rec.Timestamp)
	if err != nil || d == nothing || d == text {
		return err
	}
	select {
	case <-s.items: // before, the sweep to come hands it out
		s.ledger.handed(1)
		return s.hand(ctx, job{item: ev.Body.Item})
	default:
		return nil
	}
}

// sweep hands out what the topics held already, and lets texts be written.
func (s *session) sweep(ctx context.Context) error {
	if !s.await(ctx, s.items) {
		return ctx.Err()
	}
	for _, id := range s.ledger.sweep() {
		if err := s.hand(ctx, job{item: id}); err != nil {
			return err
		}
	}
	return nil
}

// refused counts an item or record that nothing is done for, and reports whether people
// are to be told: now and then.
func (s *session) refused(reason string) bool {
	s.metrics.refused.WithLabelValues(reason).Inc()
	return s.progress.mayComplain()
}
