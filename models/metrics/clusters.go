package metrics

import (
	"math"
	"math/rand/v2"
	"sort"
)

// Sample is what one seed measured: of each metric a value of each case, and the user
// that the case is of. A user has the same number in every seed.
type Sample struct {
	Users  []int
	Values [][]float64 // by metric, then by case
}

// BootstrapUsers returns of each metric the mean over all cases of all seeds, and its
// 95 % interval over users and seeds from n resamples, which are the same for all of
// them. For a paired comparison the values are differences of two arms in the same case.
//
// Users are drawn with all their cases in all seeds, which accounts for the noise
// between users, and for that between the runs of one user, since every user's noise is
// its own. What all users of a seed have in common (a lucky initialization) is not in
// that: its variance is the spread of the seeds' means less what the users' own noise
// explains in them. Few seeds say little of that spread, so it is drawn, too, from what it
// may be given theirs (a scaled inverse chi square), as in Weerahandi's confidence
// intervals (1993); two seeds make wide intervals. To draw seeds, each with all
// it has, would count the noise within users twice (Owen, The pigeonhole bootstrap, 2007),
// and hold the mean too rarely where they are few.
func BootstrapUsers(seeds []Sample, n int, seed uint64) []Interval {
	if len(seeds) == 0 {
		return nil
	}
	users, cases, many := 0, 0.0, len(seeds[0].Values)
	for _, s := range seeds {
		for _, u := range s.Users {
			users = max(users, u+1)
		}
		cases += float64(len(s.Users))
	}
	out := make([]Interval, many)
	if cases == 0 {
		for m := range out {
			out[m] = Interval{math.NaN(), math.NaN(), math.NaN()}
		}
		return out
	}
	// Of each user: the cases, and the sum of each metric over seeds.
	count, sums := make([]float64, users), make([]float64, users*many)
	for _, s := range seeds {
		for i, u := range s.Users {
			count[u]++
			for m := range many {
				sums[u*many+m] += s.Values[m][i]
			}
		}
	}
	var present []int
	for u := range users {
		if count[u] > 0 {
			present = append(present, u)
			for m := range out {
				out[m].Mean += sums[u*many+m] / cases
			}
		}
	}
	spread, noise := make([]float64, many), make([]float64, many)
	for m := range out {
		spread[m], noise[m] = spreadOfSeeds(seeds, m, sums, count, out[m].Mean)
	}
	r := rand.New(rand.NewPCG(seed, uint64(len(present))))
	means := make([][]float64, many)
	for m := range means {
		means[m] = make([]float64, n)
	}
	drawn := make([]float64, many)
	free := float64(len(seeds) - 1) // degrees of freedom of the spread
	for i := range n {
		clear(drawn)
		c := 0.0
		for range present {
			u := present[r.IntN(len(present))]
			c += count[u]
			for m, x := range sums[u*many : (u+1)*many] {
				drawn[m] += x
			}
		}
		z, chi := 0.0, 1.0
		if free > 0 {
			z, chi = r.NormFloat64(), 0
			for range len(seeds) - 1 {
				x := r.NormFloat64()
				chi += x * x
			}
		}
		for m := range means {
			means[m][i] = drawn[m]/c + z*math.Sqrt(max(0, spread[m]*free/chi-noise[m])/float64(len(seeds)))
		}
	}
	for m := range out {
		sort.Float64s(means[m])
		at := func(q float64) float64 { return means[m][int(q*float64(n-1)+0.5)] }
		out[m].Low, out[m].High = at(0.025), at(0.975)
	}
	return out
}

// spreadOfSeeds is, of a metric, the variance of the seeds' means about the mean, and how
// much of it the users' noise within a seed explains; 0 where there is one seed.
func spreadOfSeeds(seeds []Sample, metric int, sums, count []float64, mean float64) (spread, noise float64) {
	n, many := float64(len(seeds)), len(sums)/len(count)
	if n < 2 {
		return 0, 0
	}
	for _, s := range seeds {
		cases := float64(len(s.Users))
		effect := -mean
		for _, v := range s.Values[metric] {
			effect += v / cases
		}
		own := make([]float64, len(count)) // what is neither the user's nor the seed's
		for k, u := range s.Users {
			own[u] += s.Values[metric][k] - sums[u*many+metric]/count[u] - effect
		}
		for _, v := range own {
			noise += v * v / (cases * cases) / (n - 1)
		}
		spread += effect * effect / (n - 1)
	}
	return spread, noise
}
