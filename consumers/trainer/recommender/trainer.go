package recommender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/consumers/trainer/journal"
	"seralm/models/online"
	"seralm/models/seqrec"
	"seralm/models/vocab"
	"seralm/stream"
)

// Model is a recommender whose whole state can be saved and restored bit by bit,
// and described to those who serve it.
type Model interface {
	seqrec.Recommender
	seqrec.Checkpointed
}

// Options are what a Trainer works with beside the configuration.
type Options struct {
	Model    Model
	Registry prometheus.Registerer
	Logger   *slog.Logger
	// AfterStep, when set, is called after each committed step; true ends Run,
	// with a checkpoint and a snapshot, as a cancelled context does.
	AfterStep func(Progress) bool
}

// Progress is how far a trainer is.
type Progress struct {
	Epoch, Step, Events int64
	Loss                seqrec.Loss
	Replayed            bool // learnt again from the journal after a restart
}

// Trainer is the consumer. It is used by one goroutine, in Run.
type Trainer struct {
	cfg     config.Config
	names   stream.Names
	opts    Options
	log     *slog.Logger
	metrics *metrics

	learner     *online.Learner
	checkpoints string // folder
	epoch       int64
	next        map[int32]int64 // interactions: offset after the last learnt record
	journalNext int64

	known   *known // nil for a Base
	samples *sampled
	txn     *stream.Txn
	slots   *stream.Slots
	merge   *stream.Merge
	letters *stream.DeadLetters

	// torn: the state in memory is not one the log knows, so it must not be saved.
	// A restart goes back to the checkpoint and the journal, which agree.
	torn      bool
	dirty     int                             // steps since the last snapshot
	published time.Time                       // of the last snapshot
	since     seqrec.Loss                     // over the steps since then: NLL is a sum here
	learnt    atomic.Pointer[map[int32]int64] // next, for the lag watcher
}

// New returns a trainer that has done nothing yet. With recommender.knowledge_dim the
// model must be an online.Knowing.
func New(cfg config.Config, o Options) *Trainer {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	t := cfg.Trainer
	sequencer := online.NewSequencer(online.SequencerOptions{
		MaxLen: cfg.Recommender.MaxLen, MaxUsers: t.MaxUsers, DedupWindow: t.DedupWindow,
		AdmitAfter: t.AdmitAfter, MaxItems: t.MaxItems, Replay: t.Replay, Seed: cfg.Recommender.Seed,
	})
	log, metrics := o.Logger.With("role", "trainer", "model", cfg.Recommender.Name), newMetrics(o.Registry)
	return &Trainer{
		cfg: cfg, names: stream.NamesOf(cfg.Kafka.TopicPrefix), opts: o,
		log: log, metrics: metrics, samples: newSampled(cfg, metrics.samples, log),
		learner:     online.NewLearner(sequencer, o.Model),
		checkpoints: filepath.Join(cfg.DataDir, "checkpoints", cfg.Recommender.Name),
		next:        map[int32]int64{},
	}
}

// Group is the consumer group whose offsets show how far the trainer is; nobody
// joins it.
func Group(model string) string { return "trainer-" + model }

