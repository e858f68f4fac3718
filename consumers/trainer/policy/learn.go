package policy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"seralm/config"
	"seralm/models/align"
	"seralm/stream"
)

// Model is a language model with an adapter that learns.
type Model interface {
	// Name of the model and its adapter: of what kind they are, not what was learnt.
	Name() string
	// Check says why a text cannot be computed with: a token that there is not, a length
	// beyond the model's context.
	Check(t Text) error
	// LogProbs returns log pi(token) of the texts' tokens under softmax(logits / temperature).
	LogProbs(ctx context.Context, texts []Text, temperature float64) ([][]float32, error)
	// Train makes one step up the gradient of the sum of coefficient times log pi(token).
	// What is not finite is an error that wraps ErrNotFinite; no step was taken then.
	Train(ctx context.Context, texts []Text, temperature float64) (Update, error)
	// Adapter returns what is needed to sample, Save what is needed to go on to the bit.
	Adapter() ([]byte, error)
	Save() ([]byte, error)
	Restore(saved []byte) error
}

// Text is a text and what it asks of the policy.
type Text struct {
	Prompt       stream.SamplePrompt
	Tokens       []int32
	Coefficients []float32 // of grad log pi(token); nil where nothing is asked
}

// Update is the outcome of a step, measured before it.
type Update struct {
	Norm float64 // of the gradient, before clipping
}

// ErrNotFinite says that a step's objective or gradient was no number.
var ErrNotFinite = errors.New("not finite")

// Learner is the trainer without the log: what it is after an iteration is a function of
// what it was and of the samples.
type Learner struct {
	Course
	cfg     config.Alignment
	options align.Options
	model   Model
}

// Course is how far a Learner is: what it is beside its model.
type Course struct {
	Step      int64           `json:"step"`      // iterations made
	Samples   int64           `json:"samples"`   // learnt from
	Bad       int             `json:"bad_steps"` // numerically failed iterations in a row
	Deviation align.Deviation `json:"deviation"` // of rewards
}

// NewLearner returns one that has learnt nothing.
func NewLearner(cfg config.Alignment, model Model) *Learner {
	return &Learner{cfg: cfg, model: model, options: align.Options{
		Reward: align.Reward(cfg.Reward), Estimator: align.Estimator(cfg.Estimator), Clip: cfg.Clip,
		Weighting: align.Weighting(cfg.Weighting), Truncate: cfg.Truncate, Penalty: align.Penalty(cfg.Penalty), Alpha: cfg.Alpha,
	}}
}

// Result is what an iteration did.
type Result struct {
	Step      int64
	Staleness []int64 // of each sample that is of this policy
	Learnt    []stream.Sample
	Stale     int
	Bad       map[int]error // why samples, by their place in the batch, cannot be learnt from
	Stats     align.Stats
	Update    Update
	Numeric   error // set when the update was not finite and was skipped
	BadSteps  int   // such iterations in a row
}

// unusable says what a sample is not right in: the policy, its version, and so on.
type unusable struct {
	what string // a constant, short word
	err  error
}

func (e *unusable) Error() string { return e.what + ": " + e.err.Error() }
func (e *unusable) Unwrap() error { return e.err }

// check says why a sample is none of this policy's.
func (l *Learner) check(s stream.Sample) error {
	bad := func(what, format string, args ...any) error { return &unusable{what, fmt.Errorf(format, args...)} }
	switch v := s.Versions.Policy; {
	case v.Name != l.model.Name():
		return bad("another policy", "its texts are of %.200q, this policy is %q", v.Name, l.model.Name())
	case v.Step > l.Step:
		return bad("unknown version", "its policy had learnt %d iterations, this one has %d", v.Step, l.Step)
	case string(s.Reward) != l.cfg.Reward:
		return bad("another reward", "its rewards are of kind %s, alignment.reward is %s", s.Reward, l.cfg.Reward)
	case s.Temperature != l.cfg.Temperature:
		return bad("another temperature", "it was sampled at %v, alignment.temperature is %v", s.Temperature, l.cfg.Temperature)
	}
	for i, c := range s.Candidates {
		if err := l.model.Check(Text{Prompt: s.Prompt, Tokens: c.Tokens}); err != nil {
			return bad("unknown tokens", "candidate %d: %w", i, err)
		}
	}
	return nil
}

