package experiments

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"time"

	"seralm/config"
	"seralm/consumers/generator"
	"seralm/models/metrics"
	"seralm/stream"
)

// RewardsProtocol is the name of the protocol in a result.
const RewardsProtocol = "rewards-of-two-halves"

// rewardsFile, with ".lines" behind it, has the texts that are rewarded, in the folder of
// the alignment.
const rewardsFile = "rewards"

// RewardsResult says how far what texts are worth to some users is what they are worth to
// others. The recommender that judges them has learnt from both.
type RewardsResult struct {
	Provenance
	Training  Training            `json:"training"`
	Knowledge Source              `json:"knowledge"` // that the recommender learnt from
	Domain    string              `json:"domain"`
	Policy    stream.ModelVersion `json:"policy"` // that wrote the texts
	Alignment config.Alignment    `json:"alignment"`
	Batch     int                 `json:"batch"` // texts written at a time: what is drawn depends on it
	Texts     int                 `json:"texts"` // of each item

	Instances [2]int `json:"instances"` // of each half of the users
	Catalogue Carry  `json:"catalogue"` // chosen by the catalogue reward of a half
	Instance  Carry  `json:"instance"`  // chosen by p(y|x,s) of one instance of a half
	Silent    int    `json:"silent"`    // items of which fewer than two texts say something

	Items []ItemRewards `json:"items"`
}

// ItemRewards is what the texts about an item are worth, by half of the users and text.
type ItemRewards struct {
	Item      string     `json:"item"`
	Catalogue [2]Numbers `json:"catalogue"` // nats
	Instance  [2]Numbers `json:"instance"`  // log p(y|x,s) of an instance that draws the item; empty where none does
}

// Carry is how far a choice of texts by one half of the users carries over to the other,
// both ways round. What is gained is above the mean of an item's texts, in nats of all
// instances of the half that judges. Intervals are over items.
type Carry struct {
	Items       int              `json:"items"`
	Correlation metrics.Interval `json:"rank_correlation"` // within an item, of what chooses with what the other half says
	Gain        metrics.Interval `json:"gain"`             // of the text that is chosen, judged by the other half
	Own         metrics.Interval `json:"gain_own"`         // the same, judged by the half that chose
}

// carry compares what chooses with what judges: of each item, by half and text.
func carry(chooses, judges [][2][]float64) Carry {
	if len(chooses) == 0 {
		return Carry{} // its means are no numbers, which no file can hold
	}
	var correlation, gain, own []float64
	for i, of := range chooses {
		c, g, o := 0.0, 0.0, 0.0
		for half, by := range of {
			mine, others := judges[i][half], judges[i][1-half]
			best := highest(by)
			c += metrics.Spearman(by, others) / 2
			g += (others[best] - mean(others)) / 2
			o += (mine[best] - mean(mine)) / 2
		}
		correlation, gain, own = append(correlation, c), append(gain, g), append(own, o)
	}
	interval := func(values []float64) metrics.Interval { return metrics.Bootstrap(values, resamples, bootstrapKey) }
	return Carry{len(chooses), interval(correlation), interval(gain), interval(own)}
}

func mean(values []float64) (m float64) {
	for _, v := range values {
		m += v / float64(len(values))
	}
	return m
}

