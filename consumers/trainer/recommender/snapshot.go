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

// observe reads which slots the snapshots topic holds, so that the oldest is overwritten
// next, and of which epoch the newest snapshot is: readers refuse one of an earlier epoch,
// and where checkpoints and journal are lost nothing else tells of it.
func (t *Trainer) observe(ctx context.Context, journalled int) error {
	slots, newest, err := stream.ReadSlots(ctx, t.cfg.Kafka, t.cfg.Recommender.Name, t.cfg.Trainer.SnapshotKeep)
	if err != nil {
		return err
	}
	t.slots = slots
	if newest == nil {
		return nil
	}
	m, err := snapshot.DecodeManifest(newest.Manifest)
	if err != nil {
		t.log.Warn("the newest snapshot in the topic cannot be read", "snapshot", newest.ID, "error", err)
		return nil
	}
	t.epoch = max(t.epoch, m.Epoch)
	if t.learner.StepNumber() == 0 && journalled == 0 {
		t.log.Warn("checkpoints and journal hold nothing of this model, of which a snapshot is published: it begins anew with what the log has", "snapshot_step", m.Step)
	}
	return nil
}
