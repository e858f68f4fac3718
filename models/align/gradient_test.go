package align

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// plain options: nothing is clipped or truncated.
func plain(r Reward, e Estimator) Options {
	return Options{Reward: r, Estimator: e, Clip: 1e9, Weighting: PerText, Truncate: 1e30}
}

func onPolicy(length int, stop bool) *world {
	p := newTable(length, stop, 1)
	return newWorld(p, p, p.near(0.5, 2), p.rewards(3))
}

// unit is a deviation of 1.
var unit = Deviation{0, 1}

func TestAllTextsAreEnumerated(t *testing.T) {
	p := newTable(3, false, 1)
	require.Len(t, p.texts, 125)
	require.InDelta(t, 1, total(p.probabilities()), 1e-12)
	require.Len(t, newTable(3, true, 1).texts, 1+4+16*5)
	require.InDelta(t, 1, total(newTable(3, true, 1).probabilities()), 1e-12)
}

// Eq. 6: with p(y|x) known, the expectation over all 125 texts is the gradient of the
// log marginal.
func TestThePapersEstimatorIsTheGradientOfTheMarginal(t *testing.T) {
	w := onPolicy(3, false)
	exact := w.policy.gradient(func() float64 { return w.policy.marginal(w.rewards) })
	w.base = w.policy.expected(w.rewards)
	exactly(t, exact, w.expectation(t, plain(Instance, Paper), Deviation{}, 1))
	// With another recommender's p(y|x) it is as long as that makes it.
	w.base *= 2
	exactly(t, scaled(exact, 0.5), w.expectation(t, plain(Instance, Paper), Deviation{}, 1))
}

// Given the other texts, a text's part is the gradient of p(y|x) over their mean: that
// of Eq. 6, but for the estimate in the place of p(y|x).
func TestLeaveOneOutIsTheGradientOfTheMarginalGivenTheOthers(t *testing.T) {
	w := onPolicy(3, false)
	exact := w.policy.gradient(func() float64 { return w.policy.marginal(w.rewards) })
	marginal := w.policy.expected(w.rewards)
	o := plain(Instance, LeaveOneOut)
	for _, others := range [][]int{{0}, {17, 17}, {3, 60, 124}} {
		got := make([]float64, len(exact))
		mean := 0.0
		for _, j := range others {
			mean += w.rewards[j] / float64(len(others))
		}
		for i, p := range w.policy.probabilities() {
			r, err := Coefficients([]Sample{w.sample(append([]int{i}, others...)...)}, o, Deviation{})
			require.NoError(t, err)
			k := float64(len(others) + 1)
			w.policy.score(got, w.policy.texts[i], r.Coefficients[0][0], p*k)
		}
		exactly(t, exact, scaled(got, mean/marginal))
	}
}

// Over all pairs it has Eq. 6's direction, and is longer by E[p(y|x) / mean].
func TestLeaveOneOutOverAllPairs(t *testing.T) {
	w := onPolicy(3, false)
	exact := w.policy.gradient(func() float64 { return w.policy.marginal(w.rewards) })
	longer := 0.0
	for i, p := range w.policy.probabilities() {
		longer += p * w.policy.expected(w.rewards) / w.rewards[i]
	}
	t.Logf("pairs: longer by %.3f", longer)
	require.Greater(t, longer, 1.0)
	exactly(t, scaled(exact, longer), w.expectation(t, plain(Instance, LeaveOneOut), Deviation{}, 2))
}

func TestLeaveOneOutOfTheCatalogueIsUnbiased(t *testing.T) {
	w := onPolicy(3, false)
	exact := w.policy.gradient(func() float64 { return w.policy.expected(w.rewards) })
	const deviation = 1.0 / 64
	for k, w := range map[int]*world{2: w, 3: onPolicy(2, true)} {
		exact := exact
		if k == 3 {
			exact = w.policy.gradient(func() float64 { return w.policy.expected(w.rewards) })
		}
		got := w.expectation(t, plain(Catalogue, LeaveOneOut), Deviation{3 * math.Log(deviation), 3}, k)
		exactly(t, scaled(exact, 1/deviation), got)
	}
}

