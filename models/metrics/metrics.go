// Package metrics measures rankings: rank among all items, Hit, NDCG and MRR at a
// cut-off, log p, rank correlation, and intervals for differences. Definitions are RecBole's
// for one relevant item (recbole/evaluator/metrics.py); ties are not, see Rank.
package metrics

import (
	"math"
	"math/rand/v2"
	"sort"
)

// Rank of row target among the rows of scores: 1 + the rows with a higher score +
// half of those with an equal one, so that a model which scores everything alike
// gets the middle, not the top. Rows in masked are left out, the target excepted.
// A score of -Inf never competes, nor does one that is no number; a target that is none
// is behind all that compete.
func Rank(scores []float32, target int32, masked []int32) float64 {
	t := scores[target]
	if math.IsNaN(float64(t)) {
		t = float32(math.Inf(-1))
	}
	higher, equal := 0, -1 // the target equals itself
	for _, v := range scores {
		if v > t {
			higher++
		} else if v == t {
			equal++
		}
	}
	for i, row := range masked {
		if row == target || row < 0 || int(row) >= len(scores) || contains(masked[:i], row) {
			continue
		}
		if v := scores[row]; v > t {
			higher--
		} else if v == t {
			equal--
		}
	}
	if math.IsInf(float64(t), -1) {
		// Everything that has a score is better; the rest is not in the race.
		return 1 + float64(higher)
	}
	return 1 + float64(higher) + float64(equal)/2
}

// Histories are short: a scan beats a set, and allocates nothing.
func contains(rows []int32, row int32) bool {
	for _, r := range rows {
		if r == row {
			return true
		}
	}
	return false
}

// Hit is 1 if the rank is within k.
func Hit(rank float64, k int) float64 {
	if rank >= 1 && rank <= float64(k) {
		return 1
	}
	return 0
}

// NDCG is 1/log2(rank+1) within k: with one relevant item the ideal DCG is 1.
func NDCG(rank float64, k int) float64 {
	if Hit(rank, k) == 0 {
		return 0
	}
	return 1 / math.Log2(rank+1)
}

// MRR is 1/rank within k; k 0 means without a cut-off.
func MRR(rank float64, k int) float64 {
	if rank < 1 || k > 0 && rank > float64(k) {
		return 0
	}
	return 1 / rank
}

// LogSoftmaxAt is log softmax(scores)[row], summed in float64.
func LogSoftmaxAt(scores []float32, row int32) float64 {
	top := math.Inf(-1)
	for _, v := range scores {
		top = math.Max(top, float64(v))
	}
	if math.IsInf(top, -1) {
		return math.Inf(-1)
	}
	sum := 0.0
	for _, v := range scores {
		sum += math.Exp(float64(v) - top)
	}
	return float64(scores[row]) - top - math.Log(sum)
}

// Interval is a mean with a bootstrap percentile interval.
type Interval struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Bootstrap returns the mean of values and its 95 % interval over n resamples. For
// a paired comparison of two arms, values are the differences per user.
func Bootstrap(values []float64, n int, seed uint64) Interval {
	if len(values) == 0 {
		return Interval{math.NaN(), math.NaN(), math.NaN()}
	}
	r := rand.New(rand.NewPCG(seed, uint64(len(values))))
	means := make([]float64, n)
	for i := range means {
		for range values {
			means[i] += values[r.IntN(len(values))]
		}
		means[i] /= float64(len(values))
	}
	sort.Float64s(means)
	total := 0.0
	for _, v := range values {
		total += v
	}
	at := func(q float64) float64 { return means[int(q*float64(n-1)+0.5)] }
	return Interval{total / float64(len(values)), at(0.025), at(0.975)}
}
