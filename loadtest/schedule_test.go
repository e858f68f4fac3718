package loadtest

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func planned(stages []Stage, law Arrivals) []time.Duration {
	p := newPlan(stages, law, rand.New(rand.NewPCG(1, 1)))
	var all []time.Duration
	for {
		at, ok := p.arrival()
		if !ok {
			return all
		}
		all = append(all, at)
	}
}

func TestConstantArrivalsAreEvenlySpaced(t *testing.T) {
	got := planned([]Stage{{Duration: time.Second, From: 4, To: 4}}, Constant)
	require.Equal(t, []time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond, 750 * time.Millisecond}, got)
}

func TestSpacingIsExactAfterAMillionArrivals(t *testing.T) {
	got := planned([]Stage{{Duration: 1000 * time.Second, From: 1000, To: 1000}}, Constant)
	require.Len(t, got, 1_000_000)
	require.InDelta(t, 999.999, got[999_999].Seconds(), 1e-6)
}

func TestARampSendsTheAreaUnderItsRate(t *testing.T) {
	for name, c := range map[string]struct {
		stages []Stage
		want   int
	}{
		"up":           {[]Stage{{10 * time.Second, 0, 100}}, 500},
		"down to zero": {[]Stage{{10 * time.Second, 100, 0}}, 500},
		"up, flat":     {[]Stage{{10 * time.Second, 100, 300}, {5 * time.Second, 300, 300}}, 3500},
		"with a rest":  {[]Stage{{time.Second, 10, 10}, {time.Second, 0, 10}, {time.Second, 10, 10}}, 25},
	} {
		t.Run(name, func(t *testing.T) {
			got := planned(c.stages, Constant)
			require.Len(t, got, c.want)
			for i := 1; i < len(got); i++ {
				require.GreaterOrEqual(t, got[i], got[i-1], "arrival %d", i)
			}
		})
	}
}

func TestARampHasItsRateAtEachMoment(t *testing.T) {
	got := planned([]Stage{{100 * time.Second, 0, 1000}}, Constant)
	perSecond := make([]int, 100)
	for _, at := range got {
		perSecond[int(at.Seconds())]++
	}
	for s, n := range perSecond {
		require.InDelta(t, 10*s+5, n, 1.01, "second %d", s)
	}
}

// The gaps of a Poisson process are exponential: their mean is 1/rate, their
// deviation equals their mean, and a share 1-1/e of them is below the mean.
func TestPoissonArrivalsHaveExponentialGaps(t *testing.T) {
	const rate, n = 1000.0, 100_000
	got := planned([]Stage{{n / rate * time.Second, rate, rate}}, Poisson)
	require.InDelta(t, n, len(got), 4*math.Sqrt(n))
	var sum, squares float64
	below := 0
	for i := 1; i < len(got); i++ {
		gap := (got[i] - got[i-1]).Seconds() * rate
		sum, squares = sum+gap, squares+gap*gap
		if gap < 1 {
			below++
		}
	}
	mean := sum / float64(len(got)-1)
	require.InDelta(t, 1, mean, 0.02)
	require.InDelta(t, 1, math.Sqrt(squares/float64(len(got)-1)-mean*mean), 0.02)
	require.InDelta(t, 1-1/math.E, float64(below)/float64(len(got)-1), 0.01)
}

func TestParseStages(t *testing.T) {
	got, err := ParseStages("10s:100-1000, 1m:1000")
	require.NoError(t, err)
	require.Equal(t, []Stage{{10 * time.Second, 100, 1000}, {time.Minute, 1000, 1000}}, got)
	for text, want := range map[string]string{
		"10s":       "write DURATION:RATE",
		"ten:5":     "invalid duration",
		"10s:fast":  `"fast" is not a rate`,
		"10s:1-":    `"" is not a rate`,
		"10s:5,,":   "write DURATION:RATE",
		"10s:5 000": "is not a rate",
	} {
		_, err := ParseStages(text)
		require.ErrorContains(t, err, want, text)
	}
}