// Run restores, catches up with the journal and learns until ctx ends, AfterStep
// says so, or something is wrong that a person or a restart must mend:
// stream.ErrFenced (a newer trainer took over: stay down), *stream.LostError (the
// log lost what was not learnt), or a transaction that failed. A cancelled context
// is a clean end: nil, with a checkpoint written.
func (t *Trainer) Run(ctx context.Context) error {
	if err := t.restore(); err != nil {
		return err
	}
	txn, err := stream.NewTxn(ctx, t.cfg.Kafka, t.names.Steps()+"/"+t.cfg.Recommender.Name)
	if err != nil {
		return fmt.Errorf("becoming the writer of model %s: %w", t.cfg.Recommender.Name, err)
	}
	t.txn = txn
	defer txn.Close()

	j, err := journal.Read(ctx, t.cfg.Kafka, t.cfg.Recommender.Name, "recommender.name", t.journalNext, int64(t.learner.StepNumber()))
	if err != nil {
		return err
	}
	if err := t.observe(ctx, len(j.Steps)); err != nil {
		return err
	}
	t.epoch = max(t.epoch, j.Epoch) + 1

	t.merge, err = stream.NewMerge(ctx, t.cfg.Kafka, t.names.Interactions(), t.next)
	if err != nil {
		return fmt.Errorf("reading %s: %w", t.names.Interactions(), err)
	}
	defer t.merge.Close()
	if err := t.samples.open(ctx, j.Steps); err != nil {
		return err
	}
	defer t.samples.close()

	opts, err := stream.ClientOptions(t.cfg.Kafka)
	if err != nil {
		return err
	}
	side, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("connecting the dead letters: %w", err)
	}
	defer side.Close()
	t.letters = stream.NewDeadLetters(side, t.names, "trainer", t.opts.Registry)

	aside, stopAside := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { t.watchLag(aside, kadm.NewClient(side)) })
	defer func() { stopAside(); beside.Wait() }()

	t.log.Info("trainer started", "epoch", t.epoch, "step", t.learner.StepNumber(), "steps_to_replay", len(j.Steps))
	behind, stop, err := j.Replay(ctx, t.replay)
	if behind == 0 {
		t.journalNext = j.Next
	}
	t.metrics.items.Set(float64(t.learner.Vocabulary().Rows() - vocab.FirstItem))
	live := err == nil && !stop && ctx.Err() == nil
	if live {
		t.learner.SetMaxItems(t.cfg.Trainer.MaxItems)
		t.learner.SetAdmitAfter(t.cfg.Trainer.AdmitAfter)
		err = t.samples.live(ctx)
	}
	if err == nil && live && t.cfg.Recommender.KnowledgeDim > 0 {
		t.known = newKnown(t.cfg, t.opts.Model, t.metrics.known, t.log)
		beside.Go(func() { t.known.follow(aside) })
		err = t.known.wait(ctx)
	}
	for err == nil && live && !stop && ctx.Err() == nil {
		stop, err = t.step(ctx)
	}
	if err != nil && (t.torn || ctx.Err() == nil) {
		return err
	}
	return t.finish(behind == 0)
}

// replay learns a journalled step again.
func (t *Trainer) replay(ctx context.Context, e journal.Entry) (stop bool, err error) {
	s := e.Step
	records, err := t.merge.Ranges(ctx, s.Ranges, s.Order)
	if err != nil {
		return false, fmt.Errorf("replaying step %d: %w", s.Step, err)
	}
	// What was poison then is poison now: it went to the dead letters already.
	events, _ := decode(records)
	samples, err := t.samples.again(ctx, t.merge.Offsets(), s.Samples)
	if err != nil {
		return false, fmt.Errorf("replaying step %d: %w", s.Step, err)
	}
	t.learner.SetMaxItems(s.MaxItems)
	if s.AdmitAfter > 0 {
		t.learner.SetAdmitAfter(s.AdmitAfter)
	}
	batch := t.form(events, samples.learnable)
	told := make([]online.Known, len(s.Knowledge))
	for i, k := range s.Knowledge {
		told[i] = online.Known{Item: k.Item, Vector: k.Vector}
	}
	r, err := t.learn(ctx, batch, events, told)
	if err != nil {
		return false, err
	}
	t.journalNext = e.Next
	t.advance(samples)
	return t.after(r, true)
}

// form is what events and samples teach in the next step.
func (t *Trainer) form(events []online.Event, samples []online.Sample) online.Batch {
	step := t.learner.StepNumber() + 1
	batch := t.learner.Next(events, step)
	batch.Sampled = t.learner.Sample(samples, step)
	return batch
}

// step forms, learns and commits one micro-batch, with what became known of items
// since the last one and the samples that came, or publishes what waits when nothing does.
func (t *Trainer) step(ctx context.Context) (stop bool, err error) {
	records, err := t.batch(ctx)
	if err != nil || ctx.Err() != nil {
		return false, err
	}
	began := time.Now()
	events, poison := decode(records)
	for _, p := range poison {
		if err := t.letters.Put(ctx, p.record, "invalid interaction", p.err); err != nil {
			return false, err
		}
	}
	samples := t.samples.due(len(records) > 0, t.merge.Offsets(), t.known.readEncoder())
	batch := t.form(events, samples.learnable)
	told, err := t.known.due(t.learner.Vocabulary(), batch.Renewed)
	if err != nil {
		t.torn = true // the events are in the histories, and learnt they are not
		return false, err
	}
	if len(records) == 0 && len(told) == 0 && samples.batch == nil {
		if t.dirty > 0 && time.Since(t.published) >= t.cfg.Trainer.SnapshotEach {
			return false, t.commit(ctx, nil)
		}
		return false, nil
	}
	r, err := t.learn(ctx, batch, events, told)
	if err != nil {
		return false, err
	}
	s := &stream.Step{Model: t.cfg.Recommender.Name, Epoch: t.epoch, Step: int64(r.Step), Events: len(records), MaxItems: t.cfg.Trainer.MaxItems, AdmitAfter: t.cfg.Trainer.AdmitAfter, Samples: samples.batch, Loss: r.Loss.NLL}
	if len(records) > 0 {
		s.Ranges, s.Order = t.merge.Taken()
	}
	for _, k := range told {
		s.Knowledge = append(s.Knowledge, stream.ItemVector{Item: k.Item, Vector: k.Vector})
	}
	t.advance(samples)
	err = t.commit(ctx, s)
	if err != nil {
		return false, err
	}
	t.metrics.stepTime.Observe(time.Since(began).Seconds())
	return t.after(r, false)
}

