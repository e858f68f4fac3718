package generator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"seralm/config"
	"seralm/models/align"
	"seralm/models/snapshot"
	"seralm/stream"
)

// Options are the parts of a Generator.
type Options struct {
	Policy   Policy
	Encoder  Encoder
	Open     Open
	Registry prometheus.Registerer
	Logger   *slog.Logger
	// AfterCommit, when set, is told of each commit; true ends Run, as a cancelled
	// context does.
	AfterCommit func(Progress) bool
}

// Progress is how far a generator is.
type Progress struct {
	Samples int64 // written since the policy began
	Policy  stream.ModelVersion
}

// Generator is the consumer.
type Generator struct {
	Options
	cfg     config.Config
	names   stream.Names
	metrics *metrics
	sampler *Sampler
	watch   *watch

	mu        sync.Mutex
	announced announced

	// Of the goroutine that works.
	pacer   *align.Pacer
	state   state
	merge   *stream.Merge
	pending []*kgo.Record // read, not looked at
	txn     *stream.Txn
	slots   *stream.Slots
	loaded  bool // the newest policy at start was looked for
	blind   bool // it was told that the recommender cannot judge texts yet
}

// New returns a generator that has not started.
func New(cfg config.Config, o Options) (*Generator, error) {
	sampler, err := NewSampler(cfg, o)
	if err != nil {
		return nil, err
	}
	pacer, err := align.NewPacer(cfg.Alignment.Refresh, cfg.Alignment.Batch)
	if err != nil {
		return nil, err
	}
	o.Logger = o.Logger.With("role", "generator")
	return &Generator{
		Options: o, cfg: cfg, names: stream.NamesOf(cfg.Kafka.TopicPrefix), metrics: sampler.metrics, sampler: sampler,
		watch: newWatch(cfg, o.Logger), announced: announced{}, pacer: pacer,
	}, nil
}

// Group is the consumer group whose offsets show how far the generator is; nobody
// joins it.
func Group(policy string) string { return "generator-" + policy }

// errDone ends a run that AfterCommit wanted to end.
var errDone = errors.New("done")

// Run samples until ctx ends (nil), AfterCommit says so, or something is wrong that a
// person or a restart must mend: stream.ErrFenced (a newer generator took over: stay
// down), *stream.LostError (the log lost what was not looked at), a snapshot that
// cannot be used, or a transaction that failed.
func (g *Generator) Run(ctx context.Context) error {
	defer g.sampler.Close()
	txn, err := stream.NewTxn(ctx, g.cfg.Kafka, g.names.Samples()+"/"+g.cfg.Alignment.Name)
	if err != nil {
		return fmt.Errorf("becoming the generator of policy %s: %w", g.cfg.Alignment.Name, err)
	}
	g.txn = txn
	defer txn.Close()
	var last *stream.Blob
	if g.slots, last, err = stream.ReadSlots(ctx, g.cfg.Kafka, stateKey(g.cfg.Alignment.Name), stateSlots); err != nil {
		return err
	}
	if g.state, err = readState(last); err != nil {
		return err
	}
	g.state.Epoch++
	described := make(chan struct{})
	work, working := errgroup.WithContext(ctx)
	work.Go(func() error { return g.watch.follow(working) })
	work.Go(func() error {
		return stream.Follow(working, g.cfg.Kafka, g.names.Items(), g.onItem, func() { close(described) })
	})
	work.Go(func() error {
		for _, c := range []chan struct{}{g.watch.caughtUp, described} {
			select {
			case <-c:
			case <-working.Done():
				return working.Err()
			}
		}
		return g.work(working)
	})
	if err := work.Wait(); !errors.Is(err, errDone) && (ctx.Err() == nil || !errors.Is(err, ctx.Err())) {
		return err
	}
	return nil
}

