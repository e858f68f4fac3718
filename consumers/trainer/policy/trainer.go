package policy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/consumers/trainer/journal"
	"seralm/stream"
)

// Options are what a Trainer works with beside the configuration.
type Options struct {
	Model    Model
	Registry prometheus.Registerer
	Logger   *slog.Logger
	// AfterStep, when set, is called after each committed iteration; true ends Run, with
	// a checkpoint and a snapshot, as a cancelled context does.
	AfterStep func(Progress) bool
}

// Progress is how far a trainer is.
type Progress struct {
	Epoch, Step, Samples int64
	Reward               float64 // mean of the iteration's texts
	Replayed             bool    // learnt again from the journal after a restart
}

// Trainer is the consumer. It is used by one goroutine, in Run.
type Trainer struct {
	cfg     config.Config
	names   stream.Names
	opts    Options
	log     *slog.Logger
	metrics *metrics

	learner     *Learner
	checkpoints string // folder
	epoch       int64
	next        map[int32]int64 // samples: offset after the last learnt record
	journalNext int64

	txn     *stream.Txn
	slots   *stream.Slots
	merge   *stream.Merge
	letters *stream.DeadLetters

	// torn: the state in memory is not one the log knows, so it must not be saved.
	torn  bool
	dirty bool // there is more than was published
}

// New returns a trainer that has done nothing yet.
func New(cfg config.Config, o Options) *Trainer {
	return &Trainer{
		cfg: cfg, names: stream.NamesOf(cfg.Kafka.TopicPrefix), opts: o,
		log:         o.Logger.With("role", "policy", "model", cfg.Alignment.Name),
		metrics:     newMetrics(o.Registry),
		learner:     NewLearner(cfg.Alignment, o.Model),
		checkpoints: filepath.Join(cfg.DataDir, "checkpoints", cfg.Alignment.Name),
		next:        map[int32]int64{},
	}
}

// Group is the consumer group whose offsets show how far the trainer is; nobody joins it.
func Group(policy string) string { return "policy-" + policy }

// snapshotSlots are kept in the topic.
const snapshotSlots = 4

// Run restores, catches up with the journal and learns until ctx ends, AfterStep says
// so, or something is wrong that a person or a restart must mend: stream.ErrFenced (a
// newer trainer took over: stay down), *stream.LostError (the log lost what is to be
// learnt again, or was made anew), or a transaction that failed. A cancelled context is a clean end: nil, with a
// checkpoint written.
func (t *Trainer) Run(ctx context.Context) error {
	name := t.cfg.Alignment.Name
	if err := t.restore(); err != nil {
		return err
	}
	txn, err := stream.NewTxn(ctx, t.cfg.Kafka, t.names.Steps()+"/"+name)
	if err != nil {
		return fmt.Errorf("becoming the writer of policy %s: %w", name, err)
	}
	t.txn = txn
	defer txn.Close()
	j, err := journal.Read(ctx, t.cfg.Kafka, name, "alignment.name", t.journalNext, t.learner.Step)
	if err != nil {
		return err
	}
	t.epoch = max(t.epoch, j.Epoch) + 1
	if t.slots, _, err = stream.ReadSlots(ctx, t.cfg.Kafka, name, snapshotSlots); err != nil {
		return err
	}
	if t.learner.Step == 0 {
		if t.next, err = t.beginning(ctx, j.Steps); err != nil {
			return fmt.Errorf("looking where %s begins in %s: %w", name, t.names.Samples(), err)
		}
	}
	if err := t.open(ctx, len(j.Steps) > 0); err != nil {
		return fmt.Errorf("reading %s: %w", t.names.Samples(), err)
	}
	defer t.merge.Close()
	opts, err := stream.ClientOptions(t.cfg.Kafka)
	if err != nil {
		return err
	}
	side, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("connecting the dead letters: %w", err)
	}
	defer side.Close()
	t.letters = stream.NewDeadLetters(side, t.names, "policy", t.opts.Registry)

	t.log.Info("policy trainer started", "epoch", t.epoch, "step", t.learner.Step, "steps_to_replay", len(j.Steps))
	behind, stop, err := j.Replay(ctx, t.replay)
	if behind == 0 {
		t.journalNext = j.Next
	}
	for err == nil && !stop && ctx.Err() == nil {
		stop, err = t.step(ctx)
	}
	if err != nil && (t.torn || ctx.Err() == nil) {
		return err
	}
	return t.finish(behind == 0)
}