// batch waits for the next micro-batch, but not longer than the next snapshot may
// wait, nor than it takes until there is knowledge to tell, or there may be samples to
// learn: then it is empty.
func (t *Trainer) batch(ctx context.Context) ([]*kgo.Record, error) {
	enough, err := t.samples.read(ctx)
	if err != nil {
		return nil, err
	}
	if enough { // events that are there come along
		return t.merge.Ready(ctx, t.cfg.Trainer.BatchEvents)
	}
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	if t.samples.on {
		// Linger besides, or an event of the last moment would wait for its end again and again.
		wait, cancel = context.WithTimeout(wait, sampleLook+t.cfg.Trainer.Linger)
		defer cancel()
	}
	if t.dirty > 0 {
		wait, cancel = context.WithDeadline(wait, t.published.Add(t.cfg.Trainer.SnapshotEach))
		defer cancel()
	}
	defer t.known.onArrival(cancel)()
	records, err := t.merge.Batch(wait, t.cfg.Trainer.BatchEvents, t.cfg.Trainer.Linger)
	if err != nil && wait.Err() != nil {
		return nil, nil
	}
	return records, err
}

func (t *Trainer) learn(ctx context.Context, batch online.Batch, events []online.Event, told []online.Known) (online.Result, error) {
	// A step that has begun is finished: half of one is no state to save.
	r, err := t.learner.Learn(context.WithoutCancel(ctx), batch, events, told)
	if err != nil {
		t.torn = true
		return r, err
	}
	t.metrics.step.Set(float64(r.Step))
	t.metrics.events.Add(float64(r.Events))
	t.metrics.duplicates.Add(float64(r.Duplicates))
	t.metrics.items.Set(float64(t.learner.Vocabulary().Rows() - vocab.FirstItem))
	t.metrics.expired.Add(float64(len(batch.Renewed)))
	t.metrics.samples.WithLabelValues(sampleLearnt).Add(float64(r.Samples))
	t.metrics.samples.WithLabelValues(sampleUnknown).Add(float64(batch.Sampled.Unknown))
	if r.Numeric == nil {
		t.metrics.loss.Set(r.Loss.NLL)
		t.since.NLL += r.Loss.NLL * float64(r.Loss.Targets)
		t.since.Targets += r.Loss.Targets
		return r, nil
	}
	t.metrics.badSteps.Inc()
	t.log.Warn("step skipped: its update is not finite", "step", r.Step, "in_a_row", r.BadSteps, "error", r.Numeric)
	if r.BadSteps%t.cfg.Trainer.MaxBadSteps == 0 {
		// Replaying the journal meets the same bad steps and comes by here again,
		// so going back is part of the deterministic course of the model.
		if err := t.revert(); err != nil {
			t.torn = true
			return r, err
		}
	}
	return r, nil
}

// advance notes that what the merge returned last is learnt, and some samples.
func (t *Trainer) advance(samples taken) {
	t.next = t.merge.Offsets()
	t.dirty++
	next := t.next
	t.learnt.Store(&next)
	t.samples.advance(samples)
}

