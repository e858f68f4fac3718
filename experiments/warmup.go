package experiments

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"seralm/consumers/trainer/policy"
	"seralm/models/align"
	"seralm/prompts"
	"seralm/stream"
)

// WarmUp is texts that somebody else wrote, and for how many iterations the policy is
// taught to write them, before it learns from rewards.
type WarmUp struct {
	Name       string `json:"name"` // of the file
	Hash       string `json:"hash"`
	Iterations int    `json:"iterations"`
	texts      map[string]string
	items      []string // that have a text, in the order of their ids
}

// ReadWarmUp reads the texts of a file, as ReadKnowledge does.
func ReadWarmUp(path string, iterations int) (WarmUp, error) {
	texts, err := readTexts(path)
	if err != nil {
		return WarmUp{}, err
	}
	w := WarmUp{Name: filepath.Base(path), Iterations: iterations, texts: texts, items: slices.Sorted(maps.Keys(texts))}
	hash := sha256.New()
	for _, item := range w.items {
		fmt.Fprintf(hash, "%q %q\n", item, texts[item])
	}
	w.Hash = hex.EncodeToString(hash.Sum(nil)[:8])
	return w, nil
}

// check leaves out the texts of items that nothing can be asked about.
func (w *WarmUp) check(described func(item string) bool) error {
	if w.Iterations == 0 {
		return nil
	}
	w.items = slices.DeleteFunc(slices.Clone(w.items), func(item string) bool { return !described(item) })
	if len(w.items) == 0 {
		return fmt.Errorf("%s has texts of %d items, none of which the data set describes: is it of another data set?", w.Name, len(w.texts))
	}
	return nil
}

// warmUp makes an iteration of ready texts, as many as others have: the next of all, in
// an order of their own in each pass over them.
func (a *Aligner) warmUp(ctx context.Context) (Iteration, error) {
	cfg := a.Config.Alignment
	cfg.Estimator, cfg.Weighting, cfg.Alpha = string(align.Supervised), string(align.Uncorrected), 0
	template, err := prompts.Load(a.Config.Knowledge.Domain)
	if err != nil {
		return Iteration{}, err
	}
	n := cfg.Batch * cfg.Candidates
	batch := make([]*stream.Sample, n)
	var order []int
	for i := range batch {
		at := int(a.learner.Step)*n + i
		pass, place := at/len(a.WarmUp.items), at%len(a.WarmUp.items)
		if order == nil || place == 0 {
			order = rand.New(rand.NewPCG(cfg.Seed, uint64(pass))).Perm(len(a.WarmUp.items))
		}
		item := a.WarmUp.items[order[place]]
		text := a.WarmUp.texts[item]
		tokens, err := a.Policy.Answer(text)
		if err != nil {
			return Iteration{}, err
		}
		batch[i] = &stream.Sample{
			Item: item, Prompt: a.prompt(template, item), Reward: stream.RewardKind(cfg.Reward), Temperature: cfg.Temperature,
			Versions:   stream.SampleVersions{Policy: a.Policy.Version()},
			Candidates: []stream.SampleCandidate{{Text: text, Tokens: tokens}}, Time: time.UnixMilli(int64(i)),
		}
	}
	learner := policy.NewLearner(cfg, a.Model)
	learner.Course = a.learner.Course
	return a.learn(ctx, learner, batch)
}