// Rewards writes k texts of each of the n most popular items with the model that is not
// aligned, rewards them by each half of the users, and compares.
func (a *Aligner) Rewards(ctx context.Context, n, k int) (RewardsResult, error) {
	cfg := a.Config
	cfg.Recommender = a.Judge.Recommender
	p, err := newProvenance(RewardsProtocol, cfg, a.data)
	if err != nil {
		return RewardsResult{}, err
	}
	r := RewardsResult{
		Provenance: p, Training: a.Judge.Training, Knowledge: a.Judge.Knowledge.Source, Domain: cfg.Knowledge.Domain,
		Policy: a.Policy.Version(), Alignment: cfg.Alignment, Batch: cfg.Knowledge.Batch, Texts: k,
	}
	if err := a.catalogue("what texts are worth to half of the users is the catalogue reward"); err != nil {
		return r, err
	}
	halves, err := a.halves(ctx)
	for _, h := range halves {
		defer h.Close()
	}
	if err != nil {
		return r, err
	}
	for i, h := range halves {
		r.Instances[i] = h.instances
	}
	lines, err := a.write(ctx, Texts{Path: filepath.Join(a.dir, rewardsFile), Items: n, Bare: true, Best: k}, nil)
	if err != nil {
		return r, err
	}
	for i, w := range lines {
		if len(w.Texts) < 2 {
			r.Silent++
			continue
		}
		item := ItemRewards{Item: w.Item}
		for i, h := range halves {
			if item.Catalogue[i], item.Instance[i], err = h.reward(ctx, w); err != nil {
				return r, fmt.Errorf("item %q: %w", w.Item, err)
			}
		}
		r.Items = append(r.Items, item)
		if (i+1)%10 == 0 {
			tell(a.progress, "%d of %d items rewarded\n", i+1, len(lines))
		}
	}
	if len(r.Items) == 0 {
		return r, errors.New("there is no item of which two texts say something: is alignment.max_tokens too small for the model?")
	}
	r.compare()
	r.Seconds = time.Since(r.Began).Seconds()
	return r, nil
}

// compare fills in what the items' rewards come to.
func (r *RewardsResult) compare() {
	var catalogue, one, all [][2][]float64
	for _, item := range r.Items {
		rewards := [2][]float64{item.Catalogue[0], item.Catalogue[1]}
		catalogue = append(catalogue, rewards)
		if p := item.Instance; len(p[0]) > 0 && len(p[1]) > 0 {
			one, all = append(one, [2][]float64{p[0], p[1]}), append(all, rewards)
		}
	}
	r.Catalogue, r.Instance = carry(catalogue, catalogue), carry(one, all)
}

// half is one half of the users.
type half struct {
	*generator.Sampler
	instances int                             // that rewards are of
	draws     map[string][]generator.Instance // that draw an item
	random    *rand.Rand
}

// halves divides the users by chance.
func (a *Aligner) halves(ctx context.Context) ([]*half, error) {
	seed := a.Config.Alignment.Seed
	users := rand.New(rand.NewPCG(seed, 0)).Perm(a.data.Users())
	var out []*half
	for i := range 2 {
		s, instances, err := a.samplerOf(ctx, func(user int) bool { return users[user]%2 == i })
		if err != nil {
			return out, err
		}
		h := &half{s, min(len(instances), a.Config.Alignment.Reservoir), map[string][]generator.Instance{}, rand.New(rand.NewPCG(seed, 1+uint64(i)))}
		for _, in := range instances {
			if item, ok := s.Choose(in, a.described); ok {
				h.draws[item] = append(h.draws[item], in)
			}
		}
		out = append(out, h)
	}
	return out, nil
}

// reward returns the catalogue reward of an item's texts, and log p(y|x,s) of one of the
// instances that draw the item.
func (h *half) reward(ctx context.Context, w written) (catalogue, instance Numbers, err error) {
	if catalogue, err = h.Rewards(ctx, w.Item, w.Texts); err != nil {
		return nil, nil, err
	}
	if of := h.draws[w.Item]; len(of) > 0 {
		if instance, err = h.Probabilities(ctx, of[h.random.IntN(len(of))], w.Item, w.Texts); err != nil {
			return nil, nil, err
		}
	}
	for i, p := range instance {
		if p == 0 {
			return nil, nil, fmt.Errorf("p(y|x,s) of text %d is 0: the recommender's scores are not to be used", i)
		}
		instance[i] = toFile(math.Log(p))
	}
	for i, reward := range catalogue {
		catalogue[i] = toFile(reward)
	}
	return catalogue, instance, nil
}

// toFile rounds nats to what files have of them.
func toFile(v float64) float64 { return math.Round(v*1e4) / 1e4 }
