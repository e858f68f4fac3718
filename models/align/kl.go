package align

// penalties returns what each token of each candidate is charged, per unit of alpha:
// the factor of grad log pi(t) in an estimate of grad KL(pi || ref).
//
// Eq. 7 must not be differentiated as it stands. The gradient of its Monte Carlo
// estimate is -grad log pi(s), whose expectation is zero: KL is an expectation over pi,
// and what moves it is that pi moves. By the score function,
//
//	grad KL = E[(log pi(s) - log ref(s)) grad log pi(s)]
//	        = E[sum_t (sum_{u >= t} d_u) grad log pi(t)],    d_u = log pi(u) - log ref(u)
//
// for what came before token t does not depend on it.
func penalties(s Sample, o Options) [][]float64 {
	out := make([][]float64, len(s.Candidates))
	longest := 0
	for i, c := range s.Candidates {
		out[i] = make([]float64, c.Tokens)
		longest = max(longest, c.Tokens)
		if o.Alpha == 0 {
			continue
		}
		rest := 0.0
		for t := c.Tokens - 1; t >= 0; t-- {
			d := float64(c.Policy[t]) - float64(c.Reference[t])
			rest += d
			out[i][t] = d
			if o.Penalty == InReward {
				out[i][t] = rest
			}
		}
	}
	if o.Alpha == 0 || o.Penalty != InReward || o.Estimator != LeaveOneOut {
		return out
	}
	// What the other texts pay from the same place on says nothing of this one: a
	// baseline, as for the rewards. A text that has ended pays nothing more.
	k := float64(len(out))
	for t := range longest {
		sum := 0.0
		for _, p := range out {
			if t < len(p) {
				sum += p[t]
			}
		}
		for _, p := range out {
			if t < len(p) {
				p[t] -= (sum - p[t]) / (k - 1)
			}
		}
	}
	return out
}
