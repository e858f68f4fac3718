package experiments

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/models/seqrec"
	"seralm/producers/dataset"
)

func TestPopularityOnAFewUsersByHand(t *testing.T) {
	d := open(t, taken("abcd", "aabc", "ac", "dcab"), nil)
	// Rows: a 2, b 3, c 4, d 5. Learnt: ab, aa, ac, dc: a 4, b 1, c 2, d 1.
	r, err := Holdout(t.Context(), d, reference("popularity"), 0, []uint64{1}, "", nil)
	require.NoError(t, err)
	c := r.Arms[0].Runs[0].Cases
	require.Equal(t, Numbers{0, 1, 3}, c.Users)
	require.Equal(t, Numbers{5, 4, 3}, c.Items)
	require.Equal(t, Numbers{3.5, 2, 3.5}, c.Rank, "b and d tie")
	require.Equal(t, Numbers{1, 1, 1}, c.Masked)
	require.Equal(t, Numbers{-1.7918, -1.3863, -1.7918}, c.LogP, "log 2/12, 3/12")
	require.Equal(t, 1, r.Arms[0].Runs[0].Counts.TooFew)
}

func TestWhoeverLearnsTheRingFindsTheNextItem(t *testing.T) {
	d := open(t, taken(ring()...), nil)
	r, err := Holdout(t.Context(), d, reference("transitions"), 0, []uint64{1}, "", nil)
	require.NoError(t, err)
	require.Equal(t, 1., r.Arms[0].Runs[0].Test["hit@1"])

	a := sasrec("sasrec")
	a.Training.Epochs, a.Training.Patience = 30, 30
	r, err = Holdout(t.Context(), d, a, 0, []uint64{1}, "", nil)
	require.NoError(t, err)
	run := r.Arms[0].Runs[0]
	require.Greater(t, run.Test["masked_hit@1"], 0.95)
	require.Less(t, run.Curve[29].Loss, run.Curve[0].Loss)

	r, err = Holdout(t.Context(), d, reference("popularity"), 0, []uint64{1}, "", nil)
	require.NoError(t, err)
	require.Less(t, r.Arms[0].Runs[0].Test["hit@1"], 0.3)
}

func TestTheBestEpochIsTestedAndItEndsWithoutABetterOne(t *testing.T) {
	a := sasrec("sasrec")
	a.Recommender.LearningRate = 0.3 // it soon gets worse
	a.Training.Epochs, a.Training.Patience, a.Training.Stop = 40, 3, "log_p"
	r, err := Holdout(t.Context(), open(t, taken(ring()...), nil), a, 0, []uint64{1}, "", nil)
	require.NoError(t, err)
	run := r.Arms[0].Runs[0]
	require.Len(t, run.Curve, run.Best+3)
	for _, e := range run.Curve {
		require.LessOrEqual(t, e.Validation["log_p"], run.Curve[run.Best-1].Validation["log_p"])
	}
	a.Training.Epochs = run.Best // had it ended there, it would say the same
	short, err := Holdout(t.Context(), open(t, taken(ring()...), nil), a, 0, []uint64{1}, "", nil)
	require.NoError(t, err)
	require.Equal(t, run.Cases, short.Arms[0].Runs[0].Cases)
}

// flaky fails numerically at the steps that bad says.
type flaky struct {
	*seqrec.Model
	bad func(step uint64) bool
}

func (f flaky) Learn(ctx context.Context, batch []seqrec.Sequence, step uint64) (seqrec.Loss, error) {
	if f.bad(step) {
		return seqrec.Loss{}, &seqrec.NumericError{What: "loss", Value: math.NaN(), Step: step}
	}
	return f.Model.Learn(ctx, batch, step)
}

