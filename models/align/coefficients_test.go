package align

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// two candidates of two tokens and one.
func pair() Sample {
	return Sample{Base: 0.1, Candidates: []Candidate{
		{Reward: 0.3, Tokens: 2, Policy: []float32{-1, -2}, Behaviour: []float32{-1, -3}, Reference: []float32{-1.5, -2}},
		{Reward: 0.1, Tokens: 1, Policy: []float32{-1}, Behaviour: []float32{-3}, Reference: []float32{-1}},
	}}
}

// By hand, the whole formula.
func TestCoefficientsOfAPairByHand(t *testing.T) {
	e := math.E
	for name, c := range map[string]struct {
		o    Options
		want [][]float64
	}{
		"instance": {
			Options{Reward: Instance, Estimator: LeaveOneOut, Clip: 5, Weighting: PerToken, Truncate: 3},
			// A = 2 and -2/3; w = 1, e and min(e^2, 3).
			[][]float64{{2. / 2, e * 2 / 2}, {3 * (-2. / 3) / 2}},
		},
		"clipped": {
			Options{Reward: Instance, Estimator: LeaveOneOut, Clip: 0.5, Weighting: Uncorrected},
			[][]float64{{0.25, 0.25}, {-0.25}},
		},
		"by text": {
			Options{Reward: Instance, Estimator: LeaveOneOut, Clip: 5, Weighting: PerText, Truncate: 9},
			[][]float64{{e, e}, {e * e * (-2. / 3) / 2}},
		},
		"catalogue": {
			Options{Reward: Catalogue, Estimator: LeaveOneOut, Clip: 5, Weighting: Uncorrected},
			[][]float64{{0.4 / 2, 0.4 / 2}, {-0.4 / 2}}, // deviation 0.5 so far
		},
		"penalty in the reward": {
			Options{Reward: Catalogue, Estimator: LeaveOneOut, Clip: 5, Weighting: Uncorrected, Penalty: InReward, Alpha: 0.1},
			// d = 0.5, 0 and 0: to go 0.5, 0 and 0, less the other's 0 and 0.5.
			[][]float64{{(0.4 - 0.1*0.5) / 2, 0.4 / 2}, {(-0.4 + 0.1*0.5) / 2}},
		},
		"penalty in the loss": {
			Options{Reward: Catalogue, Estimator: LeaveOneOut, Clip: 5, Weighting: Uncorrected, Penalty: InLoss, Alpha: 0.1},
			[][]float64{{(0.4 - 0.1*0.5) / 2, 0.4 / 2}, {-0.4 / 2}},
		},
		"paper": {
			Options{Reward: Instance, Estimator: Paper, Clip: 5, Weighting: Uncorrected},
			[][]float64{{2. / 2, 2. / 2}, {0}},
		},
		"best of k": {
			Options{Reward: Instance, Estimator: BestOfK, Weighting: Uncorrected},
			[][]float64{{1, 1}, {0}},
		},
		"supervised": {
			Options{Reward: Catalogue, Estimator: Supervised, Weighting: Uncorrected},
			[][]float64{{0.5, 0.5}, {0.5}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Coefficients([]Sample{pair()}, c.o, Deviation{2 * math.Log(0.5), 2})
			require.NoError(t, err)
			require.Len(t, r.Coefficients[0], 2)
			for i, want := range c.want {
				require.InDeltaSlice(t, want, r.Coefficients[0][i], 1e-6)
			}
			// Two samples: each counts half.
			r, err = Coefficients([]Sample{pair(), pair()}, c.o, Deviation{2 * math.Log(0.5), 2})
			require.NoError(t, err)
			for i, want := range c.want {
				for j, v := range want {
					require.InDelta(t, v/2, r.Coefficients[1][i][j], 1e-6)
				}
			}
		})
	}
}

