package experiments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"seralm/config"
	"seralm/consumers/generator"
	"seralm/consumers/trainer/policy"
	"seralm/models/align"
	"seralm/producers/dataset"
	"seralm/stream"
)

// Writer is a policy that also writes texts which nobody is going to learn from.
type Writer interface {
	generator.Policy
	// Write samples k texts to each prompt, as Sample does.
	Write(ctx context.Context, prompts []stream.SamplePrompt, k int, seed uint64) ([][]string, error)
	// Answer returns the tokens of a text that somebody else wrote.
	Answer(text string) ([]int32, error)
}

// Alignment is what a language model is aligned with on a data set (the paper's
// Algorithm 1): the parts of the two jobs, taking turns.
type Alignment struct {
	Config config.Config // alignment, knowledge.domain, knowledge.batch, and the bounds of trainer
	// Judge is the recommender that says what texts are worth. It learns from the texts
	// that it is given here and then stays as it is.
	Judge   Arm
	WarmUp  WarmUp // Iterations 0: none
	Policy  Writer
	Model   policy.Model // nil where nothing is to be learnt
	Encoder generator.Encoder
	Open    generator.Open
}

// Aligner is an alignment under way in a folder, which holds all that is needed to go on
// with it.
type Aligner struct {
	Alignment
	data     *dataset.Dataset
	dir      string
	progress io.Writer
	items    map[string]stream.Item // those that something can be written about

	sampler   *generator.Sampler // nil until the recommender is there
	timed     *timer             // the policy
	instances []generator.Instance
	order     []int // of the instances in this pass over all of them
	learner   *policy.Learner
	drawn     int // instances, since the beginning
}

// NewAligner begins, or goes on with what the folder holds. Close it after use. progress
// may be nil.
func NewAligner(d *dataset.Dataset, a Alignment, dir string, progress io.Writer) (*Aligner, error) {
	if err := a.Judge.Training.validate(); err != nil {
		return nil, err
	}
	if a.Config.Alignment.Estimator == string(align.Paper) {
		return nil, errors.New("alignment.estimator paper divides by p(y|x) of a frozen recommender without texts (alignment.base), which a running system has and an experiment has not: take another estimator")
	}
	out := &Aligner{Alignment: a, data: d, dir: dir, progress: progress, items: map[string]stream.Item{}, timed: &timer{Policy: a.Policy}}
	for ev, err := range d.Items() {
		if err != nil {
			return nil, err
		}
		if it := ev.Body; it.Title != "" || len(it.Categories) > 0 || it.Text != "" {
			out.items[it.Item] = it
		}
	}
	if len(out.items) == 0 {
		return nil, fmt.Errorf("the data set %s describes none of its items: there is nothing to write about", d.Name())
	}
	if err := out.WarmUp.check(out.described); err != nil {
		return nil, err
	}
	return out, out.same()
}

// Close frees the recommender.
func (a *Aligner) Close() {
	if a.sampler != nil {
		a.sampler.Close()
	}
}

// begin makes what samples and judges, if need be.
func (a *Aligner) begin(ctx context.Context) (err error) {
	if a.sampler == nil {
		a.sampler, a.instances, err = a.samplerOf(ctx, func(int) bool { return true })
	}
	if n := len(a.instances); err == nil && a.Config.Alignment.Reward == string(stream.RewardCatalogue) && a.Config.Alignment.Reservoir < n {
		return fmt.Errorf("alignment.reservoir is %d and there are %d instances: what all of them are sampled from must be judged by all of them, so set it to %d or more", a.Config.Alignment.Reservoir, n, n)
	}
	return err
}

// samplerOf returns a sampler with the recommender, which observes what this learnt of
// the users for whom of is true, and their instances.
func (a *Aligner) samplerOf(ctx context.Context, of func(user int) bool) (*generator.Sampler, []generator.Instance, error) {
	snap, err := a.recommender(ctx)
	if err != nil {
		return nil, nil, err
	}
	cfg := a.Config
	cfg.Recommender = a.Judge.Recommender
	s, err := generator.NewSampler(cfg, generator.Options{Policy: a.timed, Encoder: a.Encoder, Open: a.Open, Registry: prometheus.NewRegistry()})
	if err != nil {
		return nil, nil, err
	}
	if err := s.Judge(snap); err != nil {
		return nil, nil, err
	}
	var instances []generator.Instance
	for ev := range learnt(a.data) {
		if !of(a.data.User(int(ev.Offset))) {
			continue
		}
		if in, ok := s.Observe(ev); ok {
			instances = append(instances, in)
		}
	}
	if len(instances) == 0 {
		s.Close()
		return nil, nil, fmt.Errorf("data set %s: nobody has two interactions to learn from", a.data.Name())
	}
	return s, instances, nil
}

// saveEach is how many iterations an interruption can cost.
const saveEach = 10

