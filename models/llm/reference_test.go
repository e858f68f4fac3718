package llm

import (
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"seralm/models/tensor"
)

// reference is what transformers makes of a prompt in float32 (testdata/make.py).
type reference struct {
	System, User string
	IDs          []int32
	Greedy       []int32
	Text         string
	Logits       []float32 // after the last token of the prompt, every stride-th
	LogP         []float32 `json:"logp_at_0.7"` // of the greedy tokens
}

func readReferences(t testing.TB, name string) []reference {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	var c struct{ Cases []reference }
	require.NoError(t, json.Unmarshal(raw, &c))
	require.Len(t, c.Cases, 8)
	return c.Cases
}

func load(t testing.TB, path string, o Options) *Model {
	t.Helper()
	m, err := Load(path, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		m.Close()
		require.Zero(t, m.thread.Live(), "every tensor is freed")
	})
	return m
}

// agrees checks a float32 model against the reference: prompts, logits, greedy
// texts of ragged prompts in one batch, and scores.
func agrees(t *testing.T, m *Model, cases []reference, stride, maxTokens int) {
	t.Helper()
	var prompts []Prompt
	var greedy [][]int32
	for _, c := range cases {
		p, err := m.Chat(c.System, c.User)
		require.NoError(t, err)
		require.Equal(t, Prompt(c.IDs), p, "%q", c.User)
		prompts, greedy = append(prompts, p), append(greedy, c.Greedy)
	}
	worst := 0.0
	for i, logits := range lastLogits(t, m, prompts) {
		require.Len(t, cases[i].Logits, (len(logits)+stride-1)/stride)
		for j, want := range cases[i].Logits {
			worst = max(worst, math.Abs(float64(want-logits[j*stride])))
		}
	}
	t.Logf("largest logit difference %.2g", worst)
	require.LessOrEqual(t, worst, 1e-3)
	texts, err := m.Generate(t.Context(), prompts, Sampling{MaxTokens: maxTokens})
	require.NoError(t, err)
	scores, err := m.LogProbs(t.Context(), prompts, greedy, 0.7)
	require.NoError(t, err)
	worst = 0
	for i, c := range cases {
		require.Equal(t, c.Greedy, texts[i].Tokens, "%q", c.User)
		if !strings.ContainsRune(c.Text, utf8.RuneError) { // bytes that are no text, from random weights: we drop them
			require.Equal(t, c.Text, texts[i].Text)
		}
		require.Len(t, scores[i], len(c.Greedy))
		for j, want := range c.LogP {
			worst = max(worst, math.Abs(float64(want-scores[i][j])))
		}
	}
	t.Logf("largest log-probability difference %.2g", worst)
	require.LessOrEqual(t, worst, 1e-3)
}

// lastLogits are those after each prompt, computed in one padded batch.
func lastLogits(t testing.TB, m *Model, prompts []Prompt) (out [][]float32) {
	t.Helper()
	which := make([]int, len(prompts))
	for i := range which {
		which[i] = i
	}
	require.NoError(t, m.thread.Do(func(s *tensor.Scope) {
		logits, _ := m.prefill(s, prompts, which, 1)
		all := s.Values(logits)
		for i := range prompts {
			out = append(out, all[i*m.config.Vocab:(i+1)*m.config.Vocab])
		}
	}))
	return out
}

// A folder as Hugging Face writes it, in several files, and the GGUF file that
// llama.cpp's converter makes of it: Llama 2's layout, small.
func TestLlama2LayoutAgreesWithTransformers(t *testing.T) {
	for name, path := range map[string]string{"folder": "testdata/tiny", "GGUF": "testdata/tiny.gguf"} {
		t.Run(name, func(t *testing.T) {
			agrees(t, load(t, path, Options{Threads: 1}), readReferences(t, "tiny.json"), 1, 12)
		})
	}
}
