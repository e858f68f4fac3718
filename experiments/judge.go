package experiments

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"seralm/models/metrics"
	"seralm/models/seqrec"
)

// Cases are what became of each case of a run, as parallel lists: two runs can be
// compared case by case.
type Cases struct {
	Users  Numbers `json:"users"`  // number of the user, in the order of the stream
	Items  Numbers `json:"items"`  // row of the target
	Rank   Numbers `json:"rank"`   // among all items; 1 is best, ties count half
	Masked Numbers `json:"masked"` // the same without the items of the history
	LogP   Numbers `json:"log_p"`  // log p(y|x), nats
}

// Numbers stand in a file as one string: an indented list of thousands of lines is
// no use to anybody.
type Numbers []float64

// MarshalJSON implements json.Marshaler.
func (n Numbers) MarshalJSON() ([]byte, error) {
	out := []byte{'"'}
	for i, v := range n {
		if i > 0 {
			out = append(out, ' ')
		}
		out = strconv.AppendFloat(out, v, 'f', -1, 64)
	}
	return append(out, '"'), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Numbers) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	*n = nil
	for _, f := range strings.Fields(s) {
		v, err := strconv.ParseFloat(f, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%q in a list of numbers is none", f)
		}
		*n = append(*n, v)
	}
	return nil
}

// judgeBatch bounds the scores held at a time.
const judgeBatch = 256

// judge ranks every case.
func judge(ctx context.Context, model seqrec.Recommender, cases []testCase) (Cases, error) {
	n := len(cases)
	out := Cases{make(Numbers, n), make(Numbers, n), make(Numbers, n), make(Numbers, n), make(Numbers, n)}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	// Histories of a length together: a batch is padded to its longest.
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(cases[a].history), len(cases[b].history)) })
	for batch := range slices.Chunk(order, judgeBatch) {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		asked := make([][]int32, len(batch))
		for k, i := range batch {
			asked[k] = cases[i].history
		}
		scores, err := model.Scores(ctx, asked)
		if err != nil {
			return out, err
		}
		for k, i := range batch {
			c := cases[i]
			logP := metrics.LogSoftmaxAt(scores[k], c.target)
			if math.IsNaN(logP) || math.IsInf(logP, 0) {
				return out, fmt.Errorf("%s: log p of item row %d is %v: the scores are not finite", model.Name(), c.target, logP)
			}
			out.Users[i], out.Items[i] = float64(c.user), float64(c.target)
			out.Rank[i] = metrics.Rank(scores[k], c.target, nil)
			out.Masked[i] = metrics.Rank(scores[k], c.target, c.history)
			out.LogP[i] = math.Round(logP*1e4) / 1e4 // as the file has it
		}
	}
	return out, nil
}

// cutOffs are the K of Hit@K, NDCG@K and MRR@K.
var cutOffs = []int{1, 5, 10, 20}

// logP is the metric with the least noise.
const logP = "log_p"

// Metrics lists what is measured: hit@K, ndcg@K and mrr@K over all items, the same
// with the history masked, and log_p.
func Metrics() []string {
	var out []string
	for _, masked := range []string{"", "masked_"} {
		for _, k := range cutOffs {
			for _, gain := range []string{"hit", "ndcg", "mrr"} {
				out = append(out, fmt.Sprintf("%s%s@%d", masked, gain, k))
			}
		}
	}
	return append(out, logP)
}

// Values returns a metric of each case.
func (c Cases) Values(metric string) ([]float64, error) {
	if !slices.Contains(Metrics(), metric) {
		return nil, fmt.Errorf("there is no metric %q; there are %s", metric, strings.Join(Metrics(), ", "))
	}
	if metric == logP {
		return c.LogP, nil
	}
	ranks := c.Rank
	name, masked := strings.CutPrefix(metric, "masked_")
	if masked {
		ranks = c.Masked
	}
	name, cutOff, _ := strings.Cut(name, "@")
	k, _ := strconv.Atoi(cutOff) // it is one of Metrics
	gain := map[string]func(float64, int) float64{"hit": metrics.Hit, "ndcg": metrics.NDCG, "mrr": metrics.MRR}[name]
	out := make([]float64, len(ranks))
	for i, r := range ranks {
		out[i] = gain(r, k)
	}
	return out, nil
}

// Means are the means of all metrics.
func (c Cases) Means() map[string]float64 {
	out := map[string]float64{}
	for _, m := range Metrics() {
		values, _ := c.Values(m)
		sum := 0.0
		for _, v := range values {
			sum += v
		}
		out[m] = sum / float64(max(1, len(values)))
	}
	return out
}
