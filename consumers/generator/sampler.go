package generator

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"seralm/config"
	"seralm/consumers/internal/instances"
	"seralm/models/align"
	"seralm/models/snapshot"
	"seralm/models/vocab"
	"seralm/prompts"
	"seralm/stream"
)

// Sampler turns interactions into samples with a policy and a snapshot of the
// recommender: the generator without the log. It is not safe for concurrent use.
type Sampler struct {
	cfg       config.Alignment
	histories *instances.Histories
	own       *vocab.Vocabulary // of histories
	template  *prompts.Template
	policy    Policy
	encoder   Encoder
	open      Open
	judge     *judge
	base      *judge // the frozen recommender without texts; nil where none is asked for
	recent    *recent
	metrics   *metrics
}

// NewSampler returns a sampler that knows no recommender yet.
func NewSampler(cfg config.Config, o Options) (*Sampler, error) {
	template, err := prompts.Load(cfg.Knowledge.Domain)
	if err != nil {
		return nil, err
	}
	h := instances.New(min(cfg.Recommender.MaxLen, stream.MaxSampleHistory), cfg.Trainer.MaxUsers, cfg.Trainer.DedupWindow)
	return &Sampler{
		cfg: cfg.Alignment, histories: h, own: h.Items, template: template, policy: o.Policy, encoder: o.Encoder, open: o.Open,
		recent: newRecent(cfg.Alignment.Reservoir), metrics: newMetrics(o.Registry),
	}, nil
}

// Observe takes the next interaction of the stream, and returns the instance that it
// is; false for a user's first one, and for one that was seen before.
func (s *Sampler) Observe(ev stream.Event[stream.Interaction]) (Instance, bool) {
	seen, ok := s.histories.Take(ev)
	in := Instance{user: seen.User, x: seen.X, y: seen.Y, at: place{ev.Partition, ev.Offset}}
	if ok && s.cfg.Reward == string(stream.RewardCatalogue) {
		s.recent.add(in)
	}
	return in, ok
}

// ErrBlind says that a recommender reads texts, but has learnt from none so far.
var ErrBlind = errors.New("it has learnt from no item's vector, so that all texts are worth the same to it")

// Judge makes a recommender's snapshot the one that texts are judged by. An error that
// wraps ErrBlind may pass with a later one.
func (s *Sampler) Judge(snap *snapshot.Snapshot) error {
	j, err := newJudge(snap, s.cfg.Candidates, s.open)
	if err != nil {
		return err
	}
	if j.tower == nil {
		j.close()
		return fmt.Errorf("recommender %s reads no texts, so that it cannot judge any: set recommender.knowledge_dim (or knowledge.enabled) and train it under another recommender.name", snap.Model)
	}
	if !j.tower.Reads() {
		j.close()
		return fmt.Errorf("recommender %s at step %d cannot judge texts: %w", snap.Model, snap.Step, ErrBlind)
	}
	s.judge.close()
	s.judge = j
	s.metrics.recommenderStep.Set(float64(snap.Step))
	return nil
}

// Freeze makes a recommender's snapshot the one whose p(y|x) stands in samples.
func (s *Sampler) Freeze(snap *snapshot.Snapshot) (err error) {
	s.base.close()
	s.base, err = newJudge(snap, 0, s.open)
	return err
}

// Close frees the recommenders.
func (s *Sampler) Close() {
	s.judge.close()
	s.base.close()
}

// Chosen is an instance with the item that texts are to be about.
type Chosen struct {
	Instance
	Item stream.Item
}

// hash makes a random number of what there is of an instance.
func hash(seed uint64, at place, purpose byte) uint64 {
	var raw [21]byte
	binary.LittleEndian.PutUint64(raw[:], seed)
	binary.LittleEndian.PutUint32(raw[8:], uint32(at.partition))
	binary.LittleEndian.PutUint64(raw[12:], uint64(at.offset))
	raw[20] = purpose
	return xxhash.Sum64(raw[:])
}

// Purposes of random numbers.
const (
	whether byte = iota // the instance is sampled from
	which               // item
	tokens
)

