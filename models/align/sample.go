package align

import (
	"fmt"
	"math"
)

// Sample is the texts that were sampled for one prompt.
type Sample struct {
	Base       float64 // p(y|x) of the recommender without texts; the estimator Paper divides by it
	Candidates []Candidate
}

// Candidate is one text. Log-probabilities are of its tokens under softmax(logits/tau),
// with the tau that it was sampled at. What the options have no use for may be nil.
type Candidate struct {
	Reward    float64   // as Options.Reward says
	Tokens    int       // its length
	Policy    []float32 // of the model that learns, now: for weights and penalties
	Behaviour []float32 // of the model that sampled: for weights
	Reference []float32 // of the model before it learnt: for penalties
}

// SampleError says which text of a batch cannot be learnt from, and why. It is the
// text's fault: the same sample fails again.
type SampleError struct {
	Sample    int // in the batch
	Candidate int // in the sample; -1 where it is the sample itself
	Problem   string
}

func (e *SampleError) Error() string {
	if e.Candidate < 0 {
		return fmt.Sprintf("sample %d: %s", e.Sample, e.Problem)
	}
	return fmt.Sprintf("sample %d: candidate %d: %s", e.Sample, e.Candidate, e.Problem)
}

// check returns a *SampleError for a sample that the options cannot be applied to.
func (s Sample) check(at int, o Options) error {
	bad := func(candidate int, format string, args ...any) error {
		return &SampleError{at, candidate, fmt.Sprintf(format, args...)}
	}
	switch {
	case len(s.Candidates) == 0:
		return bad(-1, "it has no candidate")
	case o.Estimator == LeaveOneOut && len(s.Candidates) < 2:
		return bad(-1, "it has one candidate: %s compares at least 2", LeaveOneOut)
	case o.Estimator == Paper && !(s.Base > 0 && s.Base <= 1):
		return bad(-1, "p(y|x) without texts is %v: it is a probability above 0", s.Base)
	}
	for i, c := range s.Candidates {
		switch {
		case c.Tokens < 1:
			return bad(i, "its text is empty")
		case o.Estimator == Supervised: // whatever the reward is
		case o.Reward == Instance && !(c.Reward > 0 && c.Reward <= 1):
			return bad(i, "p(y|x,s) is %v: it is a probability above 0", c.Reward)
		case o.Reward == Catalogue && !finite(c.Reward):
			return bad(i, "its reward is %v", c.Reward)
		}
		for _, p := range []struct {
			of     string
			needed bool
			values []float32
		}{
			{"policy", o.Alpha > 0 || o.Weighting != Uncorrected, c.Policy},
			{"behaviour", o.Weighting != Uncorrected, c.Behaviour},
			{"reference", o.Alpha > 0, c.Reference},
		} {
			if !p.needed {
				continue
			}
			if len(p.values) != c.Tokens {
				return bad(i, "it has %d tokens and %d log-probabilities of the %s", c.Tokens, len(p.values), p.of)
			}
			for t, v := range p.values {
				if !(v <= 1e-3) || math.IsInf(float64(v), 0) { // a rounded log 1 may be above 0
					return bad(i, "log-probability of token %d under the %s is %v", t, p.of, v)
				}
			}
		}
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