// A step that is not finite is not taken, and costs no more than itself; where none is,
// the run ends and says so.
func TestBadStepsAreLeftOut(t *testing.T) {
	d := open(t, taken(ring()...), nil)
	run := func(bad func(uint64) bool) (*HoldoutResult, error) {
		a := sasrec("flaky")
		build := a.New
		a.New = func(c config.Recommender) (seqrec.Recommender, error) {
			m, err := build(c)
			if err != nil {
				return nil, err
			}
			return flaky{m.(*seqrec.Model), bad}, nil
		}
		return Holdout(t.Context(), d, a, 0, []uint64{1}, "", nil)
	}
	r, err := run(func(step uint64) bool { return step == 1 || step == 3 })
	require.NoError(t, err)
	curve := r.Arms[0].Runs[0].Curve
	require.Len(t, curve, 2)
	require.Equal(t, 2, curve[0].BadSteps)
	require.Zero(t, curve[1].BadSteps)
	_, err = run(func(step uint64) bool { return step >= 5 })
	require.ErrorContains(t, err, "epoch 2: none of its 5 steps was finite: lower the learning rate")

	// Users of three interactions leave nothing to learn from, which is no bad step.
	r, err = Holdout(t.Context(), open(t, taken("abc", "bca", "cab"), nil), sasrec("idle"), 0, []uint64{1}, "", nil)
	require.NoError(t, err)
	require.Zero(t, r.Arms[0].Runs[0].Curve[0].BadSteps)
}

func TestTwoRunsAreEqual(t *testing.T) {
	d := crowd(t, 30, 600)
	a := sasrec("a")
	a.Recommender.Dropout, a.Training.Validate = 0.2, 10
	var cases []Cases
	for range 2 {
		r, err := Holdout(t.Context(), d, a, 0, []uint64{3}, "", nil)
		require.NoError(t, err)
		cases = append(cases, r.Arms[0].Runs[0].Cases)
	}
	require.Equal(t, cases[0], cases[1])
	r, err := Holdout(t.Context(), d, a, 0, []uint64{4}, "", nil)
	require.NoError(t, err)
	require.NotEqual(t, cases[0].LogP, r.Arms[0].Runs[0].Cases.LogP)
}

// stopping calls stop for every model that is made after the first so many.
func stopping(a Arm, after int, stop func() error) Arm {
	made := a.New
	a.New = func(c config.Recommender) (seqrec.Recommender, error) {
		if after--; after < 0 {
			if err := stop(); err != nil {
				return nil, err
			}
		}
		return made(c)
	}
	return a
}

func TestAnInterruptedRunGoesOnWhereItWas(t *testing.T) {
	d := crowd(t, 30, 600)
	path := filepath.Join(t.TempDir(), "result.json")
	ctx, cancel := context.WithCancel(t.Context())
	// A learning seed makes two models, the second to be served.
	_, err := Holdout(ctx, d, stopping(sasrec("a"), 2, func() error { cancel(); return nil }), 0, []uint64{1, 2}, path, nil)
	require.ErrorIs(t, err, context.Canceled)
	there, err := ReadHoldout(path)
	require.NoError(t, err)
	require.Equal(t, []uint64{1}, there.Arms[0].seeds())

	seeds := 0
	_, err = Holdout(t.Context(), d, stopping(sasrec("a"), 0, func() error { seeds++; return nil }), 0, []uint64{1, 2}, path, nil)
	require.NoError(t, err)
	require.Equal(t, 2, seeds, "the models of seed 2")
	resumed, err := ReadHoldout(path)
	require.NoError(t, err)
	whole, err := Holdout(t.Context(), d, sasrec("a"), 0, []uint64{1, 2}, "", nil)
	require.NoError(t, err)
	for _, s := range []uint64{1, 2} {
		require.Equal(t, whole.Arms[0].run(s).Cases, resumed.Arms[0].run(s).Cases)
	}

	// Another arm stands beside it; other settings, data or protocols do not.
	_, err = Holdout(t.Context(), d, reference("popularity"), 0, []uint64{1}, path, nil)
	require.NoError(t, err)
	both, err := ReadHoldout(path)
	require.NoError(t, err)
	require.Len(t, both.Arms, 2)
	changed := sasrec("a")
	changed.Training.Batch++
	_, err = Holdout(t.Context(), d, changed, 0, []uint64{1}, path, nil)
	require.ErrorContains(t, err, `an arm "a" of other settings`)
	_, err = Holdout(t.Context(), crowd(t, 31, 600), sasrec("a"), 0, []uint64{1}, path, nil)
	require.ErrorContains(t, err, "different data")
	_, err = Holdout(t.Context(), d, sasrec("a"), 0.2, []uint64{1}, path, nil)
	require.ErrorContains(t, err, "protocols")
	_, err = Holdout(t.Context(), d, stopping(sasrec("b"), 0, func() error { return errors.New("no memory") }), 0, []uint64{7}, path, nil)
	require.EqualError(t, err, "b, seed 7: no memory")
	after, err := ReadHoldout(path)
	require.NoError(t, err)
	require.Equal(t, both, after)
}

