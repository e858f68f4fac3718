package native

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/config"
	generator "seralm/consumers/generator/native"
	"seralm/consumers/internal/toy"
	"seralm/models/llm"
	templates "seralm/prompts"
	"seralm/stream"
)

// speller is a language model whose words are the toy's letters: of the vocabulary three
// tokens are special, of which two end a text.
func speller(t *testing.T, seed uint64) *llm.Model {
	t.Helper()
	m, err := llm.Random(llm.Config{Vocab: 3 + toy.Letters - 1, Dim: 16, Layers: 1, Heads: 2, KVHeads: 1, HeadDim: 8, Inner: 24, Context: 512, Theta: 1e4, Eps: 1e-5},
		seed, llm.Options{Type: "float32", Threads: 1})
	require.NoError(t, err)
	return m
}

// shares of the texts that p writes about even items: how many say nothing, and how many
// of the others, which alone are samples, have the good letter.
func shares(t *testing.T, c config.Config, p *generator.Policy) (empty, good float64) {
	t.Helper()
	template, err := templates.Load(c.Knowledge.Domain)
	require.NoError(t, err)
	var asks []stream.SamplePrompt
	for _, item := range []string{"i0", "i2", "i4", "i6", "i8"} {
		it := toy.Described(item)
		system, user := template.Render(templates.Item{ID: it.Item, Title: it.Title, Categories: it.Categories})
		asks = append(asks, stream.SamplePrompt{System: system, User: user})
	}
	written, err := p.Write(t.Context(), asks, 100, 7)
	require.NoError(t, err)
	texts := slices.Concat(written...)
	for _, text := range texts {
		switch {
		case text == "":
			empty++
		case strings.Contains(text, toy.GoodLetter):
			good++
		}
	}
	n := float64(len(texts))
	return empty / n, good / (n - empty)
}

// A language model on libtorch learns to write the letter that tells of an item's true
// takers, from chance to nearly always: sampled, judged and taught by the parts of the
// two jobs.
func TestALanguageModelLearnsToSayWhatIsTrue(t *testing.T) {
	const iterations = 100
	for seed := range uint64(5) {
		c := toy.Config([]string{"unused:1"}, "")
		c.Alignment.Seed, c.Alignment.LearningRate = seed, 0.01
		p, err := generator.NewPolicy(speller(t, seed), "speller", c.Alignment)
		require.NoError(t, err)
		m, err := New(speller(t, seed), "speller", c.Alignment)
		require.NoError(t, err)
		silent, before := shares(t, c, p)
		o := toy.GeneratorOptions(c, nil)
		o.Policy = p
		toy.Loop{
			Config: c, Generator: o, Model: m,
			Recommender: toy.Groups(c.Recommender.Name, 10, toy.Good), Usable: toy.Even, Interactions: toy.GroupInteractions(0, 8000),
		}.Run(t, iterations)
		empty, after := shares(t, c, p)
		p.Close()
		m.Close()
		t.Logf("seed %d: %.2f of the texts have the letter at first, %.2f after %d iterations; beside %.2f and %.2f that say nothing", seed, before, after, iterations, silent, empty)
		require.Less(t, before, 0.6)
		require.GreaterOrEqual(t, after, 0.9)
	}
}