// Of the penalty: in the reward it is the gradient of KL(pi || ref), with and without
// other texts as baseline, and texts of different lengths.
func TestThePenaltyInTheRewardIsTheGradientOfKL(t *testing.T) {
	const alpha = 0.7
	for name, stop := range map[string]bool{"all of one length": false, "ragged": true} {
		t.Run(name, func(t *testing.T) {
			w := onPolicy(3, stop)
			exact := scaled(w.policy.gradient(func() float64 { return w.policy.kl(w.reference) }), -alpha)
			for i := range w.all { // nothing else to learn
				w.all[i].Reward = 0.5
			}
			w.base = 0.5
			for k, estimator := range map[int]Estimator{1: Paper, 2: LeaveOneOut} {
				o := plain(Instance, estimator)
				o.Alpha, o.Penalty = alpha, InReward
				exactly(t, exact, w.expectation(t, o, Deviation{}, k))
			}
		})
	}
}

// In the loss it is the gradient of the next token's KL, the text before as it comes.
func TestThePenaltyInTheLossIsTheGradientOfTheNextTokensKL(t *testing.T) {
	const alpha = 0.7
	for length, whole := range map[int]bool{1: true, 3: false} {
		w := onPolicy(length, false)
		come := make([]float64, len(w.policy.logits)) // probability of a beginning; a constant
		for i, p := range w.policy.probabilities() {
			for _, node := range w.policy.texts[i].nodes {
				come[node] += p
			}
		}
		exact := w.policy.gradient(func() (sum float64) {
			for node, logits := range w.policy.logits {
				ref := softmax(w.reference.logits[node])
				for i, p := range softmax(logits) {
					sum += come[node] * p * math.Log(p/ref[i])
				}
			}
			return sum
		})
		if whole {
			require.InDeltaSlice(t, w.policy.gradient(func() float64 { return w.policy.kl(w.reference) }), exact, 1e-9)
		}
		for i := range w.all {
			w.all[i].Reward = 0.5
		}
		w.base = 0.5
		for k, estimator := range map[int]Estimator{1: Paper, 2: LeaveOneOut} {
			o := plain(Instance, estimator)
			o.Alpha, o.Penalty = alpha, InLoss
			exactly(t, scaled(exact, -alpha), w.expectation(t, o, Deviation{}, k))
		}
	}
}

// Eq. 7 differentiated as it stands, grad log pi of sampled texts, is nothing in the
// mean, however far the reference is.
func TestTheNaiveGradientOfKLIsZero(t *testing.T) {
	w := onPolicy(3, false)
	got := make([]float64, 5*len(w.policy.logits))
	for i, p := range w.policy.probabilities() {
		w.policy.score(got, w.policy.texts[i], []float32{-1, -1, -1}, p)
	}
	require.Greater(t, norm(w.policy.gradient(func() float64 { return w.policy.kl(w.reference) })), 0.1)
	require.Less(t, norm(got), 1e-12)
}

// Texts of an older policy, weighted by text: rewards and both penalties are those of
// the policy.
func TestWeightsByTextAreUnbiased(t *testing.T) {
	const alpha = 0.3
	p := newTable(3, false, 1)
	w := newWorld(p, p.near(0.6, 5), p.near(0.5, 2), p.rewards(3))
	for penalty, k := range map[Penalty]int{InReward: 2, "": 1} {
		o := plain(Catalogue, LeaveOneOut)
		if k == 1 {
			o = plain(Instance, Paper)
			w.base = 1 // p - 1: as good a baseline as any
		}
		exact := p.gradient(func() float64 { return p.expected(w.rewards) })
		if penalty != "" {
			o.Alpha, o.Penalty = alpha, penalty
			exact = p.gradient(func() float64 { return p.expected(w.rewards) - alpha*p.kl(w.reference) })
		}
		exactly(t, exact, w.expectation(t, o, unit, k))
	}
}

// Weighted by token the estimate is exact for texts of one token; for longer ones it is
// nearer than without weights, and the nearer the younger the texts.
func TestWeightsByTokenAreNearlyUnbiased(t *testing.T) {
	off := func(length int, age float64, by Weighting) float64 {
		p := newTable(length, false, 1)
		w := newWorld(p, p.near(age, 5), p, p.rewards(3))
		exact := p.gradient(func() float64 { return p.expected(w.rewards) })
		o := plain(Catalogue, LeaveOneOut)
		o.Weighting = by
		return norm(minus(exact, w.expectation(t, o, unit, 2))) / norm(exact)
	}
	require.Less(t, off(1, 0.6, PerToken), 1e-4)
	for _, age := range []float64{0.05, 0.2, 0.6} {
		token, none := off(3, age, PerToken), off(3, age, Uncorrected)
		t.Logf("logits off by %.2f: the gradient is off by %.1f %% with weights by token, %.1f %% without", age, 100*token, 100*none)
		require.Less(t, token, 0.8*none)
	}
	require.Less(t, off(3, 0.05, PerToken), 0.05)
}

