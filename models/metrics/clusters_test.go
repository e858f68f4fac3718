package metrics

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// experiment draws what seeds measured of users, with the noise of users, of seeds and
// of each user in each seed.
func experiment(r *rand.Rand, mean float64, users, seeds, cases int, byUser, bySeed, own float64) []Sample {
	user := make([]float64, users)
	for u := range user {
		user[u] = byUser * r.NormFloat64()
	}
	var out []Sample
	for range seeds {
		seed := bySeed * r.NormFloat64()
		var s Sample
		var values []float64
		for u := range users {
			for range cases {
				s.Users = append(s.Users, u)
				values = append(values, mean+user[u]+seed+own*r.NormFloat64())
			}
		}
		s.Values = [][]float64{values}
		out = append(out, s)
	}
	return out
}

// 95 % intervals must hold the true mean about 95 times in 100, whatever the noise is of
// and however few the seeds; where two or three do not disagree, they are too wide rather.
func TestIntervalsOverUsersAndSeedsCover(t *testing.T) {
	for name, c := range map[string]struct {
		seeds, cases         int
		byUser, bySeed, own  float64
		atLeast, notMoreThan float64
	}{
		"noise between users":               {5, 1, 1, 0, 0, 0.92, 0.98},
		"noise of each run of a user":       {5, 1, 0, 0, 1, 0.92, 0.99},
		"one seed":                          {1, 1, 1, 0, 1, 0.92, 0.98},
		"cases of a user go together":       {3, 6, 1, 0, 1, 0.92, 0.995},
		"two seeds that disagree":           {2, 1, 1, 0.5, 1, 0.92, 0.99},
		"three seeds that disagree":         {3, 1, 1, 0.5, 1, 0.92, 0.98},
		"three seeds that disagree little":  {3, 1, 1, 0.1, 1, 0.92, 0.995},
		"eight seeds that disagree":         {8, 1, 0, 0.5, 1, 0.92, 0.98},
		"users, seeds and their own, mixed": {5, 2, 1, 0.1, 1, 0.92, 0.99},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			held, found := 0, 0
			const trials, mean = 600, 0.5
			for i := range trials {
				b := BootstrapUsers(experiment(r, mean, 80, c.seeds, c.cases, c.byUser, c.bySeed, c.own), 400, uint64(i))[0]
				if b.Low <= mean && mean <= b.High {
					held++
				}
				if b.Low > 0 {
					found++
				}
			}
			require.GreaterOrEqual(t, float64(held)/trials, c.atLeast)
			require.LessOrEqual(t, float64(held)/trials, c.notMoreThan)
			if c.bySeed < 0.5 {
				require.Greater(t, float64(found)/trials, 0.6, "a difference that is there is found")
			}
		})
	}
}

func TestADifferenceThatIsNotThereIsNotFound(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	found := 0
	const trials = 300
	for i := range trials {
		b := BootstrapUsers(experiment(r, 0, 80, 5, 1, 1, 0, 1), 400, uint64(i))[0]
		if b.Low > 0 || b.High < 0 {
			found++
		}
	}
	require.InDelta(t, 0.05, float64(found)/trials, 0.04)
}

func TestIntervalsByHand(t *testing.T) {
	// Two users, one with three cases: the mean is over cases, and every resample is
	// one of 0, 3/4 or 1.
	s := []Sample{{Users: []int{0, 1, 1, 1}, Values: [][]float64{{0, 1, 1, 1}, {0, 2, 2, 2}}}}
	require.Equal(t, []Interval{{0.75, 0, 1}, {1.5, 0, 2}}, BootstrapUsers(s, 2000, 1), "metrics share their resamples")
	first := BootstrapUsers(s, 50, 7)
	require.Equal(t, first, BootstrapUsers(s, 50, 7), "the same each time")
	// Users agree within each seed: all of the spread is the seeds', and the interval
	// Student's of their means, with 2 degrees of freedom.
	agree := []Sample{{[]int{0, 1}, [][]float64{{1, 1}}}, {[]int{0, 1}, [][]float64{{2, 2}}}, {[]int{0, 1}, [][]float64{{3, 3}}}}
	b := BootstrapUsers(agree, 200_000, 1)[0]
	require.Equal(t, 2., b.Mean)
	require.InDelta(t, 2-4.3027/math.Sqrt(3), b.Low, 0.05)
	require.InDelta(t, 2+4.3027/math.Sqrt(3), b.High, 0.05)
	require.True(t, math.IsNaN(BootstrapUsers([]Sample{{Values: [][]float64{nil}}}, 10, 1)[0].Mean))
}