// clusters are users of one of two kinds of films each.
func clusters(t *testing.T) *dataset.Dataset {
	titles := map[string]string{}
	for i, letter := range "abcdefghijklmnopqrst" {
		titles[string(letter)] = []string{"a western", "a musical"}[i%2]
	}
	r := rand.New(rand.NewPCG(1, 1))
	var users []string
	for u := range 100 {
		var b strings.Builder
		for range 8 {
			b.WriteByte(byte('a' + 2*r.IntN(10) + u%2))
		}
		users = append(users, b.String())
	}
	return open(t, taken(users...), titles)
}

func TestAHiddenItemIsFoundByItsText(t *testing.T) {
	d := clusters(t)
	know, err := ReadKnowledge(t.Context(), d, Titles, encoder{[]string{"western", "musical"}})
	require.NoError(t, err)
	require.Equal(t, Source{Name: "title", Hash: know.Source.Hash, Encoder: "words", Titles: 20}, know.Source)

	base, told := sasrec("base"), sasrec("told")
	told.Knowledge, told.Recommender.KnowledgeDim, told.Recommender.IDDropout = know, 2, 0.3
	path := filepath.Join(t.TempDir(), "cold.json")
	var r *HoldoutResult
	for _, a := range []Arm{reference("popularity"), base, told} {
		a.Training.Epochs, a.Training.Patience = 25, 25
		r, err = Holdout(t.Context(), d, a, 0.2, []uint64{1, 2}, path, nil)
		require.NoError(t, err)
	}
	for _, run := range r.Arms[1].Runs {
		require.Equal(t, 4, run.Counts.Hidden)
		require.NotZero(t, run.Counts.Cases)
	}
	// Three of the four hidden items tie with the one that is asked for, so a base's
	// rank is a whole number and a half.
	for _, rank := range r.Arms[1].Runs[0].Cases.Rank {
		require.InDelta(t, 0.5, rank-float64(int(rank)), 1e-9)
	}
	c, err := Compare(r, "base", r, "told")
	require.NoError(t, err)
	at := slices.IndexFunc(c, func(d Comparison) bool { return d.Metric == "log_p" })
	require.GreaterOrEqual(t, at, 0)
	require.Positive(t, c[at].Low)
	require.Greater(t, r.Arms[2].mean("masked_hit@10"), 0.9, "ten films are of the kind")
}

// With ids dropped the model has learnt to read vectors; of a Base there is no cold view.
func TestWhatAVectorSaysByItselfAndOfItemsSeenHowOften(t *testing.T) {
	d := clusters(t)
	know, err := ReadKnowledge(t.Context(), d, Titles, encoder{[]string{"western", "musical"}})
	require.NoError(t, err)
	base, told := sasrec("base"), sasrec("told")
	told.Knowledge, told.Recommender.KnowledgeDim, told.Recommender.IDDropout = know, 2, 0.3
	path := filepath.Join(t.TempDir(), "loo.json")
	for _, a := range []Arm{base, told} {
		a.Training.Epochs, a.Training.Patience = 25, 25
		_, err = Holdout(t.Context(), d, a, 0, []uint64{1}, path, nil)
		require.NoError(t, err)
	}
	r, err := ReadHoldout(path)
	require.NoError(t, err)
	require.Empty(t, r.Arms[0].Runs[0].Cases.Cold)
	cold := r.Arms[1].Runs[0].Test["cold_log_p"]
	require.InDelta(t, -math.Log(10), cold, 0.4, "ten films are of the kind, and it does not say which")

	seen := r.Arms[0].Runs[0].Cases.Seen
	count := func(times string, arms int) (n int) {
		some, err := r.Seen(times)
		require.NoError(t, err)
		require.Len(t, some.Arms, arms)
		for _, a := range some.Arms {
			n = len(a.Runs[0].Cases.Users)
			require.Len(t, a.Runs[0].Cases.LogP, n)
		}
		return n
	}
	most := fmt.Sprint(slices.Max(seen))
	require.Equal(t, len(seen), count("0-30", 2)+count("31-", 2))
	require.Positive(t, count(most, 2))
	require.Zero(t, count("500-", 0))
	for _, bad := range []string{"", "5-1", "a", "-3", "1.5", "1-b"} {
		_, err := r.Seen(bad)
		require.ErrorContains(t, err, "no range", bad)
	}
	r.Arms[1].Runs[0].Cases.Seen = nil
	_, err = r.Seen("0")
	require.ErrorContains(t, err, `arm "told", seed 1 was made by a version`)
}