// A bound on the weights is a bias, and what it is worth.
func TestTruncationTradesBiasForVariance(t *testing.T) {
	p := newTable(3, false, 1)
	w := newWorld(p, p.near(1.5, 5), p, p.rewards(3))
	exact := p.gradient(func() float64 { return p.expected(w.rewards) })
	previous := math.Inf(1)
	for _, most := range []float64{1, 3, 1e30} {
		o := plain(Catalogue, LeaveOneOut)
		o.Truncate = most
		mean := w.expectation(t, o, unit, 2)
		variance := w.variance(t, o, unit, 2, mean)
		bias := norm(minus(exact, mean)) / norm(exact)
		t.Logf("weights up to %.3g: bias %.1f %%, variance %.3g", most, 100*bias, variance)
		require.Less(t, bias, previous)
		previous = bias + 1e-9
	}
	require.Less(t, previous, 1e-3)
}

// variance of the estimate: the trace of its covariance.
func (w *world) variance(t testing.TB, o Options, d Deviation, k int, mean []float64) (sum float64) {
	t.Helper()
	mu := w.behaviour.probabilities()
	one := make([]float64, len(mean))
	var each func(texts []int, p float64)
	each = func(texts []int, p float64) {
		if len(texts) == k {
			clear(one)
			w.estimate(t, o, d, one, 1, texts...)
			n := norm(one)
			sum += p * n * n
			return
		}
		for i := range mu {
			each(append(texts, i), p*mu[i])
		}
	}
	each(make([]int, 0, k), 1)
	n := norm(mean)
	return sum - n*n
}

// Four texts judged against each other, and four instances of the paper's estimator
// with one text each: the same number of texts, gradients brought to the same length.
// The paper's depends on how well a recommender without texts guesses p(y|x).
func TestLeaveOneOutHasLessVarianceThanThePapersEstimator(t *testing.T) {
	w := onPolicy(3, false)
	exact := w.policy.gradient(func() float64 { return w.policy.marginal(w.rewards) })
	marginal := w.policy.expected(w.rewards)

	// Draws of four, for all tuples of four are 244 million.
	cumulative := w.policy.probabilities()
	for i := range cumulative[1:] {
		cumulative[i+1] += cumulative[i]
	}
	r := rand.New(rand.NewPCG(1, 1))
	draw := func() int {
		at, _ := slices.BinarySearch(cumulative, r.Float64())
		return min(at, len(cumulative)-1)
	}
	const n = 40_000
	square, mean, one := 0.0, make([]float64, len(exact)), make([]float64, len(exact))
	for range n {
		clear(one)
		w.estimate(t, plain(Instance, LeaveOneOut), Deviation{}, one, 1, draw(), draw(), draw(), draw())
		size := norm(one)
		square += size * size / n
		for i, v := range one {
			mean[i] += v / n
		}
	}
	length := norm(mean) / norm(exact)
	ours := (square - norm(mean)*norm(mean)) / (length * length)

	literal := 0.0 // Eq. 6 as printed, without the -1: the same at every p(y|x)
	for i, p := range w.policy.probabilities() {
		clear(one)
		c := float32(w.rewards[i] / marginal)
		w.policy.score(one, w.policy.texts[i], []float32{c, c, c}, 1)
		literal += p * norm(one) * norm(one)
	}
	literal = (literal - norm(exact)*norm(exact)) / 4
	t.Logf("against Eq. 6 as printed: %.2f of the variance", ours/literal)
	require.Less(t, ours, 0.7*literal)

	for _, guess := range []float64{0.5, 1, 2} {
		w.base = guess * marginal
		o := plain(Instance, Paper)
		theirs := w.variance(t, o, Deviation{}, 1, scaled(exact, 1/guess)) * guess * guess / 4
		t.Logf("against the paper's estimator, p(y|x) guessed as %.1f of what it is: %.2f of the variance", guess, ours/theirs)
		if guess == 2 {
			require.Less(t, ours, theirs)
		}
	}
}
