package experiments

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/consumers/generator"
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