func TestTextsOfEachSeed(t *testing.T) {
	d := clusters(t)
	a := sasrec("told")
	a.Training.Epochs, a.Recommender.KnowledgeDim = 1, 2
	a.Knowledge.Source.Name = "texts-{seed}.json"
	a.Each = func(ctx context.Context, seed uint64) (Knowledge, error) {
		if seed == 3 {
			return Knowledge{}, errors.New("texts-3.json is not there")
		}
		return ReadKnowledge(ctx, d, Titles, encoder{[]string{"western", "musical"}[:seed]})
	}
	_, err := Holdout(t.Context(), d, a, 0, []uint64{3}, "", nil)
	require.EqualError(t, err, "told, seed 3: texts-3.json is not there")
	r, err := Holdout(t.Context(), d, a, 0, []uint64{2}, "", nil)
	require.NoError(t, err)
	require.Equal(t, "texts-{seed}.json", r.Arms[0].Knowledge.Name)
	require.Equal(t, 20, r.Arms[0].Runs[0].Knowledge.Titles)
	require.NotEmpty(t, r.Arms[0].Runs[0].Cases.Cold)

	// A run is that of its texts; where they are gone it stays.
	path := filepath.Join(t.TempDir(), "r.json")
	require.NoError(t, r.save(path))
	made := a.Each
	again := func(each func(context.Context, uint64) (Knowledge, error)) error {
		a.Each = each
		_, err := Holdout(t.Context(), d, a, 0, []uint64{2}, path, nil)
		return err
	}
	require.NoError(t, again(made))
	require.NoError(t, again(func(context.Context, uint64) (Knowledge, error) { return Knowledge{}, fs.ErrNotExist }))
	require.ErrorContains(t, again(func(ctx context.Context, seed uint64) (Knowledge, error) {
		k, err := made(ctx, seed)
		k.Source.Hash = "rewritten"
		return k, err
	}), "holds a run with other texts")
}

// Two processes that add to one file would lose each other's runs.
func TestAResultFileIsOneProcesss(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	unlock, err := lock(path)
	require.NoError(t, err)
	_, err = Holdout(t.Context(), clusters(t), reference("popularity"), 0, []uint64{1}, path, nil)
	require.ErrorContains(t, err, "another process adds to "+path)
	unlock()
	_, err = Holdout(t.Context(), clusters(t), reference("popularity"), 0, []uint64{1}, path, nil)
	require.NoError(t, err)
	require.NoFileExists(t, path+".lock")
}

func TestSettingsThatMakeNoSense(t *testing.T) {
	d := open(t, taken("abc", "abd"), nil)
	for want, change := range map[string]func(*Arm){
		`no metric "recall"`:        func(a *Arm) { a.Training.Stop = "recall" },
		"does not measure cold":     func(a *Arm) { a.Training.Stop = coldLogP },
		`no schedule "linear"`:      func(a *Arm) { a.Training.Schedule = "linear" },
		"popularity takes no knowl": func(a *Arm) { *a = reference("popularity"); a.Knowledge.vectors = map[string][]float32{"a": {1}} },
		"batches of 0":              func(a *Arm) { a.Training.Batch = 0 },
	} {
		a := sasrec("a")
		change(&a)
		_, err := Holdout(t.Context(), d, a, 0, []uint64{1}, "", nil)
		require.ErrorContains(t, err, want)
	}
	_, err := Holdout(t.Context(), d, sasrec("a"), 1, []uint64{1}, "", nil)
	require.ErrorContains(t, err, "a share of 1 of the items cannot be hidden")
}

