package encoder

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"seralm/models/safetensors"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reference is what sentence-transformers makes of a text (testdata/make.py).
type reference struct {
	Text   string
	Vector []float32
}

func readReferences(t testing.TB, name string) (cases []reference) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &cases))
	require.Len(t, cases, 50)
	return cases
}

func open(t testing.TB, dir string, o Options) *Encoder {
	t.Helper()
	e, err := Load(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		e.Close()
		require.Zero(t, e.thread.Live(), "every tensor is freed")
	})
	return e
}

// agrees checks all vectors, computed in batches, against the reference's.
func agrees(t *testing.T, e *Encoder, cases []reference, atLeast float64) {
	t.Helper()
	var texts []string
	for _, c := range cases {
		texts = append(texts, c.Text)
	}
	vectors, err := e.Encode(t.Context(), texts)
	require.NoError(t, err)
	worst := 1.0
	for i, c := range cases {
		require.Len(t, vectors[i], e.Dim())
		require.InDelta(t, 1, dot(vectors[i], vectors[i]), 1e-5, "length one")
		worst = min(worst, dot(vectors[i], c.Vector)/math.Sqrt(dot(c.Vector, c.Vector)))
	}
	t.Logf("least cosine 1 - %.2g", 1-worst)
	require.GreaterOrEqual(t, worst, atLeast)
}

func dot(x, y []float32) (sum float64) {
	for i := range x {
		sum += float64(x[i]) * float64(y[i])
	}
	return sum
}

func TestVectorsAgreeWithSentenceTransformers(t *testing.T) {
	agrees(t, open(t, "testdata/tiny", Options{Threads: 1}), readReferences(t, "tiny.json"), 0.999999)
	agrees(t, open(t, "testdata/tiny", Options{Threads: 1, Type: "bf16"}), readReferences(t, "tiny.json"), 0.999)
}

// What a text is encoded with must not show in its vector.
func TestVectorsDoNotDependOnTheBatch(t *testing.T) {
	e := open(t, "testdata/tiny", Options{Threads: 1})
	texts := []string{"Heat (1995)", "", strings.Repeat("the film noir ", 200), "Amélie", "Heat (1995)"}
	together, err := e.Encode(t.Context(), texts)
	require.NoError(t, err)
	for i, text := range texts {
		alone, err := e.Encode(t.Context(), []string{text})
		require.NoError(t, err)
		require.InDeltaSlice(t, alone[0], together[i], 1e-5)
	}
	// Enough texts for several passes, in the order they came in.
	var many []string
	for range 60 {
		many = append(many, texts...)
	}
	got, err := e.Encode(t.Context(), many)
	require.NoError(t, err)
	for i := range many {
		require.InDeltaSlice(t, together[i%len(texts)], got[i], 1e-5)
	}
	none, err := e.Encode(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestCancelEndsEncoding(t *testing.T) {
	e := open(t, "testdata/tiny", Options{Threads: 1})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := e.Encode(ctx, []string{"a"})
	require.ErrorIs(t, err, context.Canceled)
}

func copyFolder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/tiny")))
	return dir
}

// setConfig replaces one field of config.json.
func setConfig(t testing.TB, dir, key string, value any) {
	t.Helper()
	path := filepath.Join(dir, "config.json")
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var d map[string]any
	require.NoError(t, json.Unmarshal(raw, &d))
	d[key] = value
	raw, err = json.Marshal(d)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, raw, 0o600))
}

func rewrite(t testing.TB, dir string, f func(x *safetensors.Named) bool) {
	t.Helper()
	path := filepath.Join(dir, weightsFile)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	all, _, err := safetensors.Decode(raw)
	require.NoError(t, err)
	var out []safetensors.Named
	for _, x := range all {
		if f(&x) {
			out = append(out, x)
		}
	}
	raw, err = safetensors.Encode(out, nil)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, raw, 0o600))
}

