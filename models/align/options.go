package align

import "fmt"

// Reward says what the rewards of candidates are.
type Reward string

// The rewards.
const (
	Instance  Reward = "instance"  // p(y|x,s) of the one instance (x, y), in (0, 1] (Algorithm 1)
	Catalogue Reward = "catalogue" // the change of the whole objective in nats (see Reservoir)
)

// Estimator says how rewards become advantages.
type Estimator string

// The estimators. The last two are arms to compare with: the same trainer with other
// weights.
const (
	// LeaveOneOut judges a text against the others of its sample:
	//
	//	instance   A_i = p_i / mean_{j != i} p_j - 1
	//	catalogue  A_i = (R_i - mean_{j != i} R_j) / deviation
	//
	// The second is unbiased, but for its scale. The first has the direction of Eq. 6
	// exactly, and is longer by the factor E[p(y|x) / mean_{j != i} p_j] >= 1.
	LeaveOneOut Estimator = "leave_one_out"
	// Paper is Eq. 6 with the probability of a recommender without texts below:
	// A_i = p_i / p_base - 1 (the -1 is Eq. 10's, and changes no expectation). Rewards
	// are instances'; one text per sample is enough.
	Paper Estimator = "paper"
	// BestOfK gives the best text of a sample weight 1 and the others 0: rejection
	// sampling, then fine-tuning. Where none is better than another all have 0.
	BestOfK Estimator = "best_of_k"
	// Supervised gives all texts weight 1, whatever their reward: a warm-up on texts that
	// somebody else wrote.
	Supervised Estimator = "supervised"
)

// Weighting says how the texts of an older policy are weighted.
type Weighting string

// The importance weights w = min(exp(clamp(log pi - log behaviour, +-20)), Truncate).
const (
	// PerToken weights each token by its own ratio. It forgets that the texts' beginnings,
	// and how they go on, come from the older policy, and has little variance: what
	// grows with the length of a text is neither.
	PerToken Weighting = "token"
	// PerText weights a text by the product of its tokens' ratios: without truncation it
	// is unbiased, and at the length of real texts nearly all variance.
	PerText Weighting = "text"
	// Uncorrected takes what the older policy sampled for the policy's own.
	Uncorrected Weighting = "none"
)

// Penalty says how the policy is held near the reference.
type Penalty string

// The penalties, with d_t = log pi(t) - log ref(t) of token t.
const (
	// InReward pays -alpha d_u with each token, and token t answers for those from itself
	// on (Ouyang et al. 2022, whom the paper cites). On-policy its gradient is that of
	// KL(pi || ref) of whole texts.
	InReward Penalty = "reward"
	// InLoss is alpha d_t^2 / 2 of each token. On-policy its gradient is that of the KL of
	// the next token, given the text before: a token answers for itself only, which
	// has less variance.
	InLoss Penalty = "loss"
)

// Options of the gradient.
type Options struct {
	Reward    Reward
	Estimator Estimator
	Clip      float64 // an advantage is at most this and at least its negative; unused where there is none
	Weighting Weighting
	Truncate  float64 // most that a weight is; unused without weights
	Penalty   Penalty // unused where Alpha is 0
	Alpha     float64 // the paper's alpha
}

// asTheyAre says that texts are examples to follow, not samples of a policy: their
// weights are no advantages.
func (o Options) asTheyAre() bool { return o.Estimator == BestOfK || o.Estimator == Supervised }

// Validate says what of the options makes no sense.
func (o Options) Validate() error {
	switch {
	case o.Reward != Instance && o.Reward != Catalogue:
		return fmt.Errorf("reward %q: it is %s or %s", o.Reward, Instance, Catalogue)
	case o.Estimator != LeaveOneOut && o.Estimator != Paper && !o.asTheyAre():
		return fmt.Errorf("estimator %q: it is %s, %s, %s or %s", o.Estimator, LeaveOneOut, Paper, BestOfK, Supervised)
	case o.Weighting != PerToken && o.Weighting != PerText && o.Weighting != Uncorrected:
		return fmt.Errorf("weighting %q: it is %s, %s or %s", o.Weighting, PerToken, PerText, Uncorrected)
	case o.Estimator == Paper && o.Reward != Instance:
		return fmt.Errorf("estimator %s divides probabilities: reward is %s with it, not %s", Paper, Instance, o.Reward)
	case o.asTheyAre() && o.Weighting != Uncorrected:
		return fmt.Errorf("estimator %s takes texts as they are: weighting is %s with it, not %s", o.Estimator, Uncorrected, o.Weighting)
	case o.asTheyAre() && o.Alpha != 0:
		return fmt.Errorf("estimator %s takes texts as they are: alpha is 0 with it, not %v", o.Estimator, o.Alpha)
	case !o.asTheyAre() && !(o.Clip > 0):
		return fmt.Errorf("clip is %v: it is above 0", o.Clip)
	case o.Weighting != Uncorrected && !(o.Truncate >= 1):
		return fmt.Errorf("truncate is %v: it is 1 or more, or a policy could not learn from its own texts", o.Truncate)
	case !(o.Alpha >= 0 && o.Alpha <= 1e6):
		return fmt.Errorf("alpha is %v: it is 0 or more", o.Alpha)
	case o.Alpha > 0 && o.Penalty != InReward && o.Penalty != InLoss:
		return fmt.Errorf("penalty %q: it is %s or %s", o.Penalty, InReward, InLoss)
	}
	return nil
}
