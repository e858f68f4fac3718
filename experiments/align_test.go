package experiments

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/config"
	generator "seralm/consumers/generator/native"
	policy "seralm/consumers/trainer/policy/native"
	"seralm/models/llm"
	"seralm/models/onnx"
	"seralm/models/vocab"
	"seralm/producers/dataset"
)

// described is the ring, of which all items have a title.
func described(t *testing.T) *dataset.Dataset {
	titles := map[string]string{}
	for _, letter := range "abcdefghijkl" {
		titles[string(letter)] = "Letter " + string(letter)
	}
	return open(t, taken(ring()...), titles)
}

// vowels makes a vector of a text of any bytes.
var vowels = encoder{[]string{"a", "e", "i", "o", "u", "Letter a", "Letter b", "Letter c"}}

// small returns an alignment of a language model with random weights.
func small(t *testing.T, d *dataset.Dataset, change ...func(*config.Config)) Alignment {
	t.Helper()
	require.NoError(t, onnx.Init(os.Getenv("SERALM_ONNXRUNTIME")))
	cfg := config.Default()
	cfg.Knowledge.Batch = 6
	al := &cfg.Alignment
	al.Temperature, al.MaxTokens, al.Candidates, al.Group, al.Batch, al.Reservoir, al.LearningRate = 10, 24, 3, 2, 4, 500, 0.01
	for _, c := range change {
		c(&cfg)
	}
	random := func() *llm.Model {
		m, err := llm.Random(llm.Config{Vocab: 259, Dim: 16, Layers: 1, Heads: 2, KVHeads: 1, HeadDim: 8, Inner: 24, Context: 4096, Theta: 1e4, Eps: 1e-5, Tied: true},
			1, llm.Options{Type: "float32", Threads: 1})
		require.NoError(t, err)
		return m
	}
	p, err := generator.NewPolicy(random(), "random", cfg.Alignment)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	m, err := policy.New(random(), "random", cfg.Alignment)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	judge := sasrec("judge")
	judge.Recommender.KnowledgeDim, judge.Recommender.IDDropout = len(vowels.words), 0.3
	judge.Knowledge, err = ReadKnowledge(t.Context(), d, Titles, vowels)
	require.NoError(t, err)
	return Alignment{Config: cfg, Judge: judge, Policy: p, Model: m, Encoder: vowels, Open: generator.Open}
}

func aligner(t *testing.T, d *dataset.Dataset, dir string, a Alignment) *Aligner {
	t.Helper()
	al, err := NewAligner(d, a, dir, nil)
	require.NoError(t, err)
	t.Cleanup(al.Close)
	return al
}

// lines of the progress file, without what a clock says.
func lines(t *testing.T, dir string) (out []Iteration) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, progressFile))
	require.NoError(t, err)
	for line := range strings.Lines(string(raw)) {
		var it Iteration
		require.NoError(t, json.Unmarshal([]byte(line), &it))
		it.Sampling, it.Judging, it.Training = 0, 0, 0
		out = append(out, it)
	}
	return out
}

func texts(t *testing.T, path string) (out map[string]string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &out))
	return out
}

// What judges texts has not seen what is tested.
func TestRewardsAreOfWhatIsLearnt(t *testing.T) {
	d := crowd(t, 12, 100)
	h := read(d)
	rows := vocab.FromIDs(h.items)
	got := map[string][]int32{}
	for ev := range learnt(d) {
		r, ok := rows.Row(ev.Body.Item)
		require.True(t, ok)
		got[ev.Body.User] = append(got[ev.Body.User], r)
	}
	var seen [][]int32
	for _, ev := range d.Interactions(0) {
		if u := ev.Body.User; got[u] != nil {
			seen = append(seen, got[u])
			delete(got, u)
		}
	}
	require.Equal(t, leaveOneOut(h).train, seen)
}