// open starts to read the samples where the last iteration ended. What retention took
// behind that is counted and passed over: samples so old would not be learnt, and if the
// last thing before was a transaction's mark, none was lost at all. Iterations that are to
// be learnt again need every one of theirs.
func (t *Trainer) open(ctx context.Context, replays bool) error {
	for {
		merge, err := stream.NewMerge(ctx, t.cfg.Kafka, t.names.Samples(), t.next)
		var lost *stream.LostError
		if !errors.As(err, &lost) || lost.Wanted > lost.Latest || replays {
			t.merge = merge
			return err
		}
		t.metrics.samples.WithLabelValues(resultLost).Add(float64(lost.Count()))
		t.log.Error("retention deleted what may have been samples: going on behind it", "partition", lost.Partition, "offsets", lost.Count(), "error", lost)
		t.next = maps.Clone(t.next)
		t.next[lost.Partition] = lost.Earliest
	}
}

// beginning is where the samples of a policy that has learnt nothing begin: in each
// partition behind those of the policies before it, which are no iterations of this one.
// A partition that the journal names begins where it says.
func (t *Trainer) beginning(ctx context.Context, steps []journal.Entry) (map[int32]int64, error) {
	m, err := stream.NewMerge(ctx, t.cfg.Kafka, t.names.Samples(), nil)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	first := map[int32]int64{}
	for {
		records, err := m.Ready(ctx, 1024)
		if err != nil {
			return nil, err
		}
		if len(records) == 0 {
			break
		}
		batch, _ := decode(records)
		for i, s := range batch {
			rec := records[i]
			if _, found := first[rec.Partition]; !found && (s == nil || s.Versions.Policy.Name == t.learner.model.Name()) {
				first[rec.Partition] = rec.Offset
			}
		}
	}
	next := m.Offsets()
	maps.Copy(next, first)
	for _, e := range slices.Backward(steps) {
		for _, r := range e.Step.Ranges {
			next[r.Partition] = r.From
		}
	}
	return next, nil
}

// replay learns a journalled iteration again.
func (t *Trainer) replay(ctx context.Context, e journal.Entry) (stop bool, err error) {
	s := e.Step
	records, err := t.merge.Ranges(ctx, s.Ranges, s.Order)
	if err != nil {
		return false, fmt.Errorf("replaying iteration %d: %w", s.Step, err)
	}
	// What was bad then is bad now: it went to the dead letters already.
	batch, _ := decode(records)
	r, err := t.learn(ctx, batch)
	if err != nil {
		return false, err
	}
	t.journalNext = e.Next
	return t.after(r, true)
}

// forever is how long an iteration waits for its samples.
const forever = 100 * 365 * 24 * time.Hour

// step forms, learns and commits one iteration.
func (t *Trainer) step(ctx context.Context) (stop bool, err error) {
	began := time.Now()
	records, err := t.merge.Batch(ctx, t.cfg.Alignment.Batch, forever)
	t.metrics.idle.Add(time.Since(began).Seconds())
	if ctx.Err() != nil {
		return false, nil //nolint:nilerr // what was read waits in the log
	}
	if err != nil {
		return false, err
	}
	began = time.Now()
	batch, poison := decode(records)
	r, err := t.learn(ctx, batch)
	if err != nil {
		return false, err
	}
	if err := t.setAside(ctx, records, poison, r.Bad); err != nil {
		t.torn = true
		return false, err
	}
	s := stream.Step{Model: t.cfg.Alignment.Name, Epoch: t.epoch, Step: r.Step, Events: len(records)}
	s.Ranges, s.Order = t.merge.Taken()
	if err := t.commit(ctx, &s); err != nil {
		return false, err
	}
	t.metrics.stepTime.Observe(time.Since(began).Seconds())
	if lag, err := t.merge.Lag(context.WithoutCancel(ctx)); err == nil { // it is a gauge; a lost broker shows elsewhere
		t.metrics.lag.Set(float64(lag))
	}
	return t.after(r, false)
}

// setAside puts what cannot be learnt from in the dead letters, in the order of the log.
func (t *Trainer) setAside(ctx context.Context, records []*kgo.Record, poison, bad map[int]error) error {
	for i, rec := range records {
		reason, err := "invalid sample", poison[i]
		if err == nil {
			var u *unusable
			if err = bad[i]; errors.As(err, &u) {
				reason, err = u.what, u.err
			}
		}
		if err == nil {
			continue
		}
		t.metrics.samples.WithLabelValues(resultBad).Inc()
		t.log.Warn("a sample cannot be learnt from", "partition", rec.Partition, "offset", rec.Offset, "reason", reason, "error", err)
		if err := t.letters.Put(context.WithoutCancel(ctx), rec, reason, err); err != nil {
			return err
		}
	}
	return nil
}