func (g *Generator) onItem(rec *kgo.Record) error {
	ev, err := stream.DecodeItem(rec)
	if err != nil {
		return nil // the consumers of items set it aside; nobody writes about it
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.announced.take(ev, g.cfg.Knowledge.MaxItems) {
		g.metrics.refused.WithLabelValues("full").Inc()
	}
	return nil
}

func (g *Generator) place(item string) (place, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.announced[item]
	return at, ok
}

func (g *Generator) work(ctx context.Context) error {
	// Before rewinding, for this looks whether the log still holds that place.
	var err error
	if g.merge, err = stream.NewMerge(ctx, g.cfg.Kafka, g.names.Interactions(), g.state.Next); err != nil {
		return fmt.Errorf("reading %s: %w", g.names.Interactions(), err)
	}
	defer g.merge.Close()
	if err := g.rewind(ctx); err != nil {
		return fmt.Errorf("rebuilding histories: %w", err)
	}
	g.Logger.Info("generator started", "epoch", g.state.Epoch, "samples", g.state.Samples)
	for {
		if err := g.refresh(ctx); err != nil {
			return err
		}
		group, err := g.collect(ctx, min(g.cfg.Alignment.Group, g.pacer.Free()))
		if err != nil {
			return err
		}
		for range group {
			g.pacer.Begin()
		}
		began := time.Now()
		samples, err := g.sampler.Sample(ctx, group)
		if err != nil {
			return err
		}
		tokens := 0
		for _, s := range samples {
			for _, c := range s.Candidates {
				tokens += len(c.Tokens)
			}
		}
		g.metrics.wrote(tokens, time.Since(began))
		had := g.state.Samples
		if err := g.commit(ctx, samples); err != nil {
			return err
		}
		for i := range group {
			g.pacer.End(int64(i) < g.state.Samples-had)
		}
		if g.AfterCommit != nil && g.AfterCommit(Progress{g.state.Samples, g.Policy.Version()}) {
			return errDone
		}
	}
}

// rewind builds histories and recent instances from what the log holds before the place
// where the generator before was.
func (g *Generator) rewind(ctx context.Context) error {
	if len(g.state.Next) == 0 {
		return nil
	}
	m, err := stream.NewMerge(ctx, g.cfg.Kafka, g.names.Interactions(), nil)
	if err != nil {
		return err
	}
	defer m.Close()
	for before(m.Offsets(), g.state.Next) {
		records, err := m.Batch(ctx, 4096, 0)
		if err != nil {
			return err
		}
		for _, rec := range records {
			// What the order of times puts here, and the order of arrival had later, comes again.
			if rec.Offset < g.state.Next[rec.Partition] {
				g.learn(rec)
			}
		}
	}
	return nil
}

func before(at, next map[int32]int64) bool {
	for p, n := range next {
		if at[p] < n {
			return true
		}
	}
	return false
}

// learn takes an interaction in, and returns the instance that it is.
func (g *Generator) learn(rec *kgo.Record) (Instance, bool) {
	ev, err := stream.DecodeInteraction(rec)
	if err != nil {
		// The consumers that learn from interactions set it aside.
		g.metrics.refused.WithLabelValues("invalid_interaction").Inc()
		return Instance{}, false
	}
	return g.sampler.Observe(ev)
}

// refresh takes the newest snapshots when they are due, and returns when there is room
// for another sample.
func (g *Generator) refresh(ctx context.Context) error {
	began := time.Now()
	defer func() { g.metrics.idle.Add(time.Since(began).Seconds()) }()
	for {
		policy, model, news := g.watch.newest(g.cfg.Recommender.Name)
		if err := g.load(policy, model); err != nil {
			return err
		}
		free := g.pacer.Free()
		g.metrics.capacity.Set(float64(free))
		if g.sampler.judge != nil && free > 0 {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// load takes both snapshots when the policy has come to another span of
// alignment.refresh iterations. The spans are the trainer's: it publishes where one ends,
// and wherever it was stopped, which is where this one may have begun.
func (g *Generator) load(policy *stream.PolicySnapshot, model *stream.Blob) error {
	span := func(step int64) int64 { return step / int64(max(1, g.cfg.Alignment.Refresh)) }
	due := policy != nil && (!g.loaded || span(policy.Policy.Step) > span(g.Policy.Version().Step))
	if due {
		if err := g.Policy.Load(*policy); err != nil {
			return fmt.Errorf("taking the policy's snapshot %d/%d: %w (with another model or adapter, set another alignment.name)", policy.Epoch, policy.Policy.Step, err)
		}
		g.metrics.policyStep.Set(float64(policy.Policy.Step))
	}
	if version := g.Policy.Version().Step; !g.loaded {
		g.pacer.Rebase(version, max(0, g.state.Samples-version*int64(g.cfg.Alignment.Batch)))
		g.loaded = true
	} else {
		g.pacer.Step(version)
	}
	if model == nil || g.sampler.judge != nil && !due {
		return nil
	}
	snap, err := decode(model)
	if err == nil {
		err = g.sampler.Judge(snap)
	}
	if errors.Is(err, ErrBlind) { // rewards would be noise: the next one may do
		if !g.blind {
			g.blind = true
			g.Logger.Warn("no text is sampled until the recommender has learnt from what is known of items: does a pregenerator run, and have items a title?",
				"recommender", snap.Model, "step", snap.Step)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if g.blind {
		g.blind = false
		g.Logger.Info("the recommender reads texts: sampling goes on", "recommender", snap.Model, "step", snap.Step)
	}
	if base := g.cfg.Alignment.Base; base != "" && g.sampler.base == nil {
		_, frozen, _ := g.watch.newest(base)
		if frozen == nil {
			return fmt.Errorf("alignment.base names recommender %s, of which the snapshots topic has none: train it first", base)
		}
		if snap, err = decode(frozen); err == nil {
			err = g.sampler.Freeze(snap)
		}
	}
	return err
}

func decode(blob *stream.Blob) (*snapshot.Snapshot, error) {
	s, err := snapshot.Decode(blob.Manifest, blob.Payload)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", blob.ID, err)
	}
	return s, nil
}

// unsampled is how many interactions are looked at before their place is committed,
// though no instance was found among them.
const unsampled = 10_000

// collect reads on until it has n instances to sample from.
func (g *Generator) collect(ctx context.Context, n int) ([]Chosen, error) {
	var group []Chosen
	for looked := 0; len(group) < n && looked < unsampled; looked++ {
		if len(g.pending) == 0 {
			var err error
			if g.pending, err = g.merge.Batch(ctx, 256, 0); err != nil {
				return nil, err
			}
		}
		rec := g.pending[0]
		g.pending = g.pending[1:]
		in, ok := g.learn(rec)
		g.state.Next[rec.Partition] = rec.Offset + 1
		if !ok {
			continue
		}
		item, ok := g.sampler.Choose(in, func(item string) bool {
			_, ok := g.place(item)
			return ok
		})
		if !ok {
			continue
		}
		meta, ok, err := g.describe(ctx, item)
		if err != nil {
			return nil, err
		}
		if ok {
			group = append(group, Chosen{in, meta})
		}
	}
	return group, nil
}

// describe reads an item's newest event again; false when it is about to change.
func (g *Generator) describe(ctx context.Context, item string) (stream.Item, bool, error) {
	at, ok := g.place(item)
	if !ok {
		return stream.Item{}, false, nil
	}
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	rec, err := stream.ReadRecord(wait, g.cfg.Kafka, g.names.Items(), at.partition, at.offset)
	if errors.Is(err, stream.ErrGone) {
		g.metrics.refused.WithLabelValues("item_changed").Inc()
		return stream.Item{}, false, nil
	}
	if err != nil {
		return stream.Item{}, false, err
	}
	ev, err := stream.DecodeItem(rec)
	if err != nil {
		return stream.Item{}, false, fmt.Errorf("topic %s partition %d offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
	}
	return ev.Body, true, nil
}

// commit writes, in one transaction: samples, the generator's state, and its group's
// offsets.
func (g *Generator) commit(ctx context.Context, samples []stream.Sample) error {
	// A commit is not cut short by a shutdown: it would throw the samples away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	var records []*kgo.Record
	for _, s := range samples {
		// Later than the one before, whatever the clock says.
		now := time.Now().UTC().Truncate(time.Millisecond)
		if !now.After(g.state.Last) {
			now = g.state.Last.Add(time.Millisecond)
		}
		g.state.Last = now
		id := fmt.Sprintf("%s/%d", g.cfg.Alignment.Name, g.state.Samples)
		rec, err := stream.NewRecord(g.names.Samples(), s.Item, id, "seralm/generator", now, s)
		var invalid *stream.InvalidError
		if errors.As(err, &invalid) { // too large: the rest was looked at
			g.metrics.refused.WithLabelValues(invalid.Field).Inc()
			continue
		}
		if err != nil {
			return err
		}
		g.state.Samples++
		records = append(records, rec)
	}
	written := len(records)
	own, err := g.state.records(g.slots, g.names.Snapshots(), stateKey(g.cfg.Alignment.Name))
	if err != nil {
		return err
	}
	records = append(records, own...)
	if err = g.txn.Begin(); err == nil {
		err = g.txn.Produce(ctx, records...)
	}
	if err == nil {
		err = g.txn.CommitOffsets(ctx, Group(g.cfg.Alignment.Name), g.names.Interactions(), maps.Clone(g.state.Next))
	}
	if err == nil {
		err = g.txn.Commit(ctx)
	}
	if err != nil {
		return fmt.Errorf("committing samples up to number %d: %w", g.state.Samples, err)
	}
	g.metrics.samples.Add(float64(written))
	if lag, err := g.merge.Lag(ctx); err == nil { // it is a gauge; a lost broker shows elsewhere
		g.metrics.lag.Set(float64(lag + int64(len(g.pending))))
	}
	return nil
}
