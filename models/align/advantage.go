package align

import "math"

// Deviation is the running deviation of rewards within a sample, by which the
// catalogue's advantages are scaled: their unit, nats of a whole log, is nobody's. It is
// the geometric mean of the samples' own: these differ fortyfold between items, and the
// root of their mean square would be that of the few items whose texts are the loudest,
// beside which nothing would be learnt of all others. The zero value knows nothing yet.
// It is a value to keep: saved exactly (JSON does), a run that goes on is the run that
// did not stop.
type Deviation struct {
	Sum    float64 `json:"sum"`    // of the logarithms of samples' deviations, older ones counting less
	Weight float64 `json:"weight"` // of the samples in Sum
}

// remember is what a sample still counts when the next one has come: some 100 samples
// make the deviation.
const remember = 0.99

// Value is the deviation, 0 while no two rewards have differed.
func (d Deviation) Value() float64 {
	if d.Weight == 0 {
		return 0
	}
	return math.Exp(d.Sum / d.Weight)
}

// add counts a sample's rewards. A sample whose rewards are all the same says nothing of
// their scale.
func (d Deviation) add(s Sample) Deviation {
	best, worst := extremes(s.Candidates)
	if best == worst { // rounding of the mean may leave them a deviation
		return d
	}
	k := float64(len(s.Candidates))
	mean, square := 0.0, 0.0
	for _, c := range s.Candidates {
		mean += c.Reward / k
	}
	for _, c := range s.Candidates {
		square += (c.Reward - mean) * (c.Reward - mean) / (k - 1)
	}
	if square == 0 { // too small a number
		return d
	}
	return Deviation{remember*d.Sum + math.Log(square)/2, remember*d.Weight + 1}
}

// advantages of the candidates before they are clipped; scale divides the catalogue's.
func advantages(s Sample, o Options, scale float64) []float64 {
	k := len(s.Candidates)
	out := make([]float64, k)
	for i, c := range s.Candidates {
		switch o.Estimator {
		case LeaveOneOut:
			others := 0.0 // summed anew: the sum less c.Reward would lose what is small beside it
			for j, other := range s.Candidates {
				if j != i {
					others += other.Reward / float64(k-1)
				}
			}
			if o.Reward == Instance {
				out[i] = c.Reward/others - 1
			} else {
				out[i] = (c.Reward - others) / scale
			}
		case Paper:
			out[i] = c.Reward/s.Base - 1
		case Supervised:
			out[i] = 1
		}
	}
	if best, worst := extremes(s.Candidates); o.Estimator == BestOfK && best != worst {
		out[best] = float64(k) // Coefficients takes the mean of the candidates
	}
	return out
}

// extremes are the first candidates with the highest and the lowest reward, the same one
// when all rewards are.
func extremes(candidates []Candidate) (best, worst int) {
	for i, c := range candidates {
		if c.Reward > candidates[best].Reward {
			best = i
		}
		if c.Reward < candidates[worst].Reward {
			worst = i
		}
	}
	return best, worst
}
