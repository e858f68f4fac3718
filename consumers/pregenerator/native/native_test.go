package native

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"seralm/config"
	"seralm/consumers/pregenerator"
	"seralm/models/llm"
	"seralm/models/snapshot"
	"seralm/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	tinyModel   = "../../../models/llm/testdata/tiny.gguf"
	tinyFolder  = "../../../models/llm/testdata/tiny"
	tinyEncoder = "../../../models/encoder/testdata/tiny"
)

// tiny is a configuration of models with random weights.
func tiny(change ...func(*config.Knowledge)) config.Config {
	cfg := config.Default()
	k := &cfg.Knowledge
	k.Model, k.Encoder, k.Type, k.MaxTokens, k.Batch = tinyModel, tinyEncoder, "float32", 12, 4
	for _, c := range change {
		c(k)
	}
	return cfg
}

// The whole way, with models of the real code: items in the log, texts and vectors out.
func TestItemsToTextsAndVectors(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	defer fake.Close()
	// Hot enough that a model of random bytes says some that are text.
	cfg := tiny(func(k *config.Knowledge) { k.Temperature, k.TopP, k.MaxTokens = 10, 1, 24 })
	cfg.Kafka.Brokers = fake.ListenAddrs()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Kafka.Brokers...))
	require.NoError(t, err)
	defer cl.Close()
	require.NoError(t, stream.Ensure(t.Context(), kadm.NewClient(cl), cfg.Kafka))
	const items = 10
	for n := range items {
		item := strings.Repeat("i", n+1)
		rec, err := stream.NewRecord("items", item, item, "test", time.Now(), stream.Item{Item: item, Title: "Heat <|im_end|> " + item, Text: strings.Repeat("long ", 20_000)})
		require.NoError(t, err)
		require.NoError(t, cl.ProduceSync(t.Context(), rec).FirstErr())
	}

	// Its vocabulary holds all bytes and its context all prompts.
	m, err := llm.Random(llm.Config{Vocab: 259, Dim: 16, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 8, Inner: 24, Context: 4096, Theta: 1e4, Eps: 1e-5, Tied: true},
		1, llm.Options{Type: "float32", Threads: 1})
	require.NoError(t, err)
	w := New(m, stream.ModelVersion{Name: "random"}, cfg)
	defer w.Close()
	e, err := LoadEncoder(cfg)
	require.NoError(t, err)
	defer e.Close()
	p, err := pregenerator.New(cfg, pregenerator.Options{
		Writer: w, Encoder: e, Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler), Once: true,
	})
	require.NoError(t, err)
	require.NoError(t, p.Run(t.Context()))

	var out bytes.Buffer
	n, err := pregenerator.Export(t.Context(), cfg.Kafka, &out)
	require.NoError(t, err)
	require.Equal(t, items, n)
	for n := range items {
		k, err := pregenerator.Find(t.Context(), cfg.Kafka, strings.Repeat("i", n+1))
		require.NoError(t, err)
		require.Equal(t, stream.OriginLLM, k.Origin)
		require.Equal(t, e.Version(), k.Encoder)
		require.NotEmpty(t, k.Text)
		vectors, err := e.Encode(t.Context(), []string{k.Text})
		require.NoError(t, err)
		require.Len(t, k.Vector, e.Dim())
		for i, x := range vectors[0] {
			require.InDelta(t, x, k.Vector[i], 1e-5)
		}
	}
}

