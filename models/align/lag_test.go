package align

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// bandit is a policy over five texts of one token that, as a language model's do, share
// a parameter: logits theta i - i^2/2 for i = -2..2. The rewards are highest near 0.8,
// which no single text is at, so the best theta is neither 0 nor at an end.
type bandit struct {
	*table
	theta float64
}

func newBandit(theta float64) *bandit {
	b := &bandit{table: newTable(1, false, 1)}
	b.set(theta)
	return b
}

func (b *bandit) set(theta float64) {
	b.theta = theta
	for n := range b.logits[0] {
		i := float64(n - 2)
		b.logits[0][n] = theta*i - i*i/2
	}
}

var banditRewards = func() (out []float64) {
	for n := range 5 {
		off := float64(n-2) - 0.8
		out = append(out, -off*off/4)
	}
	return out
}()

// lacks is how much of the best theta's reward a training lacks in the mean of its last
// quarter, when its texts come from a policy that is refreshed every lag steps.
func lacks(t *testing.T, lag int, by Weighting) (sum float64) {
	t.Helper()
	const rate, steps = 0.02, 12_000
	o := Options{Reward: Catalogue, Estimator: LeaveOneOut, Clip: 5, Weighting: by, Truncate: 3}
	best := newBandit(0)
	for theta := -4.0; theta <= 4; theta += 0.01 {
		if b := newBandit(theta); b.expected(banditRewards) > best.expected(banditRewards) {
			best = b
		}
	}

	p, behaviour := newBandit(-1.5), newBandit(-1.5)
	r := rand.New(rand.NewPCG(6, uint64(lag)))
	step := make([]float64, 5)
	for n := range steps {
		if n%lag == 0 {
			behaviour.set(p.theta)
		}
		mu := behaviour.probabilities()
		draw := func() int {
			u := r.Float64()
			for i, q := range mu {
				if u -= q; u < 0 {
					return i
				}
			}
			return len(mu) - 1
		}
		w := newWorld(p.table, behaviour.table, p.table, banditRewards)
		clear(step)
		w.estimate(t, o, unit, step, rate, draw(), draw(), draw(), draw())
		theta := p.theta
		for i, g := range step {
			theta += g * float64(i-2)
		}
		p.set(theta)
		if n >= steps*3/4 {
			sum += (best.expected(banditRewards) - p.expected(banditRewards)) / (steps / 4)
		}
	}
	return sum
}

// The texts of a policy that is up to 3,000 steps old (the paper's slow refresh): with
// weights the policy finds the optimum, without it runs past it until the refresh.
func TestWeightsMakeUpForLag(t *testing.T) {
	for _, lag := range []int{1, 50, 3000} {
		with, without := lacks(t, lag, PerToken), lacks(t, lag, Uncorrected)
		t.Logf("refreshed every %d steps: lacks %.5f with weights, %.5f without", lag, with, without)
		require.Less(t, with, 0.01)
		if lag == 3000 {
			require.Greater(t, without, 10*with)
		}
	}
}