// An alignment that is interrupted, even within an iteration's line, goes on as if it had
// not been.
func TestAnAlignmentGoesOnWhereItWas(t *testing.T) {
	d := described(t)
	straight, parts := t.TempDir(), t.TempDir()
	whole := aligner(t, d, straight, small(t, d))
	require.NoError(t, whole.Learn(t.Context(), 13))

	require.NoError(t, aligner(t, d, parts, small(t, d)).Learn(t.Context(), 10))
	ctx, cancel := context.WithCancel(t.Context())
	dying := small(t, d)
	dying.Encoder = dies{vowels, cancel, new(int)}
	require.ErrorIs(t, aligner(t, d, parts, dying).Learn(ctx, 13), context.Canceled)
	require.Greater(t, len(lines(t, parts)), 10, "it had gone beyond its checkpoint")
	f, err := os.OpenFile(filepath.Join(parts, progressFile), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(`{"iteration":`)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	resumed := aligner(t, d, parts, small(t, d))
	require.NoError(t, resumed.Learn(t.Context(), 13))
	require.Len(t, lines(t, straight), 13)
	require.Equal(t, lines(t, straight), lines(t, parts))
	spread := 0.0
	for _, it := range lines(t, parts) {
		require.InDelta(t, 1, it.Effective, 1e-9, "texts are of the policy that learns from them")
		spread += it.Spread
		require.GreaterOrEqual(t, it.Best+1e-9, it.Reward)
	}
	require.Positive(t, spread)
	require.Zero(t, lines(t, parts)[0].KL)
	require.NotZero(t, lines(t, parts)[12].KL)

	want, got := filepath.Join(straight, "texts.json"), filepath.Join(parts, "texts.json")
	require.NoError(t, whole.Write(t.Context(), Texts{Path: want}))
	// From the folder alone, and interrupted.
	again := small(t, d)
	again.Model = nil
	require.NoError(t, aligner(t, d, parts, again).Write(t.Context(), Texts{Path: got}))
	require.Equal(t, texts(t, want), texts(t, got))
	require.NotEmpty(t, texts(t, got))
	all, err := os.ReadFile(got + ".lines")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(got+".lines", all[:len(all)-100], 0o600))
	require.NoError(t, aligner(t, d, parts, again).Write(t.Context(), Texts{Path: got}))
	require.Equal(t, texts(t, want), texts(t, got))

	bare := filepath.Join(parts, "bare.json")
	require.NoError(t, aligner(t, d, parts, small(t, d)).Write(t.Context(), Texts{Path: bare, Bare: true}))
	require.NotEqual(t, texts(t, got), texts(t, bare))
	require.ErrorContains(t, aligner(t, d, parts, again).Write(t.Context(), Texts{Path: bare}), "texts that others wrote")
	require.ErrorContains(t, resumed.Learn(t.Context(), 5), "has made 13 iterations already")
}

// dies cancels when it has encoded a few times.
type dies struct {
	encoder
	cancel context.CancelFunc
	times  *int
}

func (d dies) Encode(ctx context.Context, texts []string) ([][]float32, error) {
	if *d.times++; *d.times > 3 {
		d.cancel()
		return nil, ctx.Err()
	}
	return d.encoder.Encode(ctx, texts)
}

func TestTheBestOfSeveralTextsHasTheBestReward(t *testing.T) {
	d, dir := described(t), t.TempDir()
	al := aligner(t, d, dir, small(t, d))
	path := filepath.Join(dir, "best.json")
	require.NoError(t, al.Write(t.Context(), Texts{Path: path, Bare: true, Best: 5, Items: 7}))
	raw, err := os.ReadFile(path + ".lines")
	require.NoError(t, err)
	best, first, n, chosen := texts(t, path), texts(t, filepath.Join(dir, "best.first.json")), 0, 0
	for line := range strings.Lines(string(raw)) {
		var w written
		require.NoError(t, json.Unmarshal([]byte(line), &w))
		if w.Item == "" {
			continue // the header
		}
		n++
		require.Len(t, w.Texts, 5)
		again, err := al.sampler.Rewards(t.Context(), w.Item, w.Texts)
		require.NoError(t, err)
		require.InDeltaSlice(t, w.Rewards, again, 1e-9)
		at := slices.Index(w.Rewards, slices.Max(w.Rewards))
		require.Equal(t, w.Texts[at], best[w.Item])
		require.Equal(t, w.Texts[0], first[w.Item])
		if at > 0 {
			chosen++
		}
	}
	require.Equal(t, 7, n)
	require.Positive(t, chosen)
}

func TestAlignmentsThatCannotBe(t *testing.T) {
	d, dir := described(t), t.TempDir()
	aligner(t, d, dir, small(t, d))
	_, err := NewAligner(d, small(t, d, func(c *config.Config) { c.Alignment.Alpha = 1 }), dir, nil)
	require.ErrorContains(t, err, "begun with other settings")
	_, err = NewAligner(open(t, taken(ring()...), nil), small(t, d), t.TempDir(), nil)
	require.ErrorContains(t, err, "describes none of its items")
	err = aligner(t, d, t.TempDir(), small(t, d)).Write(t.Context(), Texts{Path: filepath.Join(dir, "texts.json")})
	require.ErrorContains(t, err, "nothing was learnt yet")
	instance := small(t, d, func(c *config.Config) { c.Alignment.Reward = "instance" })
	err = aligner(t, d, t.TempDir(), instance).Write(t.Context(), Texts{Path: filepath.Join(dir, "texts.json"), Bare: true, Best: 2})
	require.ErrorContains(t, err, "alignment.reward is instance")
	blind := small(t, d)
	blind.Judge.Knowledge, blind.Judge.Recommender.KnowledgeDim = Knowledge{Source: Source{Name: NoKnowledge}}, 0
	require.ErrorContains(t, aligner(t, d, t.TempDir(), blind).Learn(t.Context(), 1), "reads no texts")
}