func TestVersionChangesWithWhatVectorsDependOn(t *testing.T) {
	version := func(dir string) string { return open(t, dir, Options{Threads: 1}).Version() }
	want := version("testdata/tiny")
	require.Len(t, want, 16)
	require.Equal(t, want, version(copyFolder(t)), "wherever it is")
	config := copyFolder(t)
	setConfig(t, config, "layer_norm_eps", 1e-6)
	require.NotEqual(t, want, version(config))
	weights := copyFolder(t)
	rewrite(t, weights, func(x *safetensors.Named) bool { x.Data[0] ^= 1; return true })
	require.NotEqual(t, want, version(weights))
	require.Equal(t, want+"-bf16", open(t, "testdata/tiny", Options{Threads: 1, Type: "bf16"}).Version())
	require.Equal(t, want, learner(t, last).Version(), "nothing is learnt yet")
}

// Each folder lacks or contradicts something; the error says what and where.
func TestFoldersThatAreRefused(t *testing.T) {
	config := func(key string, value any) func(*testing.T, string) {
		return func(t *testing.T, dir string) { setConfig(t, dir, key, value) }
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, name))) }
	}
	for name, c := range map[string]struct {
		damage func(*testing.T, string)
		want   string
	}{
		"no config":            {remove("config.json"), "config.json"},
		"no tokenizer":         {remove("tokenizer.json"), "tokenizer.json"},
		"no weights":           {remove(weightsFile), weightsFile},
		"another architecture": {config("model_type", "mpnet"), `model_type is "mpnet"; this computes bert`},
		"another activation":   {config("hidden_act", "relu"), `hidden_act is "relu"`},
		"another position":     {config("position_embedding_type", "relative_key"), `"relative_key"; this computes absolute`},
		"no epsilon":           {config("layer_norm_eps", 0), "layer_norm_eps is 0"},
		"uneven heads":         {config("num_attention_heads", 5), "5 heads do not divide hidden_size 32"},
		"negative size":        {config("hidden_size", -1), "hidden_size is -1"},
		"endless layers":       {config("num_hidden_layers", 1<<19), "num_hidden_layers is 524288"},
		"no room":              {config("max_position_embeddings", 2), "no text fits"},
		"size of another type": {config("hidden_size", "wide"), "config.json"},
		"a layer too many":     {config("num_hidden_layers", 3), `no tensor "encoder.layer.2.`},
		"a layer too few":      {config("num_hidden_layers", 1), "none of a plain BERT's"},
		"another width":        {config("intermediate_size", 64), "as config.json has it"},
		"smaller vocabulary":   {config("vocab_size", 500), "the tokenizer has 600 tokens, the model 500: they are not of one model"},
		"cut short": {func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, weightsFile), 90_000))
		}, weightsFile},
		"a tensor is missing": {func(t *testing.T, dir string) {
			rewrite(t, dir, func(x *safetensors.Named) bool { return x.Name != "embeddings.LayerNorm.bias" })
		}, `no tensor "embeddings.LayerNorm.bias"`},
		"whole numbers": {func(t *testing.T, dir string) {
			rewrite(t, dir, func(x *safetensors.Named) bool {
				if x.Name == "embeddings.LayerNorm.bias" {
					x.DType = safetensors.I32
				}
				return true
			})
		}, "not a float type"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyFolder(t)
			c.damage(t, dir)
			_, err := Load(dir, Options{Threads: 1})
			require.ErrorContains(t, err, "encoder "+dir)
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := Load("testdata/tiny", Options{Type: "int8"})
	require.ErrorContains(t, err, `type "int8": it is float32 or bf16`)
	_, err = Load("testdata/tiny", Options{Train: "all"})
	require.ErrorContains(t, err, `train "all": it is frozen, last or full`)
	_, err = Load("testdata/tiny", Options{Train: last})
	require.ErrorContains(t, err, "learning rate 0: training wants one above 0")
	_, err = Load("testdata/tiny", Options{Device: "gpu"})
	require.ErrorContains(t, err, `no such device "gpu"`)
}
