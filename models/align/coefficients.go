package align

import (
	"fmt"
	"math"
)

// Result is what a batch asks of the policy.
type Result struct {
	// Coefficients of grad log pi(token) by sample, candidate and token. A trainer
	// ascends the sum of Coefficients times log pi: the mean over the samples of each
	// one's estimate.
	Coefficients [][][]float32
	// Deviation to give with the next batch, once this one has been learnt.
	Deviation Deviation
	Stats     Stats
}

// Stats describe a batch. Means of nothing are 0, and so is KL where the reference's
// log-probabilities are not given.
type Stats struct {
	Samples, Texts, Tokens int
	Reward                 float64 // mean, of the texts
	Deviation              float64 // of rewards within a sample, as it scaled the advantages (catalogue)
	Advantage              float64 // root mean square of the advantages, clipped
	Clipped                float64 // share of them that were clipped
	Effective              float64 // (sum w)^2 / (n sum w^2) of the tokens' weights: 1 when all are equal
	Truncated              float64 // share of the weights that were truncated
	KL                     float64 // nats per text: the mean of sum_t w_t (log pi - log ref)
}

// Coefficients computes what to learn from a batch of samples:
//
//	c_it = w_it (clip(A_i) - alpha K_it) / (candidates of the sample * samples)
//
// with A the advantages (Estimator), w the importance weights (Weighting) and K the
// penalties (Penalty), none of which has a gradient. d is the deviation so far: this
// batch is not in its own scale, which would bias it, unless it is the first. A sample
// that cannot be learnt from is a *SampleError.
func Coefficients(batch []Sample, o Options, d Deviation) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, fmt.Errorf("alignment: %w", err)
	}
	r := Result{Coefficients: make([][][]float32, len(batch)), Deviation: d}
	scaled := o.Reward == Catalogue && o.Estimator == LeaveOneOut
	for i, s := range batch {
		if err := s.check(i, o); err != nil {
			return Result{}, err
		}
		if scaled {
			r.Deviation = r.Deviation.add(s)
		}
	}
	scale := 1.0
	if scaled {
		if d.Value() == 0 {
			d = r.Deviation
		}
		r.Stats.Deviation = d.Value()
		if d.Value() > 0 {
			scale = d.Value()
		}
	}
	var sums tally
	for i, s := range batch {
		share := 1 / float64(len(s.Candidates)*len(batch))
		a, k := advantages(s, o, scale), penalties(s, o)
		r.Coefficients[i] = make([][]float32, len(s.Candidates))
		for j, c := range s.Candidates {
			clipped := a[j]
			if !o.asTheyAre() {
				clipped = min(max(clipped, -o.Clip), o.Clip)
			}
			w, truncated := weights(c, o)
			out := make([]float32, c.Tokens)
			for t := range out {
				out[t] = float32(share * w[t] * (clipped - o.Alpha*k[j][t]))
			}
			r.Coefficients[i][j] = out
			sums.add(c, o, clipped, w, truncated, clipped != a[j])
		}
	}
	r.Stats = sums.stats(len(batch), r.Stats.Deviation)
	return r, nil
}

// tally sums what Stats are made of.
type tally struct {
	texts, tokens, clipped, truncated int
	reward, aa, w, ww, kl             float64
}

func (s *tally) add(c Candidate, o Options, advantage float64, w []float64, truncated int, clipped bool) {
	s.texts++
	if !o.asTheyAre() {
		s.aa += advantage * advantage
	}
	s.tokens += c.Tokens
	s.truncated += truncated
	if clipped {
		s.clipped++
	}
	if o.Estimator != Supervised { // which is not told rewards
		s.reward += c.Reward
	}
	compared := len(c.Policy) == c.Tokens && len(c.Reference) == c.Tokens
	for t, w := range w {
		s.w, s.ww = s.w+w, s.ww+w*w
		if compared {
			s.kl += w * (float64(c.Policy[t]) - float64(c.Reference[t]))
		}
	}
}

func (s *tally) stats(samples int, deviation float64) Stats {
	out := Stats{Samples: samples, Texts: s.texts, Tokens: s.tokens, Deviation: deviation}
	if s.texts > 0 {
		n, tokens := float64(s.texts), float64(s.tokens)
		out.Reward, out.KL, out.Clipped = s.reward/n, s.kl/n, float64(s.clipped)/n
		out.Advantage = math.Sqrt(s.aa / n)
		out.Truncated, out.Effective = float64(s.truncated)/tokens, s.w*s.w/(tokens*s.ww)
	}
	return out
}