// Learn goes on until so many iterations are made.
func (a *Aligner) Learn(ctx context.Context, iterations int) error {
	if err := a.begin(ctx); err != nil {
		return err
	}
	a.learner = policy.NewLearner(a.Config.Alignment, a.Model)
	if err := a.restore(iterations); err != nil {
		return err
	}
	lines, err := openProgress(filepath.Join(a.dir, progressFile), a.learner.Step)
	if err != nil {
		return err
	}
	defer lines.Close()
	for a.learner.Step < int64(iterations) {
		next := a.iteration
		if a.learner.Step < int64(a.WarmUp.Iterations) {
			next = a.warmUp
		}
		line, err := next(ctx)
		if err != nil {
			return err
		}
		if err := lines.write(line); err != nil {
			return err
		}
		if a.learner.Step%saveEach == 0 || a.learner.Step == int64(iterations) {
			if err := a.save(); err != nil {
				return err
			}
			tell(a.progress, "iteration %d: reward %.4g, spread %.3g, KL %.4f nats a token, %.0f tokens a text  (%.1f s)\n",
				line.Iteration, line.Reward, line.Spread, line.KL, line.Length, line.Sampling+line.Judging+line.Training)
		}
	}
	return nil
}

// iteration samples, judges and learns once.
func (a *Aligner) iteration(ctx context.Context) (Iteration, error) {
	cfg := a.Config.Alignment
	a.timed.took = 0
	began := time.Now()
	var batch []*stream.Sample
	for fruitless := 0; len(batch) < cfg.Batch; {
		group, err := a.draw(min(cfg.Group, cfg.Batch-len(batch)))
		if err != nil {
			return Iteration{}, err
		}
		samples, err := a.sampler.Sample(ctx, group)
		if err != nil {
			return Iteration{}, err
		}
		if fruitless++; len(samples) > 0 {
			fruitless = 0
		} else if fruitless == 16 {
			return Iteration{}, errors.New("of 16 groups of instances in a row no text could be judged: is alignment.max_tokens too small for the model to say anything?")
		}
		for i := range samples {
			batch = append(batch, &samples[i])
		}
	}
	sampled := time.Now()
	line, err := a.learn(ctx, a.learner, batch)
	line.Sampling, line.Judging = a.timed.took.Seconds(), (sampled.Sub(began) - a.timed.took).Seconds()
	return line, err
}

// learn teaches the policy a batch, and hands on what it has become. The learner is this
// one's, or one that is as far and has other options.
func (a *Aligner) learn(ctx context.Context, learner *policy.Learner, batch []*stream.Sample) (Iteration, error) {
	began := time.Now()
	r, err := learner.Learn(ctx, batch)
	if err != nil {
		return Iteration{}, err
	}
	for _, bad := range r.Bad {
		return Iteration{}, fmt.Errorf("iteration %d: a sample of its own cannot be learnt from: %w", r.Step, bad)
	}
	if r.BadSteps >= a.Config.Alignment.MaxBadSteps {
		return Iteration{}, fmt.Errorf("%d iterations in a row were not finite: lower alignment.learning_rate and begin anew in another folder: %w", r.BadSteps, r.Numeric)
	}
	a.learner.Course = learner.Course
	if err := a.hand(); err != nil {
		return Iteration{}, err
	}
	line := describe(r)
	line.Training = time.Since(began).Seconds()
	return line, nil
}

// draw takes the next instances that something can be written about, in an order of
// their own in each pass over all of them.
func (a *Aligner) draw(n int) (group []generator.Chosen, err error) {
	for looked := 0; len(group) < n; looked++ {
		pass, at := a.drawn/len(a.instances), a.drawn%len(a.instances)
		if a.order == nil || at == 0 {
			a.order = rand.New(rand.NewPCG(a.Config.Alignment.Seed, uint64(pass))).Perm(len(a.instances))
		}
		if looked > 2*len(a.instances) {
			return nil, errors.New("there is no instance with an item that is described")
		}
		a.drawn++
		in := a.instances[a.order[at]]
		if item, ok := a.sampler.Choose(in, a.described); ok {
			group = append(group, generator.Chosen{Instance: in, Item: a.items[item]})
		}
	}
	return group, nil
}

// described reports whether there is something to write about an item.
func (a *Aligner) described(item string) bool {
	_, ok := a.items[item]
	return ok
}

// hand gives the sampler's policy what the model has learnt.
func (a *Aligner) hand() error {
	adapter, err := a.Model.Adapter()
	if err != nil {
		return err
	}
	return a.Policy.Load(stream.PolicySnapshot{Policy: stream.ModelVersion{Name: a.Model.Name(), Step: a.learner.Step}, Adapter: adapter})
}

// timer measures how long a policy takes to sample.
type timer struct {
	generator.Policy
	took time.Duration
}

// Sample implements generator.Policy.
func (t *timer) Sample(ctx context.Context, prompts []stream.SamplePrompt, k int, seed uint64) ([][]generator.Text, error) {
	began := time.Now()
	defer func() { t.took += time.Since(began) }()
	return t.Policy.Sample(ctx, prompts, k, seed)
}