// Choose returns the item of an instance that texts are to be about: its y, or one of
// x, with the same chance. usable says which items can be written about; false when
// none can, or it is not the instance's turn.
//
// The catalogue reward is divided by these odds (share); p(y|x,s) is not. So under
// alignment.reward instance the text of y counts as much as those of x together, where
// Eq. 4 would have it count as one of them: the policy would hear of y, on which a text
// has the most effect, once in |x|+1 draws.
func (s *Sampler) Choose(in Instance, usable func(item string) bool) (item string, ok bool) {
	if hash(s.cfg.Seed, in.at, whether)%uint64(s.cfg.Every) != 0 || s.judge.theirs(in.y, s.own) < vocab.FirstItem {
		return "", false
	}
	fits := func(item int32) bool { return s.judge.theirs(item, s.own) >= vocab.FirstItem && usable(s.own.ID(item)) }
	var x []int32
	seen := map[int32]bool{in.y: true}
	for _, r := range in.x {
		if !seen[r] && fits(r) {
			x = append(x, r)
		}
		seen[r] = true
	}
	y := fits(in.y)
	r := rand.New(rand.NewPCG(hash(s.cfg.Seed, in.at, which), 0))
	switch {
	case y && (len(x) == 0 || r.IntN(2) == 0):
		return s.own.ID(in.y), true
	case len(x) > 0:
		return s.own.ID(x[r.IntN(len(x))]), true
	}
	return "", false
}

// Sample writes and judges texts for a group of instances, and returns a sample of each
// that something can be learnt from.
func (s *Sampler) Sample(ctx context.Context, group []Chosen) ([]stream.Sample, error) {
	if len(group) == 0 {
		return nil, nil
	}
	asks := make([]stream.SamplePrompt, len(group))
	for i, c := range group {
		asks[i].System, asks[i].User = s.template.Render(promptItem(c.Item))
	}
	written, err := s.policy.Sample(ctx, asks, s.cfg.Candidates, hash(s.cfg.Seed, group[0].at, tokens))
	if err != nil {
		return nil, fmt.Errorf("sampling texts: %w", err)
	}
	samples := make([]stream.Sample, len(group))
	var words []string
	for i, c := range group {
		samples[i] = s.begin(c, asks[i])
		for _, t := range written[i] {
			s.metrics.text(len(t.Tokens))
			// What says nothing cannot be encoded. Texts that say something are then samples
			// of the policy given that they do.
			if strings.TrimSpace(t.Text) == "" {
				s.metrics.refused.WithLabelValues("empty_text").Inc()
				continue
			}
			samples[i].Candidates = append(samples[i].Candidates, stream.SampleCandidate{
				Text: t.Text, Tokens: t.Tokens, Behaviour: t.Behaviour, Reference: t.Reference,
			})
			words = append(words, t.Text)
		}
	}
	vectors, err := s.encoder.Encode(ctx, words)
	if err != nil {
		return nil, fmt.Errorf("encoding texts: %w", err)
	}
	var out []stream.Sample
	for i, c := range group {
		n := len(samples[i].Candidates)
		err := s.value(ctx, c, &samples[i], vectors[:n])
		vectors = vectors[n:]
		var refusal *unjudged
		switch {
		case errors.As(err, &refusal):
			s.metrics.refused.WithLabelValues(refusal.reason).Inc()
			continue
		case err != nil:
			return nil, err
		}
		out = append(out, samples[i])
	}
	return out, nil
}

// Rewards returns the catalogue reward of texts about an item that the recommender knows:
// what each does to the sum of log p(y|x) over the instances observed, in nats. Of an item
// that is in none of them they are all 0: the text that hides it best would be the best.
func (s *Sampler) Rewards(ctx context.Context, item string, texts []string) ([]float64, error) {
	known, err := s.recent.encode(ctx, s.judge, s.own)
	if err != nil {
		return nil, err
	}
	return s.each(ctx, item, texts, func(row int32, rows [][]float32) ([]float64, error) {
		if chance(known, row) == 0 {
			return make([]float64, len(rows)), nil
		}
		return s.judge.catalogue(ctx, s.recent, s.own, row, rows)
	})
}

// Probabilities returns p(y|x,s) of one instance for each text about an item that the
// recommender knows, as it knows y: see Choose.
func (s *Sampler) Probabilities(ctx context.Context, in Instance, item string, texts []string) ([]float64, error) {
	x, y, ok := s.judge.see(in, s.own)
	if !ok {
		return nil, fmt.Errorf("recommender %s does not know item %q, which was taken", s.judge.version.Name, s.own.ID(in.y))
	}
	return s.each(ctx, item, texts, func(row int32, rows [][]float32) ([]float64, error) {
		return s.judge.instance(ctx, x, y, row, rows)
	})
}

