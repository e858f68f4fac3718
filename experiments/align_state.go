package experiments

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"seralm/config"
	"seralm/consumers/trainer/policy"
	"seralm/models/seqrec"
	"seralm/models/snapshot"
	"seralm/models/vocab"
	"seralm/producers/dataset"
	"seralm/stream"
)

// What the folder of an alignment holds.
const (
	settingsFile    = "settings.json"
	progressFile    = "progress.jsonl"
	recommenderDir  = "recommender" // as package snapshot writes checkpoints
	checkpointsDir  = "checkpoints" // likewise
	keptCheckpoints = 3

	partManifest = "manifest.json"
	partPayload  = "payload"
	partCourse   = "course.json"
	partModel    = "model.safetensors"   // to go on to the bit
	partAdapter  = "adapter.safetensors" // to sample
)

// settings is what decides the course of an alignment.
type settings struct {
	Dataset      string             `json:"dataset"`
	Fingerprint  string             `json:"fingerprint"`
	Interactions int                `json:"interactions"`
	Recommender  config.Recommender `json:"recommender"`
	Training     Training           `json:"training"`
	Knowledge    Source             `json:"knowledge"`
	Domain       string             `json:"domain"`
	Policy       string             `json:"policy"`
	Alignment    config.Alignment   `json:"alignment"`
	WarmUp       *WarmUp            `json:"warm_up,omitempty"`
}

func (a *Aligner) settings() settings {
	s := settings{
		a.data.Name(), a.data.Fingerprint(), a.data.Len(), a.Judge.Recommender, a.Judge.Training, a.Judge.Knowledge.Source,
		a.Config.Knowledge.Domain, a.Policy.Version().Name, a.Config.Alignment, nil,
	}
	if a.WarmUp.Iterations > 0 {
		s.WarmUp = &a.WarmUp
	}
	return s
}

// same writes the settings down, or says that the folder is of others.
func (a *Aligner) same() error {
	is, err := json.MarshalIndent(a.settings(), "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(a.dir, settingsFile)
	was, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(a.dir, 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, is, 0o644)
	case err != nil:
		return err
	case !bytes.Equal(was, is):
		return fmt.Errorf("%s was begun with other settings (%s says which): set them back, or name another folder", a.dir, path)
	}
	return nil
}

// learnt yields what leave-one-out learns: all but each user's last two interactions, in
// the order of the stream.
func learnt(d *dataset.Dataset) iter.Seq[stream.Event[stream.Interaction]] {
	left := make([]int, d.Users()) // interactions of a user that are still to come
	few := make([]bool, d.Users())
	for i := range d.Len() {
		left[d.User(i)]++
	}
	for u, n := range left {
		few[u] = n < 3
	}
	return func(yield func(stream.Event[stream.Interaction]) bool) {
		for i, ev := range d.Interactions(0) {
			u := d.User(i)
			left[u]--
			ev.Offset = int64(i) // the place in the log that it would have
			if (left[u] >= 2 || few[u]) && !yield(ev) {
				return
			}
		}
	}
}

// recommender reads the one that judges texts, or teaches it what the texts of the model
// that is not aligned say.
func (a *Aligner) recommender(ctx context.Context) (*snapshot.Snapshot, error) {
	dir := filepath.Join(a.dir, recommenderDir)
	parts, _, _, err := snapshot.Restore(dir)
	if err == nil {
		return snapshot.Decode(parts[partManifest], parts[partPayload])
	}
	if !errors.Is(err, snapshot.ErrNoCheckpoint) {
		return nil, err
	}
	cfg := a.Judge.Recommender
	tell(a.progress, "teaching the recommender that judges texts, seed %d\n", cfg.Seed)
	h := read(a.data)
	model, err := a.Judge.New(cfg)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	m, ok := model.(interface {
		seqrec.Checkpointed
		SetKnowledge(rows []int32, vectors [][]float32) error
	})
	if !ok || a.Judge.Knowledge.vectors == nil {
		return nil, fmt.Errorf("%s with knowledge %s reads no texts: it cannot judge any", model.Name(), a.Judge.Knowledge.Source.Name)
	}
	split := leaveOneOut(h)
	if err := model.Resize(split.rows); err != nil {
		return nil, err
	}
	if err := m.SetKnowledge(a.Judge.Knowledge.of(h.items, vocab.FirstItem)); err != nil {
		return nil, err
	}
	f, err := fit(ctx, model, split, cfg.MaxLen, cfg.LearningRate, a.Judge.Training, cfg.Seed, a.progress)
	if err != nil {
		return nil, err
	}
	snap := &snapshot.Snapshot{IDs: h.items, Tensors: f.state}
	snap.Model, snap.Epoch, snap.Step, snap.Architecture = "judge", 1, int64(f.best), m.Architecture()
	manifest, payload, err := snapshot.Encode(snap)
	if err != nil {
		return nil, err
	}
	if err := snapshot.WriteDir(dir, snap.Step, map[string][]byte{partManifest: manifest, partPayload: payload}); err != nil {
		return nil, err
	}
	return snapshot.Decode(manifest, payload)
}

// course is the part of a checkpoint beside the model.
type course struct {
	policy.Course
	Drawn int `json:"drawn"`
}

// save writes a checkpoint.
func (a *Aligner) save() error {
	model, err := a.Model.Save()
	if err != nil {
		return err
	}
	adapter, err := a.Model.Adapter()
	if err != nil {
		return err
	}
	c, err := json.Marshal(course{a.learner.Course, a.drawn})
	if err != nil {
		return err
	}
	dir := filepath.Join(a.dir, checkpointsDir)
	if err := snapshot.WriteDir(dir, a.learner.Step, map[string][]byte{partCourse: c, partModel: model, partAdapter: adapter}); err != nil {
		return err
	}
	return snapshot.Prune(dir, keptCheckpoints)
}

// restore goes on from the newest checkpoint, if there is one.
func (a *Aligner) restore(iterations int) error {
	parts, step, _, err := snapshot.Restore(filepath.Join(a.dir, checkpointsDir))
	if errors.Is(err, snapshot.ErrNoCheckpoint) {
		return nil
	}
	if err != nil {
		return err
	}
	if step > int64(iterations) {
		return fmt.Errorf("%s has made %d iterations already, which is more than %d", a.dir, step, iterations)
	}
	var c course
	if err := json.Unmarshal(parts[partCourse], &c); err != nil {
		return fmt.Errorf("checkpoint of iteration %d: %w", step, err)
	}
	if err := a.Model.Restore(parts[partModel]); err != nil {
		return fmt.Errorf("checkpoint of iteration %d: %w", step, err)
	}
	a.learner.Course, a.drawn = c.Course, c.Drawn
	tell(a.progress, "going on after iteration %d\n", step)
	return a.Policy.Load(stream.PolicySnapshot{Policy: stream.ModelVersion{Name: a.Model.Name(), Step: step}, Adapter: parts[partAdapter]})
}
