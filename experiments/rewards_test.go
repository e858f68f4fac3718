package experiments

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/consumers/generator"
	"seralm/models/align"
	"seralm/models/metrics"
)

// planted are rewards of 4 texts of 200 items: what both halves of the users have in
// common, and noise of their own.
func planted(common, noise float64) (out [][2][]float64) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var item [2][]float64
		for range 4 {
			worth := common * r.NormFloat64()
			for half := range item {
				item[half] = append(item[half], worth+noise*r.NormFloat64())
			}
		}
		out = append(out, item)
	}
	return out
}

func TestWhatHalvesHaveInCommonCarriesOver(t *testing.T) {
	best := 1.03 // the mean of the highest of four normal numbers, in deviations

	same := planted(1, 0.01)
	c := carry(same, same)
	require.Equal(t, 200, c.Items)
	require.Greater(t, c.Correlation.Mean, 0.95)
	require.InDelta(t, best, c.Gain.Mean, 0.1)
	require.InDelta(t, c.Own.Mean, c.Gain.Mean, 0.02)
	require.Positive(t, c.Gain.Low)

	// Means of 200 items, within four of their deviations.
	nothing := func(i metrics.Interval) {
		require.InDelta(t, 0, i.Mean, 0.25)
		require.InDelta(t, 0.2, i.High-i.Low, 0.1)
	}
	noise := planted(0, 1)
	c = carry(noise, noise)
	nothing(c.Correlation)
	nothing(c.Gain)
	require.InDelta(t, best, c.Own.Mean, 0.15, "the half that chose thinks that it gained")

	// One that chooses by noise alone gains nothing of what both have in common.
	c = carry(noise, same)
	nothing(c.Correlation)
	nothing(c.Gain)
	nothing(c.Own)
}

func TestCarryByHand(t *testing.T) {
	// Half 0 chooses the third text (worth 5 to the other, whose mean is 3), half 1 the
	// second (worth 1, mean 2).
	c := carry([][2][]float64{{{0, 1, 9}, {-1, 4, -2}}}, [][2][]float64{{{2, 1, 3}, {4, 0, 5}}})
	require.Equal(t, (2.-1)/2, c.Gain.Mean)
	require.Equal(t, (1.-3)/2, c.Own.Mean)
	require.Equal(t, (.5-1)/2, c.Correlation.Mean)
}

// Each half has its users alone, and both reward the same texts: their rewards sum to
// that of all users. (All instances are encoded anew: of a small data set none is left
// to a sample.)
func TestTheRewardsOfTwoHalvesAreThoseOfAll(t *testing.T) {
	d, dir := described(t), t.TempDir()
	al := aligner(t, d, dir, small(t, d))
	r, err := al.Rewards(t.Context(), 7, 5)
	require.NoError(t, err)
	require.Len(t, r.Items, 7)
	require.NoError(t, al.begin(t.Context()))
	require.Equal(t, len(al.instances), r.Instances[0]+r.Instances[1])
	require.InDelta(t, r.Instances[0], r.Instances[1], 8)
	lines, err := al.write(t.Context(), Texts{Path: filepath.Join(dir, rewardsFile), Items: 7, Bare: true, Best: 5}, nil)
	require.NoError(t, err)
	for i, item := range r.Items {
		require.Equal(t, lines[i].Item, item.Item)
		require.Len(t, lines[i].Texts, 5)
		all, err := al.sampler.Rewards(t.Context(), item.Item, lines[i].Texts)
		require.NoError(t, err)
		for k, want := range all {
			require.InDelta(t, want, item.Catalogue[0][k]+item.Catalogue[1][k], 1e-3)
		}
		require.NotEqual(t, item.Catalogue[0], item.Catalogue[1])
		for half, p := range item.Instance {
			require.Len(t, p, 5)
			require.Negative(t, slices.Max(p), "half %d: it is log p", half)
		}
	}
	require.Equal(t, 7, r.Instance.Items)

	// Of one instance, p(y|x,s) is what a sample of it has.
	i := slices.IndexFunc(al.instances, func(in generator.Instance) bool { _, ok := al.sampler.Choose(in, al.described); return ok })
	in := al.instances[i]
	chosen, _ := al.sampler.Choose(in, al.described)
	samples, err := al.sampler.Sample(t.Context(), []generator.Chosen{{Instance: in, Item: al.items[chosen]}})
	require.NoError(t, err)
	var texts []string
	var want []float64
	for _, c := range samples[0].Candidates {
		texts, want = append(texts, c.Text), append(want, c.PY)
	}
	got, err := al.sampler.Probabilities(t.Context(), in, chosen, texts)
	require.NoError(t, err)
	require.InDeltaSlice(t, want, got, 1e-9)

	// It goes on with the texts that are there, and comes to the same.
	path := filepath.Join(dir, rewardsFile+".lines")
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, raw[:len(raw)-30], 0o600))
	again, err := aligner(t, d, dir, small(t, d)).Rewards(t.Context(), 7, 5)
	require.NoError(t, err)
	again.Began, again.Seconds = r.Began, r.Seconds
	require.Equal(t, r, again)
}

