package metrics

import (
	"math"
	"math/rand/v2"
	"sort"
)

// Sample is what one seed measured: a value of each case, and the user it is of. A
// user has the same number in every seed.
type Sample struct {
	Users  []int
	Values []float64
}

// BootstrapUsers returns the mean over all cases of all seeds, and its 95 % interval
// over users and seeds from n resamples. For a paired comparison the values are
// differences of two arms in the same case.
//
// Users are drawn with all their cases in all seeds, which accounts for the noise
// between users, and for that between the runs of one user, since every user's noise is
// its own. What all users of a seed have in common (a lucky initialisation) is not in
// that: the seeds' means, less the spread which the users' own noise explains in
// them, are drawn besides. To draw users and seeds both, each with all it has, would
// count the noise within users twice (Owen, The pigeonhole bootstrap, 2007).
func BootstrapUsers(seeds []Sample, n int, seed uint64) Interval {
	users := 0
	for _, s := range seeds {
		for _, u := range s.Users {
			users = max(users, u+1)
		}
	}
	sum, count := make([]float64, users), make([]float64, users) // over seeds
	for _, s := range seeds {
		for i, u := range s.Users {
			sum[u] += s.Values[i]
			count[u]++
		}
	}
	var present []int
	total, cases := 0.0, 0.0
	for u := range users {
		if count[u] > 0 {
			present = append(present, u)
			total, cases = total+sum[u], cases+count[u]
		}
	}
	if cases == 0 {
		return Interval{math.NaN(), math.NaN(), math.NaN()}
	}
	effects := seedEffects(seeds, sum, count, total/cases)
	r := rand.New(rand.NewPCG(seed, uint64(len(present))))
	means := make([]float64, n)
	for i := range means {
		s, c := 0.0, 0.0
		for range present {
			u := present[r.IntN(len(present))]
			s, c = s+sum[u], c+count[u]
		}
		means[i] = s / c
		for range effects {
			means[i] += effects[r.IntN(len(effects))] / float64(len(effects))
		}
	}
	sort.Float64s(means)
	at := func(q float64) float64 { return means[int(q*float64(n-1)+0.5)] }
	return Interval{total / cases, at(0.025), at(0.975)}
}

// seedEffects are the seeds' deviations from the mean, shrunk so that their spread is
// that which the users' noise within a seed leaves unexplained; none where it
// explains all.
func seedEffects(seeds []Sample, sum, count []float64, mean float64) []float64 {
	n := float64(len(seeds))
	if n < 2 {
		return nil
	}
	effects := make([]float64, len(seeds))
	spread, noise := 0.0, 0.0 // variances of a seed's mean
	for i, s := range seeds {
		cases := float64(len(s.Users))
		for _, v := range s.Values {
			effects[i] += v / cases
		}
		effects[i] -= mean
		own := make([]float64, len(sum)) // what is neither the user's nor the seed's
		for k, u := range s.Users {
			own[u] += s.Values[k] - sum[u]/count[u] - effects[i]
		}
		for _, v := range own {
			noise += v * v / (cases * cases) / (n - 1)
		}
		spread += effects[i] * effects[i] / (n - 1)
	}
	if spread <= noise {
		return nil
	}
	// n/(n-1): the drawn effects' variance is their mean square.
	shrink := math.Sqrt((spread - noise) / spread * n / (n - 1))
	for i := range effects {
		effects[i] *= shrink
	}
	return effects
}