// Learn makes one iteration of a batch of samples, in the order of their times; those
// that could not be decoded are nil. The returned error means that the state is
// undefined; a numeric failure is part of the result, for it is a function of the log
// like any other.
func (l *Learner) Learn(ctx context.Context, batch []*stream.Sample) (Result, error) {
	r := Result{Bad: map[int]error{}}
	var use []int // places in the batch
	for i, s := range batch {
		if s == nil {
			continue
		}
		if err := l.check(*s); err != nil {
			r.Bad[i] = err
			continue
		}
		age := l.Step - s.Versions.Policy.Step
		r.Staleness = append(r.Staleness, age)
		if age > int64(l.cfg.MaxStaleness) {
			r.Stale++
			continue
		}
		use = append(use, i)
	}
	slices.SortStableFunc(use, func(a, b int) int { return cmp.Compare(batch[a].Time.UnixMilli(), batch[b].Time.UnixMilli()) })
	l.Step++
	r.Step = l.Step
	texts, next, err := l.ask(ctx, batch, use, &r)
	if err == nil && len(texts) > 0 {
		r.Update, err = l.model.Train(ctx, texts, l.cfg.Temperature)
	}
	switch {
	case errors.Is(err, ErrNotFinite):
		l.Bad++
		r.Numeric, r.BadSteps, r.Learnt = err, l.Bad, nil
	case err != nil:
		return r, fmt.Errorf("iteration %d: %w", l.Step, err)
	case len(texts) > 0:
		l.Bad, l.Deviation = 0, next
		l.Samples += int64(len(r.Learnt))
	}
	return r, nil
}

// now returns the log-probabilities of the samples' texts under the policy as it is.
// Those of texts that it wrote itself are known: their behaviour's.
func (l *Learner) now(ctx context.Context, batch []*stream.Sample, use []int) ([][]float32, error) {
	var out [][]float32
	var old []Text
	var places []int
	for _, i := range use {
		s := batch[i]
		for _, c := range s.Candidates {
			if s.Versions.Policy.Step < l.Step-1 { // Step counts this iteration already
				old, places = append(old, Text{Prompt: s.Prompt, Tokens: c.Tokens}), append(places, len(out))
			}
			out = append(out, c.Behaviour)
		}
	}
	if len(old) == 0 {
		return out, nil
	}
	computed, err := l.model.LogProbs(ctx, old, l.cfg.Temperature)
	if err != nil {
		return nil, err
	}
	for k, values := range computed {
		for _, v := range values {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) { // not the samples' fault
				return nil, fmt.Errorf("a log-probability under the policy is %v: %w", v, ErrNotFinite)
			}
		}
		out[places[k]] = values
	}
	return out, nil
}

// ask computes what the samples at the places given ask of the policy, without those
// that the mathematics refuses.
func (l *Learner) ask(ctx context.Context, batch []*stream.Sample, use []int, r *Result) ([]Text, align.Deviation, error) {
	var texts []Text
	for _, i := range use {
		for _, c := range batch[i].Candidates {
			texts = append(texts, Text{Prompt: batch[i].Prompt, Tokens: c.Tokens})
		}
	}
	if len(texts) == 0 {
		return nil, l.Deviation, nil
	}
	now, err := l.now(ctx, batch, use)
	if err != nil {
		return nil, l.Deviation, err
	}
	samples := make([]align.Sample, len(use))
	for k, i := range use {
		samples[k].Base = batch[i].Base
		for _, c := range batch[i].Candidates {
			samples[k].Candidates = append(samples[k].Candidates, align.Candidate{
				Reward: c.Reward, Tokens: len(c.Tokens), Policy: now[0], Behaviour: c.Behaviour, Reference: c.Reference,
			})
			now = now[1:]
		}
	}
	for len(samples) > 0 {
		out, err := align.Coefficients(samples, l.options, l.Deviation)
		var refused *align.SampleError
		if errors.As(err, &refused) {
			r.Bad[use[refused.Sample]] = &unusable{"no advantage", err}
			n := 0
			for _, s := range samples[:refused.Sample] {
				n += len(s.Candidates)
			}
			texts = slices.Delete(texts, n, n+len(samples[refused.Sample].Candidates))
			use = slices.Delete(use, refused.Sample, refused.Sample+1)
			samples = slices.Delete(samples, refused.Sample, refused.Sample+1)
			continue
		}
		if err != nil {
			return nil, l.Deviation, err
		}
		n := 0
		for k, of := range out.Coefficients {
			r.Learnt = append(r.Learnt, *batch[use[k]])
			for _, c := range of {
				texts[n].Coefficients = c
				n++
			}
		}
		r.Stats = out.Stats
		return texts, out.Deviation, nil
	}
	return nil, l.Deviation, nil
}
