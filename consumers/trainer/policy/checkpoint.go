package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"seralm/config"
	"seralm/models/snapshot"
)

// Parts of a checkpoint on disk.
const (
	partMeta    = "meta.json"
	partAdapter = "adapter.safetensors"
)

// meta is the part of a checkpoint that ties the adapter to the log.
type meta struct {
	Format    int              `json:"format"`
	Policy    string           `json:"policy"` // model and adapter
	Alignment config.Alignment `json:"alignment"`
	Epoch     int64            `json:"epoch"`
	Course
	Next        map[int32]int64 `json:"next_offsets"` // of samples
	JournalNext int64           `json:"journal_next"` // of steps
	SavedAt     time.Time       `json:"saved_at"`
}

const metaFormat = 1

// settings is what of the configuration decides what an iteration learns: a journal
// is learnt again with the settings that it was learnt with, or the adapter is another.
func settings(a config.Alignment) config.Alignment {
	return config.Alignment{
		Name: a.Name, Temperature: a.Temperature, Reward: a.Reward, Batch: a.Batch,
		Estimator: a.Estimator, Clip: a.Clip, Weighting: a.Weighting, Truncate: a.Truncate, Penalty: a.Penalty, Alpha: a.Alpha,
		MaxStaleness: a.MaxStaleness, LearningRate: a.LearningRate, ClipNorm: a.ClipNorm, Seed: a.Seed, MaxBadSteps: a.MaxBadSteps, CheckpointN: a.CheckpointN,
	}
}

// restore goes back to the newest valid checkpoint, if there is one.
func (t *Trainer) restore() error {
	parts, step, report, err := snapshot.Restore(t.checkpoints)
	for _, rejected := range report {
		t.log.Error("checkpoint rejected", "checkpoint", rejected.Name, "error", rejected.Err)
	}
	if errors.Is(err, snapshot.ErrNoCheckpoint) {
		if len(report) > 0 {
			t.log.Warn("no valid checkpoint: learning the whole journal again")
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("restoring policy %s: %w", t.cfg.Alignment.Name, err)
	}
	where := fmt.Sprintf("checkpoint of iteration %d in %s", step, t.checkpoints)
	var m meta
	if err := json.Unmarshal(parts[partMeta], &m); err != nil {
		return fmt.Errorf("%s: %s: %w", where, partMeta, err)
	}
	switch is := settings(t.cfg.Alignment); {
	case m.Format != metaFormat:
		return fmt.Errorf("%s has format %d, this program reads %d: restore it with the version that wrote it", where, m.Format, metaFormat)
	case m.Policy != t.learner.model.Name():
		return fmt.Errorf("%s is of %s, the model and adapter here are %s: set them back, or set another alignment.name to begin anew", where, m.Policy, t.learner.model.Name())
	case !reflect.DeepEqual(m.Alignment, is):
		return fmt.Errorf("%s was made with alignment %+v, the configuration says %+v: set it back, or set another alignment.name to begin anew", where, m.Alignment, is)
	}
	if err := t.learner.model.Restore(parts[partAdapter]); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	t.learner.Course = m.Course
	t.epoch, t.next, t.journalNext = m.Epoch, m.Next, m.JournalNext
	return nil
}

// checkpoint writes the state durably.
func (t *Trainer) checkpoint() error {
	began := time.Now()
	l := t.learner
	adapter, err := l.model.Save()
	if err != nil {
		return fmt.Errorf("saving policy %s: %w", t.cfg.Alignment.Name, err)
	}
	m, err := json.Marshal(meta{
		Format: metaFormat, Policy: l.model.Name(), Alignment: settings(t.cfg.Alignment), Epoch: t.epoch,
		Course: l.Course,
		Next:   t.next, JournalNext: t.journalNext, SavedAt: began.UTC(),
	})
	if err != nil {
		return err
	}
	if err := snapshot.WriteDir(t.checkpoints, l.Step, map[string][]byte{partMeta: m, partAdapter: adapter}); err != nil {
		return fmt.Errorf("writing the checkpoint of iteration %d: %w (it needs a disk with room for trainer.checkpoints and one more: make room, or set data_dir)", l.Step, err)
	}
	if err := snapshot.Prune(t.checkpoints, checkpoints); err != nil {
		t.log.Warn("old checkpoints not removed", "error", err)
	}
	t.metrics.checkpoint.Observe(time.Since(began).Seconds())
	return nil
}

// checkpoints are kept on disk.
const checkpoints = 3

// revert takes adapter, optimiser and deviation back to the last checkpoint after too
// many numerically failed iterations in a row. The count of iterations and the offsets
// stay: the samples between are skipped, and versions never go back.
func (t *Trainer) revert() error {
	parts, step, _, err := snapshot.Restore(t.checkpoints)
	if errors.Is(err, snapshot.ErrNoCheckpoint) {
		return fmt.Errorf("policy %s: %d iterations in a row were not finite and there is no checkpoint to go back to: lower alignment.learning_rate and set another alignment.name",
			t.cfg.Alignment.Name, t.cfg.Alignment.MaxBadSteps)
	}
	var m meta
	if err == nil {
		err = json.Unmarshal(parts[partMeta], &m)
	}
	if err == nil {
		err = t.learner.model.Restore(parts[partAdapter])
	}
	if err != nil {
		return fmt.Errorf("going back to the last checkpoint: %w", err)
	}
	t.learner.Deviation = m.Deviation
	t.log.Error("policy taken back to the last checkpoint", "checkpoint_step", step, "step", t.learner.Step)
	return nil
}
