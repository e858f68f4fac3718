package recommender

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/models/snapshot"
	"seralm/stream"
)

// A snapshot carries the trainer's own answers to a few histories, so that who
// loads it can tell whether it computes the same.
const probes = 4

// snapshot describes the model as it is now and returns the records that publish it.
func (t *Trainer) snapshot(ctx context.Context, now time.Time) (records []*kgo.Record, size int, err error) {
	s, err := t.learner.Snapshot(ctx, probes)
	if err != nil {
		return nil, 0, fmt.Errorf("taking a snapshot of step %d: %w", t.learner.StepNumber(), err)
	}
	s.Model = t.cfg.Recommender.Name
	s.Epoch = t.epoch
	s.Offsets = t.next
	s.Created = now.UTC()
	if n := t.since.Targets; n > 0 {
		s.Metrics = map[string]float64{"log_p": -t.since.NLL / float64(n)}
	}
	manifest, payload, err := snapshot.Encode(s)
	if err != nil {
		return nil, 0, fmt.Errorf("encoding the snapshot of step %d: %w", s.Step, err)
	}
	id := fmt.Sprintf("%s/%d/%d", s.Model, s.Epoch, s.Step)
	return t.slots.Records(t.names.Snapshots(), id, manifest, payload, stream.DefaultChunk), len(payload), nil
}

// observeSlots reads which slots the snapshots topic holds, so that the oldest is
// overwritten next.
func (t *Trainer) observeSlots(ctx context.Context) error {
	t.slots = stream.NewSlots(t.cfg.Recommender.Name, t.cfg.Trainer.SnapshotKeep)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	caughtUp := false
	err := stream.Follow(ctx, t.cfg.Kafka, t.names.Snapshots(), func(rec *kgo.Record) error {
		t.slots.Observe(rec)
		return nil
	}, func() { caughtUp = true; cancel() })
	if caughtUp {
		return nil
	}
	return err
}
