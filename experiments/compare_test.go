package experiments

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/prequential"
)

// synthetic is a result of an arm whose log p is better by `better` than chance has it.
func synthetic(name string, r *rand.Rand, better float64, seeds ...uint64) *HoldoutResult {
	a := &ArmResult{Name: name}
	for _, s := range seeds {
		var c Cases
		for u := range 200 {
			rank := float64(1 + r.IntN(30))
			c.Users, c.Items = append(c.Users, float64(u)), append(c.Items, float64(2+u))
			c.Rank, c.Masked = append(c.Rank, rank), append(c.Masked, math.Ceil(rank/2))
			c.LogP = append(c.LogP, -6+better+r.NormFloat64())
		}
		a.Runs = append(a.Runs, Run{Seed: s, Best: 2, Test: c.Means(), Cases: c, Curve: []Epoch{
			{Epoch: 1, Validation: map[string]float64{"log_p": -7}}, {Epoch: 2, Validation: map[string]float64{"log_p": -6}}}})
	}
	return &HoldoutResult{Protocol: LeaveOneOutProtocol, Dataset: "d", Fingerprint: "f", Interactions: 9, Arms: []*ArmResult{a}}
}

func TestADifferenceIsFoundWhereThereIsOne(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	a, b := synthetic("a", r, 0, 1, 2, 3), synthetic("b", r, 0.4, 3, 1, 2)
	found := map[string]Comparison{}
	c, err := Compare(a, "", b, "b")
	require.NoError(t, err)
	for _, m := range c {
		found[m.Metric] = m
	}
	require.InDelta(t, 0.4, found["log_p"].Mean, 0.15)
	require.Positive(t, found["log_p"].Low)
	require.InDelta(t, found["log_p"].B-found["log_p"].A, found["log_p"].Mean, 1e-12)
	require.Negative(t, found["hit@10"].Low)
	require.Positive(t, found["hit@10"].High)
	again, err := Compare(a, "", b, "b")
	require.NoError(t, err)
	require.Equal(t, c, again)
}

// Whom an arm finds hard, the other does too, and what a seed is worth is worth it in
// both: a difference a hundred times smaller than either is found, because cases are
// compared with themselves, of the same seed, whatever order the runs stand in.
func TestACaseIsComparedWithItself(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	a, b := synthetic("a", r, 0, 1, 2, 3), synthetic("b", r, 0, 3, 1, 2)
	of := func(x *HoldoutResult, seed uint64) Numbers { return x.Arms[0].run(seed).Cases.LogP }
	for seed := range uint64(3) {
		for u := range of(a, seed+1) {
			hard := 10 * r.NormFloat64() * float64(seed+1)
			of(a, seed+1)[u] = hard + 0.1*r.NormFloat64()
			of(b, seed+1)[u] = hard + 0.1*r.NormFloat64() + 0.05
		}
	}
	c, err := Compare(a, "", b, "")
	require.NoError(t, err)
	at := slices.IndexFunc(c, func(m Comparison) bool { return m.Metric == "log_p" })
	require.GreaterOrEqual(t, at, 0)
	require.InDelta(t, 0.05, c[at].Mean, 0.02)
	require.Positive(t, c[at].Low)
	require.Less(t, c[at].High-c[at].Low, 0.1, "where seeds alone differ by a whole number")
}

func TestWhatCannotBeCompared(t *testing.T) {
	fresh := func() *HoldoutResult { return synthetic("a", rand.New(rand.NewPCG(1, 1)), 0, 1, 2) }
	for want, change := range map[string]func(r *HoldoutResult){
		"different data":      func(r *HoldoutResult) { r.Fingerprint = "g" },
		"protocols":           func(r *HoldoutResult) { r.Hide = 0.1 },
		"has the seeds [1]":   func(r *HoldoutResult) { r.Arms[0].Runs = r.Arms[0].Runs[:1] },
		"different cases":     func(r *HoldoutResult) { r.Arms[0].Runs[1].Cases.Items[3]++ },
		`there is no arm "a"`: func(r *HoldoutResult) { r.Arms[0].Name = "z" },
	} {
		other := fresh()
		change(other)
		_, err := Compare(other, "a", fresh(), "a")
		require.ErrorContains(t, err, want)
	}
	two := fresh()
	two.Arms = append(two.Arms, &ArmResult{Name: "b"})
	_, err := Compare(two, "", two, "")
	require.ErrorContains(t, err, `name one of the arms "a", "b"`)
}

func TestTablesAndPlotsAreOfFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r.json")
	require.NoError(t, synthetic("a", rand.New(rand.NewPCG(1, 1)), 0, 1, 2).save(path))
	var table strings.Builder
	require.NoError(t, Tables(&table, nil, path))
	require.Regexp(t, `\| d \| a \| 2 \| 400 \| 2 2 \| 0\.\d{4} \[`, table.String())

	var svg, png bytes.Buffer
	require.NoError(t, Plot(&svg, "svg", "log_p", path))
	require.Contains(t, svg.String(), "epoch")
	require.Contains(t, svg.String(), "d a")
	require.NoError(t, Plot(&png, "png", "log_p", path))
	require.True(t, bytes.HasPrefix(png.Bytes(), []byte("\x89PNG")))
	run := PrequentialResult{Provenance: Provenance{Protocol: PrequentialProtocol, Dataset: "d"}, Order: []string{"b"}}
	for n := range 3 {
		run.Curve = append(run.Curve, PrequentialPoint{int64(n), map[string]prequential.Summary{"b": {Events: 10, NDCG10: 0.1 * float64(n)}}})
	}
	run.LastHalf = map[string]prequential.Summary{"b": {Events: 30, Hit10: 0.25, NDCG10: 0.125}}
	raw, err := json.Marshal(run)
	require.NoError(t, err)
	streamed := filepath.Join(dir, "streamed.json")
	require.NoError(t, os.WriteFile(streamed, raw, 0o600))
	table.Reset()
	require.NoError(t, Tables(&table, nil, streamed, streamed))
	require.Equal(t, 1, strings.Count(table.String(), "| d | b | 30 | 0.2500 | 0.1250 |"), table.String())
	require.NoError(t, Plot(&svg, "svg", "ndcg@10", streamed))
	require.ErrorContains(t, Plot(&svg, "svg", "ndcg@10", streamed, path), "do not go into one plot")
	require.ErrorContains(t, Plot(&svg, "svg", "recall", path), `curves hold no "recall"`)

	for text, want := range map[string]string{
		`{`:                       "no result file",
		`{"protocol": "serving"}`: `of the protocol "serving"`,
		`{"protocol": "leave-one-out", "arms": [{"name": "a", "runs": [{"cases": {"users": "1 2", "items": "1"}}]}]}`: "the file is damaged",
		`{"protocol": "leave-one-out", "arms": [{"name": "a", "runs": [{}]}]}`:                                        "it has no cases",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := ReadHoldout(path)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, Tables(&table, nil, path), want)
	}
}