func (t *Trainer) learn(ctx context.Context, batch []*stream.Sample) (Result, error) {
	// An iteration that has begun is finished: half of one is no state to save.
	r, err := t.learner.Learn(context.WithoutCancel(ctx), batch)
	if err != nil {
		t.torn = true
		return r, err
	}
	t.next, t.dirty = t.merge.Offsets(), true
	t.metrics.iteration(r)
	if r.Numeric == nil {
		return r, nil
	}
	t.log.Warn("iteration skipped: its update is not finite", "step", r.Step, "in_a_row", r.BadSteps, "error", r.Numeric)
	if r.BadSteps%t.cfg.Alignment.MaxBadSteps == 0 {
		// Replaying the journal meets the same iterations and comes by here again, so going
		// back is part of the deterministic course of the policy.
		if err := t.revert(); err != nil {
			t.torn = true
			return r, err
		}
	}
	return r, nil
}

// commit writes, in one transaction: the journal record of the iteration (none at the
// end of a run), the group's offsets, and a snapshot when one is due.
func (t *Trainer) commit(ctx context.Context, s *stream.Step) error {
	now := time.Now()
	// A commit is not cut short by a shutdown: it would throw the iteration away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	var records []*kgo.Record
	if s != nil {
		rec, err := stream.NewRecord(t.names.Steps(), s.Model, fmt.Sprintf("%d-%d", s.Epoch, s.Step), "seralm/policy", now, *s)
		if err != nil {
			t.torn = true
			return fmt.Errorf("journalling iteration %d: %w", s.Step, err)
		}
		rec.Partition = journal.Partition
		records = append(records, rec)
	}
	due := s == nil || t.learner.Step%int64(max(1, t.cfg.Alignment.Refresh)) == 0
	if due {
		chunks, err := t.snapshot(now)
		if err != nil {
			t.torn = true
			return err
		}
		records = append(records, chunks...)
	}
	err := t.txn.Begin()
	if err == nil {
		err = t.txn.Produce(ctx, records...)
	}
	if err == nil {
		err = t.txn.CommitOffsets(ctx, Group(t.cfg.Alignment.Name), t.names.Samples(), t.next)
	}
	if err == nil {
		err = t.txn.Commit(ctx)
	}
	if err != nil {
		t.torn = true
		return fmt.Errorf("committing iteration %d: %w", t.learner.Step, err)
	}
	if s != nil {
		t.journalNext = records[0].Offset + 1
	}
	if due {
		t.dirty = false
		t.metrics.snapshots.Inc()
	}
	return nil
}

// snapshot returns the records that publish the policy as it is now.
func (t *Trainer) snapshot(now time.Time) ([]*kgo.Record, error) {
	adapter, err := t.learner.model.Adapter()
	if err != nil {
		return nil, fmt.Errorf("taking a snapshot of iteration %d: %w", t.learner.Step, err)
	}
	return stream.PolicySnapshot{
		Policy: stream.ModelVersion{Name: t.learner.model.Name(), Step: t.learner.Step},
		Epoch:  t.epoch, Offsets: t.next, Created: now.UTC(), Adapter: adapter,
	}.Records(t.slots, t.names.Snapshots())
}

// after is what follows a learnt iteration, replayed or not.
func (t *Trainer) after(r Result, replayed bool) (stop bool, err error) {
	// At fixed iterations, so that replaying passes the same checkpoints.
	if r.Step%int64(t.cfg.Alignment.CheckpointN) == 0 {
		if err := t.checkpoint(); err != nil {
			return false, err
		}
	}
	if t.opts.AfterStep == nil {
		return false, nil
	}
	return t.opts.AfterStep(Progress{Epoch: t.epoch, Step: r.Step, Samples: t.learner.Samples, Reward: r.Stats.Reward, Replayed: replayed}), nil
}

// finish ends a run in good order; publish says that this is the newest there is.
func (t *Trainer) finish(publish bool) error {
	var errs []error
	if publish && t.dirty {
		errs = append(errs, t.commit(context.Background(), nil))
	}
	if t.learner.Step > 0 && !t.torn {
		errs = append(errs, t.checkpoint())
	}
	return errors.Join(errs...)
}

// decode returns the samples of records, nil for those that are none, and why.
func decode(records []*kgo.Record) (batch []*stream.Sample, poison map[int]error) {
	batch, poison = make([]*stream.Sample, len(records)), map[int]error{}
	for i, rec := range records {
		ev, err := stream.DecodeSample(rec)
		if err != nil {
			poison[i] = err
			continue
		}
		batch[i] = &ev.Body
	}
	return batch, poison
}