func TestStatsSayHowFarThePolicyHasGone(t *testing.T) {
	o := Options{Reward: Instance, Estimator: LeaveOneOut, Clip: 1, Weighting: PerToken, Truncate: 3, Penalty: InReward, Alpha: 0.1}
	r, err := Coefficients([]Sample{pair()}, o, Deviation{})
	require.NoError(t, err)
	w := []float64{1, math.E, 3}
	sum, square := 0.0, 0.0
	for _, w := range w {
		sum, square = sum+w, square+w*w
	}
	require.InDelta(t, sum*sum/(3*square), r.Stats.Effective, 1e-6)
	require.InDelta(t, 0.5/2, r.Stats.KL, 1e-6)
	r.Stats.Effective, r.Stats.KL = 0, 0
	require.InDelta(t, 0.2, r.Stats.Reward, 1e-12)
	require.InDelta(t, math.Sqrt((1+4./9)/2), r.Stats.Advantage, 1e-12)
	r.Stats.Reward, r.Stats.Advantage = 0, 0
	require.Equal(t, Stats{Samples: 1, Texts: 2, Tokens: 3, Clipped: 0.5, Truncated: 1. / 3}, r.Stats)

	r, err = Coefficients(nil, o, Deviation{})
	require.NoError(t, err)
	require.Equal(t, Stats{}, r.Stats)
}

// A ratio that would overflow is a weight like any other.
func TestFarPoliciesGiveFiniteWeights(t *testing.T) {
	s := pair()
	s.Candidates[0].Policy, s.Candidates[0].Behaviour = []float32{0, -2000}, []float32{-3000, 0}
	r, err := Coefficients([]Sample{s}, plain(Instance, LeaveOneOut), Deviation{})
	require.NoError(t, err)
	for _, c := range r.Coefficients[0][0] {
		require.False(t, math.IsInf(float64(c), 0) || math.IsNaN(float64(c)))
	}
}

// The batch that is learnt is not in the scale that it is learnt with, or the scale
// would favour samples that happened to be alike.
func TestTheDeviationIsOfWhatCameBefore(t *testing.T) {
	o := Options{Reward: Catalogue, Estimator: LeaveOneOut, Clip: 1e9, Weighting: Uncorrected}
	batch := func(a, b float64) []Sample {
		s := pair()
		s.Candidates[0].Reward, s.Candidates[1].Reward = a, b
		return []Sample{s}
	}
	first, err := Coefficients(batch(0, 10), o, Deviation{})
	require.NoError(t, err)
	require.InDelta(t, math.Sqrt(50), first.Stats.Deviation, 1e-9, "the first knows no other")
	second, err := Coefficients(batch(0, 1000), o, first.Deviation)
	require.NoError(t, err)
	require.InDelta(t, math.Sqrt(50), second.Stats.Deviation, 1e-9)
	require.InDelta(t, math.Exp((0.99*math.Log(math.Sqrt(50))+math.Log(100*math.Sqrt(50)))/1.99), second.Deviation.Value(), 1e-9, "a loud item is one of two")
	third, err := Coefficients(batch(5, 5), o, Deviation{})
	require.NoError(t, err)
	require.Equal(t, [][][]float32{{{0, 0}, {0}}}, third.Coefficients, "no two rewards differ")
}

// The mean of k equal numbers is not always that number.
func TestEqualRewardsLeaveTheDeviationAsItIs(t *testing.T) {
	before := Deviation{3, 2}
	for _, k := range []int{2, 3, 6, 8} {
		for _, reward := range []float64{0, 0.1, -0.7, 1e-3} {
			s := Sample{Candidates: make([]Candidate, k)}
			for i := range s.Candidates {
				s.Candidates[i].Reward = reward
			}
			require.Equal(t, before, before.add(s), "%d rewards of %v", k, reward)
		}
	}
}

// What is saved goes on to the bit.
func TestTheDeviationSurvivesJSON(t *testing.T) {
	d := Deviation{}
	for _, r := range []float64{1. / 3, 7e-9, 12345.678} {
		s := pair()
		s.Candidates[0].Reward = r
		d = d.add(s)
		raw, err := json.Marshal(d)
		require.NoError(t, err)
		var back Deviation
		require.NoError(t, json.Unmarshal(raw, &back))
		require.Equal(t, d, back)
	}
}