// What data sets hold in practice: refused with what is wrong, or counted.
func TestOddData(t *testing.T) {
	many := strings.Repeat("abcdefghij", 1000)
	for name, c := range map[string]struct {
		interactions string
		want         Counts
		fails        string
	}{
		"one event each":          {taken("a", "b", "a"), Counts{}, "none of its 3 users has enough interactions"},
		"some with one event":     {taken("abc", "a", "bcad"), Counts{Users: 3, TooFew: 1, Train: 4, Cases: 2}, ""},
		"a user with very many":   {taken(many, "abc"), Counts{Users: 2, Train: 9999, Cases: 2}, ""},
		"an event twice":          {"user_id,item_id,timestamp\nu,a,1\nu,b,2\nu,b,2\nu,c,3\n", Counts{Users: 1, Train: 2, Cases: 1}, ""},
		"gaps in the positions":   {"user_id,item_id,position\nu,a,0\nu,b,5\nu,c,9\n", Counts{Users: 1, Train: 1, Cases: 1}, ""},
		"lines in another order":  {"user_id,item_id,timestamp\nu,c,3\nu,a,1\nu,b,2\n", Counts{Users: 1, Train: 1, Cases: 1}, ""},
		"no column of items":      {"user_id,sku,timestamp\nu,a,1\n", Counts{}, `no column`},
		"a line that is cut":      {"user_id,item_id,timestamp\nu,a,1\nu,b", Counts{}, "2 columns where 3 belong"},
		"an unknown encoding":     {"user_id,item_id,timestamp\nu,caf\xe9,1\n", Counts{}, "not valid UTF-8"},
		"times that are no times": {"user_id,item_id,timestamp\nu,a,soon\n", Counts{}, `"soon"`},
		"nothing":                 {"user_id,item_id,timestamp\n", Counts{}, "no interactions"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "interactions.csv"), []byte(c.interactions), 0o600))
			d, err := dataset.Open(t.Context(), dataset.Options{Path: dir, Name: "odd"})
			var r *HoldoutResult
			var p PrequentialResult
			if err == nil {
				r, err = Holdout(t.Context(), d, reference("transitions"), 0, []uint64{1}, "", nil)
				var prequential error
				p, prequential = Prequential(t.Context(), config.Default(), d, Contest{}, nil, nil)
				require.Equal(t, err == nil, prequential == nil, "%v, but prequential: %v", err, prequential)
			}
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, r.Arms[0].Runs[0].Counts)
			require.EqualValues(t, d.Len(), p.Counts.Events)
			require.EqualValues(t, d.Summary().Users, p.Counts.First, "what there is nothing to rank by is counted")
			require.EqualValues(t, d.Len()-d.Summary().Users, p.Counts.Ranked)
			require.Equal(t, strings.Contains(name, "twice"), p.Summary.Duplicates == 1, "an event that is there twice is counted")
			require.Equal(t, strings.HasPrefix(name, "gaps"), p.Summary.Gaps > 0, "gaps are counted")
			if strings.HasPrefix(name, "lines") || strings.HasPrefix(name, "gaps") {
				require.Equal(t, "c", d.At(2).Body.Item)
			}
		})
	}
}

func TestTheCosineWarmsUpAndEndsAtNothing(t *testing.T) {
	require.Equal(t, 0.25, cosine(0, 4, 100))
	require.Equal(t, 1., cosine(4, 4, 100))
	require.InDelta(t, 0.5, cosine(52, 4, 100), 1e-12)
	require.InDelta(t, 0, cosine(100, 4, 100), 1e-12)
	require.Equal(t, 1., cosine(4, 4, 4), "all of it warm-up")
}
