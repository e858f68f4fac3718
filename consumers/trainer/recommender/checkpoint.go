package recommender

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"seralm/config"
	"seralm/models/snapshot"
	"seralm/stream"
)

// Parts of a checkpoint on disk.
const (
	partMeta      = "meta.json"
	partModel     = "model.safetensors"
	partSequencer = "sequencer.safetensors"
)

// meta is the part of a checkpoint that ties the weights to the log.
type meta struct {
	Format      int                `json:"format"`
	Model       config.Recommender `json:"recommender"`
	Epoch       int64              `json:"epoch"`
	Next        map[int32]int64    `json:"next_offsets"` // of interactions
	JournalNext int64              `json:"journal_next"` // of steps
	// Of samples: the next offsets, and the newest version of the policy met.
	Samples map[int32]int64     `json:"samples_next,omitempty"`
	Policy  stream.ModelVersion `json:"samples_policy"`
	SavedAt time.Time           `json:"saved_at"`
}

const metaFormat = 1

// restore goes back to the newest valid checkpoint, if there is one.
func (t *Trainer) restore() error {
	parts, step, rejected, err := t.newest()
	if errors.Is(err, snapshot.ErrNoCheckpoint) {
		if rejected > 0 {
			t.log.Warn("no valid checkpoint: learning the whole journal again")
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("restoring model %s: %w", t.cfg.Recommender.Name, err)
	}
	m := meta{Model: t.cfg.Recommender} // a setting newer than the checkpoint is as configured
	if err := json.Unmarshal(parts[partMeta], &m); err != nil {
		return fmt.Errorf("checkpoint of step %d in %s: %s: %w", step, t.checkpoints, partMeta, err)
	}
	if m.Format != metaFormat {
		return fmt.Errorf("checkpoint of step %d in %s has format %d, this program reads %d: restore it with the version that wrote it", step, t.checkpoints, m.Format, metaFormat)
	}
	was, is := m.Model, t.cfg.Recommender
	was.Threads, was.Device = is.Threads, is.Device // where it runs, not what it is
	if is.KnowledgeDim == 0 {
		was.IDDropout = is.IDDropout // nothing to a Base
	}
	if changed := changes(was, is); len(changed) > 0 {
		return fmt.Errorf("the checkpoint in %s was trained with %s: set it back, or set another recommender.name to begin a new model", t.checkpoints, strings.Join(changed, ", "))
	}
	if err := t.learner.Restore(parts[partModel], parts[partSequencer]); err != nil {
		return fmt.Errorf("checkpoint of step %d in %s: %w", step, t.checkpoints, err)
	}
	t.epoch, t.next, t.journalNext = m.Epoch, m.Next, m.JournalNext
	t.learnt.Store(&m.Next)
	if m.Samples != nil {
		t.samples.next = m.Samples
	}
	t.samples.policy = m.Policy
	return nil
}

// changes says of each setting that differs what it was and is.
func changes(was, is config.Recommender) (out []string) {
	a, b := reflect.ValueOf(was), reflect.ValueOf(is)
	for i, field := range reflect.VisibleFields(a.Type()) {
		if old, now := a.Field(i).Interface(), b.Field(i).Interface(); !reflect.DeepEqual(old, now) {
			out = append(out, fmt.Sprintf("recommender.%s %v, which is %v now", field.Tag.Get("yaml"), old, now))
		}
	}
	return out
}

// newest reads the newest valid checkpoint, and logs and counts those that were rejected.
func (t *Trainer) newest() (parts map[string][]byte, step int64, rejected int, err error) {
	parts, step, report, err := snapshot.Restore(t.checkpoints)
	for _, r := range report {
		t.log.Error("checkpoint rejected", "checkpoint", r.Name, "error", r.Err)
	}
	return parts, step, len(report), err
}

// checkpoint writes the state durably.
func (t *Trainer) checkpoint() error {
	began := time.Now()
	model, sequencer, err := t.learner.Save()
	if err != nil {
		return fmt.Errorf("saving model %s: %w", t.cfg.Recommender.Name, err)
	}
	m, err := json.Marshal(meta{
		Format: metaFormat, Model: t.cfg.Recommender, Epoch: t.epoch, Next: t.next, JournalNext: t.journalNext, SavedAt: began.UTC(),
		Samples: t.samples.next, Policy: t.samples.policy,
	})
	if err != nil {
		return err
	}
	step := int64(t.learner.StepNumber())
	parts := map[string][]byte{partMeta: m, partModel: model, partSequencer: sequencer}
	if err := snapshot.WriteDir(t.checkpoints, step, parts); err != nil {
		return fmt.Errorf("writing the checkpoint of step %d: %w (it needs a disk with room for trainer.checkpoints and one more: make room, or set data_dir)", step, err)
	}
	if err := snapshot.Prune(t.checkpoints, t.cfg.Trainer.Checkpoints); err != nil {
		t.log.Warn("old checkpoints not removed", "error", err)
	}
	t.metrics.checkpoint.Observe(time.Since(began).Seconds())
	return nil
}

// revert takes the weights, the optimiser and what was told of items back to the last checkpoint after
// too many numerically failed steps in a row. Histories and offsets stay: the
// events between are skipped, which is what "do not learn from them" means.
func (t *Trainer) revert() error {
	parts, step, _, err := t.newest()
	if errors.Is(err, snapshot.ErrNoCheckpoint) {
		return fmt.Errorf("model %s: %d steps in a row were not finite and there is no checkpoint to go back to: lower recommender.learning_rate and set another recommender.name",
			t.cfg.Recommender.Name, t.cfg.Trainer.MaxBadSteps)
	}
	if err == nil {
		err = t.learner.RestoreModel(parts[partModel], parts[partSequencer])
	}
	if err != nil {
		return fmt.Errorf("going back to the last checkpoint: %w", err)
	}
	t.known.again() // what the items are told went back with the weights
	t.log.Error("weights taken back to the last checkpoint", "checkpoint_step", step, "step", t.learner.StepNumber())
	return nil
}