func TestSamplesThatCannotBeLearntFromAreNamed(t *testing.T) {
	instance := Options{Reward: Instance, Estimator: LeaveOneOut, Clip: 1, Weighting: PerToken, Truncate: 3, Penalty: InLoss, Alpha: 1}
	catalogue := instance
	catalogue.Reward = Catalogue
	paper := instance
	paper.Estimator = Paper
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		o     Options
		spoil func(*Sample)
		want  string
	}{
		"no text":           {instance, func(s *Sample) { s.Candidates = nil }, "sample 1: it has no candidate"},
		"one text":          {instance, func(s *Sample) { s.Candidates = s.Candidates[:1] }, "sample 1: it has one candidate"},
		"empty text":        {instance, func(s *Sample) { s.Candidates[1].Tokens = 0 }, "sample 1: candidate 1: its text is empty"},
		"p = 0":             {instance, func(s *Sample) { s.Candidates[1].Reward = 0 }, "candidate 1: p(y|x,s) is 0"},
		"p > 1":             {instance, func(s *Sample) { s.Candidates[1].Reward = 1.5 }, "candidate 1: p(y|x,s) is 1.5"},
		"p is no number":    {instance, func(s *Sample) { s.Candidates[0].Reward = math.NaN() }, "candidate 0: p(y|x,s) is NaN"},
		"reward NaN":        {catalogue, func(s *Sample) { s.Candidates[0].Reward = math.NaN() }, "candidate 0: its reward is NaN"},
		"reward Inf":        {catalogue, func(s *Sample) { s.Candidates[0].Reward = math.Inf(-1) }, "candidate 0: its reward is -Inf"},
		"no base":           {paper, func(s *Sample) { s.Base = 0 }, "sample 1: p(y|x) without texts is 0"},
		"short policy":      {instance, func(s *Sample) { s.Candidates[0].Policy = nil }, "2 tokens and 0 log-probabilities of the policy"},
		"long behaviour":    {instance, func(s *Sample) { s.Candidates[1].Behaviour = make([]float32, 3) }, "1 tokens and 3 log-probabilities of the behaviour"},
		"short reference":   {instance, func(s *Sample) { s.Candidates[1].Reference = nil }, "1 tokens and 0 log-probabilities of the reference"},
		"NaN":               {instance, func(s *Sample) { s.Candidates[0].Policy = []float32{-1, nan} }, "token 1 under the policy is NaN"},
		"impossible":        {instance, func(s *Sample) { s.Candidates[0].Behaviour = []float32{float32(math.Inf(-1)), 0} }, "token 0 under the behaviour is -Inf"},
		"not a probability": {instance, func(s *Sample) { s.Candidates[0].Reference = []float32{-1, 0.5} }, "token 1 under the reference is 0.5"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := pair()
			c.spoil(&bad)
			before := Deviation{3, 2}
			_, err := Coefficients([]Sample{pair(), bad}, c.o, before)
			var sample *SampleError
			require.ErrorAs(t, err, &sample)
			require.Equal(t, 1, sample.Sample)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// What an estimator does not read need not be there.
func TestTextsWithoutLogProbabilitiesAreEnoughToFollow(t *testing.T) {
	s := Sample{Candidates: []Candidate{{Tokens: 2, Reward: math.NaN()}}}
	r, err := Coefficients([]Sample{s}, Options{Reward: Catalogue, Estimator: Supervised, Weighting: Uncorrected}, Deviation{})
	require.NoError(t, err)
	require.Equal(t, [][][]float32{{{1, 1}}}, r.Coefficients)
	require.Equal(t, Stats{Samples: 1, Texts: 1, Tokens: 2, Effective: 1}, r.Stats)
}

func TestOptionsThatMakeNoSenseAreNamed(t *testing.T) {
	good := Options{Reward: Instance, Estimator: LeaveOneOut, Clip: 5, Weighting: PerToken, Truncate: 2, Penalty: InReward, Alpha: 0.1}
	require.NoError(t, good.Validate())
	for want, spoil := range map[string]func(*Options){
		`reward ""`:                             func(o *Options) { o.Reward = "" },
		`estimator "best"`:                      func(o *Options) { o.Estimator = "best" },
		`weighting ""`:                          func(o *Options) { o.Weighting = "" },
		`penalty "k3"`:                          func(o *Options) { o.Penalty = "k3" },
		"clip is 0":                             func(o *Options) { o.Clip = 0 },
		"clip is NaN":                           func(o *Options) { o.Clip = math.NaN() },
		"truncate is 0.5":                       func(o *Options) { o.Truncate = 0.5 },
		"alpha is -1":                           func(o *Options) { o.Alpha = -1 },
		"estimator paper divides probabilities": func(o *Options) { o.Estimator, o.Reward = Paper, Catalogue },
		"best_of_k takes texts as they are: weighting":  func(o *Options) { o.Estimator = BestOfK },
		"supervised takes texts as they are: alpha is ": func(o *Options) { o.Estimator, o.Weighting = Supervised, Uncorrected },
	} {
		o := good
		spoil(&o)
		require.ErrorContains(t, o.Validate(), want)
		_, err := Coefficients(nil, o, Deviation{})
		require.ErrorContains(t, err, want)
	}
}
