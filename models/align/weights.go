package align

import "math"

// ratioBound bounds a log ratio before it is exponentiated: beyond it no weight is
// different, and no number overflows.
const ratioBound = 20

// weights of a candidate's tokens, and how many were truncated. They are constants of
// the gradient.
func weights(c Candidate, o Options) (w []float64, truncated int) {
	w = make([]float64, c.Tokens)
	switch o.Weighting {
	case Uncorrected:
		for t := range w {
			w[t] = 1
		}
	case PerToken:
		for t := range w {
			var cut bool
			if w[t], cut = truncate(float64(c.Policy[t])-float64(c.Behaviour[t]), o); cut {
				truncated++
			}
		}
	case PerText:
		ratio := 0.0
		for t := range w {
			ratio += float64(c.Policy[t]) - float64(c.Behaviour[t])
		}
		one, cut := truncate(ratio, o)
		for t := range w {
			w[t] = one
		}
		if cut {
			truncated = c.Tokens
		}
	}
	return w, truncated
}

func truncate(ratio float64, o Options) (w float64, cut bool) {
	w = math.Exp(min(max(ratio, -ratioBound), ratioBound))
	return min(w, o.Truncate), w > o.Truncate
}
