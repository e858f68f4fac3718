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
// its own. What all users of a seed have in common (a lucky initialization) is not in
// that: its variance is the spread of the seeds' means less what the users' own noise
// explains in them. Few seeds say little of that spread, so it is drawn, too, from what it
// may be given theirs (a scaled inverse chi square), as in a generalized confidence
// interval (Weerahandi 1993); two seeds make wide intervals. To draw seeds, each with all
// it has, would count the noise within users twice (Owen, The pigeonhole bootstrap, 2007),
// and hold the mean too rarely where they are few.
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
	spread, noise := spreadOfSeeds(seeds, sum, count, total/cases)
	free := float64(len(seeds) - 1) // degrees of freedom of the spread
	r := rand.New(rand.NewPCG(seed, uint64(len(present))))
	means := make([]float64, n)
	for i := range means {
		s, c := 0.0, 0.0
		for range present {
			u := present[r.IntN(len(present))]
			s, c = s+sum[u], c+count[u]
		}
		means[i] = s / c
		if len(seeds) > 1 {
			chi := 0.0
			for range len(seeds) - 1 {
				z := r.NormFloat64()
				chi += z * z
			}
			means[i] += r.NormFloat64() * math.Sqrt(max(0, spread*free/chi-noise)/float64(len(seeds)))
		}
	}
	sort.Float64s(means)
	at := func(q float64) float64 { return means[int(q*float64(n-1)+0.5)] }
	return Interval{total / cases, at(0.025), at(0.975)}
}

// spreadOfSeeds is the variance of the seeds' means about the mean, and how much of it
// the users' noise within a seed explains; 0 where there is one seed.
func spreadOfSeeds(seeds []Sample, sum, count []float64, mean float64) (spread, noise float64) {
	n := float64(len(seeds))
	if n < 2 {
		return 0, 0
	}
	for _, s := range seeds {
		cases := float64(len(s.Users))
		effect := -mean
		for _, v := range s.Values {
			effect += v / cases
		}
		own := make([]float64, len(sum)) // what is neither the user's nor the seed's
		for k, u := range s.Users {
			own[u] += s.Values[k] - sum[u]/count[u] - effect
		}
		for _, v := range own {
			noise += v * v / (cases * cases) / (n - 1)
		}
		spread += effect * effect / (n - 1)
	}
	return spread, noise
}