func TestRewardsOfAnotherKindHaveNoHalves(t *testing.T) {
	d := described(t)
	instance := small(t, d, func(c *config.Config) { c.Alignment.Reward = "instance" })
	_, err := aligner(t, d, t.TempDir(), instance).Rewards(t.Context(), 7, 5)
	require.ErrorContains(t, err, "alignment.reward is instance")
}

// The variance of a gradient is that of what the texts' scores are multiplied by, where
// scores are of one size and point anywhere: the mean square of the advantages, for equal
// expected gradients. Leave-one-out against the estimators that divide by p(y|x), on real
// rewards: four texts of SmolLM2-135M for each of 400 instances of ml-100k. What p(y|x)
// is, texts say: the other three, as leave-one-out has it, or all four, which know too
// much, for the text is one of them.
func TestLeaveOneOutOnRealRewards(t *testing.T) {
	var got RewardsResult
	require.NoError(t, readJSON("../docs/results/rewards-ml-100k.json", &got))
	clip := config.Default().Alignment.Clip
	var batch []align.Sample
	var others, all []float64 // a text's reward over the mean of these
	for _, item := range got.Items {
		for _, half := range item.Instance {
			var s align.Sample
			sum := 0.0
			for _, logP := range half {
				s.Candidates = append(s.Candidates, align.Candidate{Reward: math.Exp(logP), Tokens: 1})
				sum += math.Exp(logP)
			}
			batch = append(batch, s)
			for _, c := range s.Candidates {
				others = append(others, c.Reward*3/(sum-c.Reward))
				all = append(all, c.Reward*4/sum)
			}
		}
	}
	require.Len(t, others, 4*400)
	r, err := align.Coefficients(batch, align.Options{Reward: align.Instance, Estimator: align.LeaveOneOut, Weighting: align.Uncorrected, Clip: clip}, align.Deviation{})
	require.NoError(t, err)
	ours := 0.0
	for _, of := range r.Coefficients {
		for _, tokens := range of {
			a := float64(tokens[0]) * float64(len(others))
			ours += a * a / float64(len(others))
		}
	}
	// square is the mean square of p / p(y|x) - less, where p(y|x) is guessed as so many
	// times what it is, for the same expected gradient.
	square := func(ratios []float64, guess, less float64) (sum float64) {
		for _, r := range ratios {
			a := guess * min(max(r/guess-less, -clip), clip)
			sum += a * a / float64(len(ratios))
		}
		return sum
	}
	printed, knowing := ours/square(others, 1, 0), ours/square(all, 1, 0)
	t.Logf("against Eq. 6 as printed: %.2f of the variance with the other texts' mean for p(y|x), %.2f with that of all", printed, knowing)
	require.InDelta(t, 0.60, printed, 0.01)
	require.InDelta(t, 1.10, knowing, 0.01)
	half, twice := ours/square(others, 0.5, 1), ours/square(others, 2, 1)
	t.Logf("against the paper's estimator: %.2f where p(y|x) is guessed as half of the other texts' mean, %.2f as twice", half, twice)
	require.InDelta(t, 1.74, half, 0.01)
	require.InDelta(t, 0.43, twice, 0.01)
}