// commit writes, in one transaction: the journal record of the step (none when
// idle), the group's offsets of what it took, and a snapshot when one is due.
func (t *Trainer) commit(ctx context.Context, s *stream.Step) error {
	now := time.Now()
	// A commit is not cut short by a shutdown: it would throw the step away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()

	var records []*kgo.Record
	if s != nil {
		rec, err := stream.NewRecord(t.names.Steps(), s.Model, fmt.Sprintf("%d-%d", s.Epoch, s.Step), "seralm/trainer", now, *s)
		if err != nil {
			t.torn = true
			return fmt.Errorf("journalling step %d: %w", s.Step, err)
		}
		rec.Partition = journal.Partition
		records = append(records, rec)
	}
	due := s == nil || t.published.IsZero() || t.dirty >= t.cfg.Trainer.SnapshotStep || now.Sub(t.published) >= t.cfg.Trainer.SnapshotEach
	if due {
		chunks, size, err := t.snapshot(ctx, now)
		if err != nil {
			t.torn = true
			return err
		}
		records = append(records, chunks...)
		t.metrics.snapshotBytes.Set(float64(size))
	}
	err := t.txn.Begin()
	if err == nil {
		err = t.txn.Produce(ctx, records...)
	}
	if err == nil {
		err = t.txn.CommitOffsets(ctx, Group(t.cfg.Recommender.Name), t.names.Interactions(), t.next)
	}
	if err == nil && s != nil && s.Samples != nil {
		err = t.txn.CommitOffsets(ctx, Group(t.cfg.Recommender.Name), t.names.Samples(), t.samples.next)
	}
	if err == nil {
		err = t.txn.Commit(ctx)
	}
	if err != nil {
		t.torn = true
		return fmt.Errorf("committing step %d: %w", t.learner.StepNumber(), err)
	}
	if s != nil {
		t.journalNext = records[0].Offset + 1
	}
	if due {
		t.dirty, t.published, t.since = 0, now, seqrec.Loss{}
		t.metrics.snapshots.Inc()
	}
	return nil
}

// after is what follows a learnt step, replayed or not.
func (t *Trainer) after(r online.Result, replayed bool) (stop bool, err error) {
	// At fixed steps, so that replaying passes the same checkpoints.
	if r.Step%uint64(t.cfg.Trainer.CheckpointN) == 0 {
		if err := t.checkpoint(); err != nil {
			return false, err
		}
	}
	if t.opts.AfterStep == nil {
		return false, nil
	}
	return t.opts.AfterStep(Progress{Epoch: t.epoch, Step: int64(r.Step), Events: t.learner.Events(), Loss: r.Loss, Replayed: replayed}), nil
}

// finish ends a run in good order; publish says that this is the newest there is.
func (t *Trainer) finish(publish bool) error {
	var errs []error
	if publish && t.dirty > 0 {
		errs = append(errs, t.commit(context.Background(), nil))
	}
	if t.learner.StepNumber() > 0 {
		errs = append(errs, t.checkpoint())
	}
	return errors.Join(errs...)
}

func (t *Trainer) watchLag(ctx context.Context, admin *kadm.Client) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// A gauge keeps its last value; the consumer itself reports a lost broker.
		if n, err := lag(ctx, admin, t.names.Interactions(), t.learnt.Load(), t.merge.Idle()); err == nil {
			t.metrics.lag.Set(float64(n))
		}
		if !t.samples.on {
			continue
		}
		if n, err := lag(ctx, admin, t.names.Samples(), t.samples.learnt.Load(), nil); err == nil {
			t.metrics.samplesLag.Set(float64(n))
		}
	}
}

// lag is how many offsets of a topic lie behind those learnt (nil: none is). Up to idle
// there is nothing to learn: where the log ends with the marks of transactions, the last
// record learnt is not its end.
func lag(ctx context.Context, admin *kadm.Client, topic string, next *map[int32]int64, idle map[int32]int64) (n int64, err error) {
	ends, err := stream.CommittedEnds(ctx, admin, topic)
	if err != nil {
		return 0, err
	}
	var learnt map[int32]int64
	if next != nil {
		learnt = *next
	}
	for p, end := range ends {
		n += max(0, end-max(learnt[p], idle[p]))
	}
	return n, nil
}

type poisoned struct {
	record *kgo.Record
	err    error
}

func decode(records []*kgo.Record) (events []online.Event, poison []poisoned) {
	for _, rec := range records {
		ev, err := stream.DecodeInteraction(rec)
		if err != nil {
			poison = append(poison, poisoned{rec, err})
			continue
		}
		events = append(events, online.Event{
			Key: online.EventKey(ev.Source, ev.ID), User: ev.Body.User, Item: ev.Body.Item, Time: ev.Time,
		})
	}
	return events, poison
}
