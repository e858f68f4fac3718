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
	// Cold is log p(y|x) as if nothing but its vector were known of the target: what a
	// text says by itself. Leave-one-out with knowledge only.
	Cold Numbers `json:"cold_log_p,omitempty"`
	Seen Numbers `json:"seen,omitempty"` // how often the target occurs in what was learnt
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
	out := Cases{Users: make(Numbers, n), Items: make(Numbers, n), Rank: make(Numbers, n), Masked: make(Numbers, n), LogP: make(Numbers, n)}
	err := score(ctx, model, cases, func(i int, scores []float32) (err error) {
		c := cases[i]
		out.Users[i], out.Items[i] = float64(c.user), float64(c.target)
		out.Rank[i] = metrics.Rank(scores, c.target, nil)
		out.Masked[i] = metrics.Rank(scores, c.target, c.history)
		out.LogP[i], err = logPAt(scores, c.target)
		return err
	})
	return out, err
}

// judgeCold gives log p(y|x) of every case in the cold view: the target's score is that
// of another row, which stands[target] says and which ranks for nothing else. Rows from
// `rows` on are such rows.
func judgeCold(ctx context.Context, model seqrec.Recommender, cases []testCase, rows int, stands map[int32]int32) (Numbers, error) {
	out := make(Numbers, len(cases))
	err := score(ctx, model, cases, func(i int, scores []float32) (err error) {
		target := cases[i].target
		scores[target] = scores[stands[target]]
		out[i], err = logPAt(scores[:rows], target)
		return err
	})
	return out, err
}

// score hands on the scores of all rows in each case, in an order of its own.
func score(ctx context.Context, model seqrec.Recommender, cases []testCase, each func(i int, scores []float32) error) error {
	order := make([]int, len(cases))
	for i := range order {
		order[i] = i
	}
	// Histories of a length together: a batch is padded to its longest.
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(cases[a].history), len(cases[b].history)) })
	for batch := range slices.Chunk(order, judgeBatch) {
		if err := ctx.Err(); err != nil {
			return err
		}
		asked := make([][]int32, len(batch))
		for k, i := range batch {
			asked[k] = cases[i].history
		}
		scores, err := model.Scores(ctx, asked)
		if err != nil {
			return err
		}
		for k, i := range batch {
			if err := each(i, scores[k]); err != nil {
				return fmt.Errorf("%s: %w", model.Name(), err)
			}
		}
	}
	return nil
}

// logPAt is log p of a row, to the digits that the file has.
func logPAt(scores []float32, row int32) (float64, error) {
	logP := metrics.LogSoftmaxAt(scores, row)
	if math.IsNaN(logP) || math.IsInf(logP, 0) {
		return 0, fmt.Errorf("log p of item row %d is %v: the scores are not finite", row, logP)
	}
	return math.Round(logP*1e4) / 1e4, nil
}

// cutOffs are the K of Hit@K, NDCG@K and MRR@K.
var cutOffs = []int{1, 5, 10, 20}

// logP is the metric with the least noise; coldLogP the same in the cold view.
const (
	logP     = "log_p"
	coldLogP = "cold_log_p"
)

// Metrics lists what is measured of every ranking: hit@K, ndcg@K and mrr@K over all
// items, the same with the history masked, and log_p.
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

// testMetrics are those of a test, where items are ranked by their vectors alone, too.
func testMetrics() []string { return append(Metrics(), coldLogP) }

// Values returns a metric of each case, and none of cold_log_p where it was not measured.
func (c Cases) Values(metric string) ([]float64, error) {
	if !slices.Contains(testMetrics(), metric) {
		return nil, fmt.Errorf("there is no metric %q; there are %s", metric, strings.Join(testMetrics(), ", "))
	}
	switch metric {
	case logP:
		return c.LogP, nil
	case coldLogP:
		return c.Cold, nil
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
	for _, m := range testMetrics() {
		values, _ := c.Values(m)
		if len(values) == 0 {
			continue
		}
		sum := 0.0
		for _, v := range values {
			sum += v
		}
		out[m] = sum / float64(len(values))
	}
	return out
}