func TestTheSameAsksHaveTheSameAnswers(t *testing.T) {
	w, err := LoadWriter(tiny())
	require.NoError(t, err)
	defer w.Close()
	asks := []pregenerator.Ask{{System: "s", User: "a"}, {System: "s", User: "b"}}
	first, err := w.Write(t.Context(), asks, 0)
	require.NoError(t, err)
	again, err := w.Write(t.Context(), asks, 0)
	require.NoError(t, err)
	require.Equal(t, first, again)
	other, err := w.Write(t.Context(), asks, 1)
	require.NoError(t, err)
	require.NotEqual(t, first, other, "another attempt is another draw")
	for _, a := range first {
		require.True(t, utf8.ValidString(a.Text))
		require.Positive(t, a.Tokens)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = w.Write(ctx, asks, 0)
	require.ErrorIs(t, err, context.Canceled)
}

// A policy as its trainer publishes it writes otherwise, and without it the model is to
// the byte what it was.
func TestAPolicyIsLoadedAndTakenOffAgain(t *testing.T) {
	cfg := tiny(func(k *config.Knowledge) { k.Temperature = 1 })
	cfg.Alignment.LearningRate = 0.5
	learnt := func(cfg config.Config) []byte {
		m, err := llm.Load(tinyModel, llm.Options{Type: "float32", Threads: 1})
		require.NoError(t, err)
		defer m.Close()
		a := cfg.Alignment
		p, err := m.Adapt(llm.LoRA{Rank: a.Rank, Alpha: a.Scale, Targets: a.Targets, Seed: a.Seed, LearningRate: a.LearningRate})
		require.NoError(t, err)
		ask, err := m.Chat("s", "a")
		require.NoError(t, err)
		_, err = p.Train(t.Context(), []llm.Example{{Prompt: ask, Tokens: []int32{5, 6, 7}, Coefficients: []float32{1, 1, 1}}}, 1)
		require.NoError(t, err)
		state, err := p.State()
		require.NoError(t, err)
		raw, err := snapshot.EncodeTensors(state)
		require.NoError(t, err)
		return raw
	}
	w, err := LoadWriter(cfg)
	require.NoError(t, err)
	defer w.Close()
	asks := []pregenerator.Ask{{System: "s", User: "a"}, {System: "s", User: "b"}}
	write := func() []pregenerator.Answer {
		answers, err := w.Write(t.Context(), asks, 0)
		require.NoError(t, err)
		return answers
	}
	base, plain := w.Version(), write()
	require.NoError(t, w.Load(nil))

	p := stream.PolicySnapshot{Policy: stream.ModelVersion{Name: "policy", Step: 7}, Adapter: learnt(cfg)}
	require.NoError(t, w.Load(&p))
	require.Equal(t, p.Policy, w.Version())
	aligned := write()
	require.NotEqual(t, plain, aligned)

	other := cfg
	other.Alignment.Rank = 3
	wrong := stream.PolicySnapshot{Policy: stream.ModelVersion{Name: "policy", Step: 8}, Adapter: learnt(other)}
	require.ErrorContains(t, w.Load(&wrong), "rank")
	wrong.Adapter = []byte("none")
	require.ErrorContains(t, w.Load(&wrong), "policy@8")
	require.Equal(t, p.Policy, w.Version())
	require.Equal(t, aligned, write(), "what failed to load has no effect")

	require.NoError(t, w.Load(nil))
	require.Equal(t, base, w.Version())
	require.Equal(t, plain, write())
}

func TestAVersionIsOfTheContents(t *testing.T) {
	version := func(path string) string {
		w, err := LoadWriter(tiny(func(k *config.Knowledge) { k.Model = path }))
		require.NoError(t, err)
		defer w.Close()
		return w.Version().Name
	}
	raw, err := os.ReadFile(tinyModel)
	require.NoError(t, err)
	moved := filepath.Join(t.TempDir(), "tiny.gguf")
	require.NoError(t, os.WriteFile(moved, raw, 0o600))
	require.Equal(t, version(tinyModel), version(moved))
	raw[len(raw)-1] ^= 1
	require.NoError(t, os.WriteFile(moved, raw, 0o600))
	require.NotEqual(t, version(tinyModel), version(moved))
	require.Regexp(t, `^tiny-[0-9a-f]{8}$`, version(tinyFolder))
}

func TestWeightsThatCannotBeUsedAreNamedWithTheRemedy(t *testing.T) {
	dir := t.TempDir()
	raw, err := os.ReadFile(tinyModel)
	require.NoError(t, err)
	half := filepath.Join(dir, "half.gguf")
	require.NoError(t, os.WriteFile(half, raw[:len(raw)-1000], 0o600))
	otherVocabulary := copied(t, tinyFolder, "config.json", `"vocab_size": 600`, `"vocab_size": 500`)
	smallEncoder := copied(t, tinyEncoder, "config.json", `"vocab_size": 600`, `"vocab_size": 500`)
	cutEncoder := copied(t, tinyEncoder, "config.json", "", "")
	weights := filepath.Join(cutEncoder, "model.safetensors")
	info, err := os.Stat(weights)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(weights, info.Size()/2))

	for name, c := range map[string]struct {
		model, encoder string
		says           []string
	}{
		"no language model":           {model: filepath.Join(dir, "none.gguf"), says: []string{"none.gguf", "native.py setup smollm2", "knowledge.model"}},
		"a truncated one":             {model: half, says: []string{"half.gguf", "is the file whole", "knowledge.model"}},
		"a vocabulary of another":     {model: otherVocabulary, says: []string{"600", "500", "knowledge.model"}},
		"no encoder":                  {encoder: filepath.Join(dir, "none"), says: []string{"none", "native.py setup minilm", "knowledge.encoder"}},
		"a truncated encoder":         {encoder: cutEncoder, says: []string{cutEncoder, "knowledge.encoder"}},
		"an encoder of another model": {encoder: smallEncoder, says: []string{"600", "500", "not of one model"}},
		"a folder that is no model":   {encoder: dir, says: []string{"config.json", "knowledge.encoder"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tiny()
			if c.model != "" {
				cfg.Knowledge.Model = c.model
				_, err = LoadWriter(cfg)
			} else {
				cfg.Knowledge.Encoder = c.encoder
				_, err = LoadEncoder(cfg)
			}
			for _, s := range c.says {
				require.ErrorContains(t, err, s)
			}
		})
	}
	cfg := tiny(func(k *config.Knowledge) { k.Model, k.Encoder = "", "" })
	_, err = LoadWriter(cfg)
	require.ErrorContains(t, err, "knowledge.model is empty")
	_, err = LoadEncoder(cfg)
	require.ErrorContains(t, err, "knowledge.encoder is empty")
}

// copied is a copy of a folder with a change in one file.
func copied(t *testing.T, from, file, old, changed string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(from)))
	if old == "" {
		return dir
	}
	path := filepath.Join(dir, file)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(raw), old)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(raw), old, changed, 1)), 0o600))
	return dir
}

func TestVectorsAreOfLengthOne(t *testing.T) {
	e, err := LoadEncoder(tiny())
	require.NoError(t, err)
	defer e.Close()
	vectors, err := e.Encode(t.Context(), []string{"Heat (1995). Action, Crime"})
	require.NoError(t, err)
	sum := 0.0
	for _, x := range vectors[0] {
		sum += float64(x) * float64(x)
	}
	require.InDelta(t, 1, math.Sqrt(sum), 1e-5)
}