// each judges the rows that texts make of an item, as many at a time as the recommender
// was opened for.
func (s *Sampler) each(ctx context.Context, item string, texts []string, reward func(row int32, rows [][]float32) ([]float64, error)) ([]float64, error) {
	row, ok := s.judge.items.Row(item)
	if !ok {
		return nil, fmt.Errorf("recommender %s does not know item %q", s.judge.version.Name, item)
	}
	vectors, err := s.encoder.Encode(ctx, texts)
	if err != nil {
		return nil, fmt.Errorf("encoding texts: %w", err)
	}
	rows, err := s.judge.cold(vectors)
	if err != nil {
		return nil, err
	}
	var out []float64
	for some := range slices.Chunk(rows, s.cfg.Candidates) {
		rewards, err := reward(row, some)
		if err != nil {
			return nil, err
		}
		out = append(out, rewards...)
	}
	return out, nil
}

// begin is a sample without texts.
func (s *Sampler) begin(c Chosen, ask stream.SamplePrompt) stream.Sample {
	out := stream.Sample{
		User: c.user, Y: s.own.ID(c.y), Item: c.Item.Item, Instance: stream.Place{Partition: c.at.partition, Offset: c.at.offset}, Prompt: ask, PromptHash: s.template.Hash(promptItem(c.Item)),
		Versions: stream.SampleVersions{
			Policy: s.policy.Version(), Recommender: s.judge.version, Encoder: s.encoder.Version(), Knowledge: s.template.Version(),
		},
		Reward: stream.RewardKind(s.cfg.Reward), View: stream.RewardView(s.cfg.View), Temperature: s.cfg.Temperature,
	}
	for _, r := range c.x {
		out.X = append(out.X, s.own.ID(r))
	}
	return out
}

// value fills in what the texts are worth.
func (s *Sampler) value(ctx context.Context, c Chosen, to *stream.Sample, vectors [][]float32) error {
	if s.cfg.Candidates > 1 && len(vectors) < 2 || len(vectors) == 0 {
		return &unjudged{"few_texts", errors.New("fewer than two texts say something")}
	}
	rows, err := s.judge.cold(vectors)
	if err != nil {
		return err
	}
	x, y, _ := s.judge.see(c.Instance, s.own)
	item, _ := s.judge.items.Row(c.Item.Item)
	p, err := s.judge.instance(ctx, x, y, item, rows)
	if err != nil {
		return err
	}
	rewards := p
	if to.Reward == stream.RewardCatalogue {
		if rewards, err = s.share(ctx, item, rows); err != nil {
			return err
		}
	}
	if s.base != nil {
		if to.Base, err = s.base.plain(ctx, c.Instance, s.own); err != nil {
			return err
		}
		if to.Base == 0 && s.cfg.Estimator == string(align.Paper) {
			return &unjudged{"base", errors.New("alignment.base does not know what was taken, and the estimator paper divides by its probability")}
		}
	}
	for i := range to.Candidates {
		to.Candidates[i].Vector, to.Candidates[i].PY, to.Candidates[i].Reward = vectors[i], p[i], rewards[i]
	}
	var invalid *stream.InvalidError
	if err := to.Validate(); errors.As(err, &invalid) {
		return &unjudged{invalid.Field, err}
	}
	s.metrics.judged(rewards)
	return nil
}

// share is the catalogue reward of each row that a text makes of the item, for each
// instance that draws the item. What a text does to the whole objective grows with how
// often its item is taken, and so does how often the item is drawn: a policy that was
// taught the former as often as the latter would learn of few items what is true of them
// alone. Divided by its chance, a draw stands for what all items together are worth.
func (s *Sampler) share(ctx context.Context, item int32, rows [][]float32) ([]float64, error) {
	rewards, err := s.judge.catalogue(ctx, s.recent, s.own, item, rows)
	if err != nil {
		return nil, err
	}
	known, err := s.recent.encode(ctx, s.judge, s.own)
	if err != nil {
		return nil, err
	}
	n := chance(known, item)
	if n == 0 {
		return nil, &unjudged{"not_recent", errors.New("no instance of the reservoir is of the item")}
	}
	for i := range rewards {
		rewards[i] /= n
	}
	return rewards, nil
}

func promptItem(it stream.Item) prompts.Item {
	return prompts.Item{ID: it.Item, Title: it.Title, Categories: it.Categories, Text: it.Text}
}

// announced is where the newest record of every item that may be written about is.
type announced map[string]place

// take notes an item event; false when there is no room for another item.
func (a announced) take(ev stream.Event[stream.Item], most int) bool {
	if ev.Deleted || ev.Body.Hidden || cmp.Or(ev.Body.Title, ev.Body.Text) == "" && len(ev.Body.Categories) == 0 {
		delete(a, ev.Body.Item)
		return true
	}
	if _, ok := a[ev.Body.Item]; !ok && len(a) >= most {
		return false
	}
	a[ev.Body.Item] = place{ev.Partition, ev.Offset}
	return true
}
