package native

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"seralm/config"
	generator "seralm/consumers/generator/native"
	"seralm/consumers/trainer/policy"
	"seralm/models/llm"
	"seralm/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// random is a small language model that knows all bytes, and of which the prompts' own
// length is no trouble.
func random(t *testing.T) *llm.Model {
	t.Helper()
	m, err := llm.Random(llm.Config{Vocab: 259, Dim: 16, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 8, Inner: 24, Context: 512, Theta: 1e4, Eps: 1e-5, Tied: true},
		1, llm.Options{Type: "float32", Threads: 1})
	require.NoError(t, err)
	return m
}

func alignment(change ...func(*config.Alignment)) config.Alignment {
	a := config.Default().Alignment
	a.Temperature, a.MaxTokens, a.Rank, a.LearningRate = 1.5, 12, 4, 0.05
	for _, c := range change {
		c(&a)
	}
	return a
}

func newModel(t *testing.T, a config.Alignment) *Model {
	t.Helper()
	m, err := New(random(t), "random", a)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

func newPolicy(t *testing.T, a config.Alignment) *generator.Policy {
	t.Helper()
	p, err := generator.NewPolicy(random(t), "random", a)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

var prompts = []stream.SamplePrompt{{System: "s", User: "Heat (1995)"}, {User: "Alien"}, {System: "s", User: "Brazil, a longer title"}}

// sampled are texts of the policy with coefficients that ask for something.
func sampled(t *testing.T, p *generator.Policy, seed uint64) (texts []policy.Text, behaviour, reference [][]float32) {
	t.Helper()
	all, err := p.Sample(t.Context(), prompts, 3, seed)
	require.NoError(t, err)
	require.Len(t, all, len(prompts))
	for i, of := range all {
		require.Len(t, of, 3)
		for k, s := range of {
			text := policy.Text{Prompt: prompts[i], Tokens: s.Tokens}
			for range s.Tokens {
				text.Coefficients = append(text.Coefficients, float32(i-k)/8)
			}
			texts, behaviour, reference = append(texts, text), append(behaviour, s.Behaviour), append(reference, s.Reference)
		}
	}
	return texts, behaviour, reference
}

// What the generator says of its texts is what the trainer computes of them, to the bit,
// before the policy has learnt and after; the reference stays what it was.
func TestTheGeneratorsLogProbabilitiesAreTheTrainers(t *testing.T) {
	a := alignment()
	m, p, untouched := newModel(t, a), newPolicy(t, a), newModel(t, a)
	require.Equal(t, m.Name(), p.Version().Name)
	for step := range int64(3) {
		texts, behaviour, reference := sampled(t, p, 7)
		now, err := m.LogProbs(t.Context(), texts, a.Temperature)
		require.NoError(t, err)
		require.Equal(t, now, behaviour)
		first, err := untouched.LogProbs(t.Context(), texts, a.Temperature)
		require.NoError(t, err)
		require.Equal(t, first, reference)
		if step == 0 {
			require.Equal(t, reference, behaviour)
		} else {
			require.NotEqual(t, reference, behaviour, "it has learnt something")
		}

		u, err := m.Train(t.Context(), texts, a.Temperature)
		require.NoError(t, err)
		require.Positive(t, u.Norm)
		adapter, err := m.Adapter()
		require.NoError(t, err)
		require.NoError(t, p.Load(stream.PolicySnapshot{Policy: stream.ModelVersion{Name: m.Name(), Step: step + 1}, Adapter: adapter}))
		require.Equal(t, step+1, p.Version().Step)
	}
}

func TestATextIsAFunctionOfPromptsAdapterAndSeed(t *testing.T) {
	p := newPolicy(t, alignment())
	first, _, _ := sampled(t, p, 1)
	again, _, _ := sampled(t, p, 1)
	require.Equal(t, first, again)
	other, _, _ := sampled(t, p, 2)
	require.NotEqual(t, first, other)
	require.NotEqual(t, first[0].Tokens, first[1].Tokens, "texts of one prompt are drawn apart")

	texts, err := p.Sample(t.Context(), prompts, 2, 5)
	require.NoError(t, err)
	words, err := p.Write(t.Context(), prompts, 2, 5)
	require.NoError(t, err)
	for i := range texts {
		for k := range texts[i] {
			require.Equal(t, texts[i][k].Text, words[i][k])
		}
	}
}

// A model that was saved and restored goes on to the bit, its optimiser's state included.
func TestAModelThatWasSavedGoesOn(t *testing.T) {
	a := alignment()
	p := newPolicy(t, a)
	texts, _, _ := sampled(t, p, 3)
	straight, resumed := newModel(t, a), newModel(t, a)
	step := func(m *Model) {
		_, err := m.Train(t.Context(), texts, a.Temperature)
		require.NoError(t, err)
	}
	step(straight)
	step(straight)
	saved, err := straight.Save()
	require.NoError(t, err)
	step(straight)
	require.NoError(t, resumed.Restore(saved))
	step(resumed)
	want, err := straight.Save()
	require.NoError(t, err)
	got, err := resumed.Save()
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestAnAdapterOfAnotherKindIsRefusedByName(t *testing.T) {
	p, m := newPolicy(t, alignment()), newModel(t, alignment())
	other := newModel(t, alignment(func(a *config.Alignment) { a.Rank = 2 }))
	adapter, err := other.Adapter()
	require.NoError(t, err)
	err = p.Load(stream.PolicySnapshot{Policy: stream.ModelVersion{Name: other.Name(), Step: 9}, Adapter: adapter})
	require.ErrorContains(t, err, "it is of random+policy-lora-r2-a16-q,k,v,o, the model and adapter here are random+policy-lora-r4-a16-q,k,v,o")
	require.Zero(t, p.Version().Step)
	err = p.Load(stream.PolicySnapshot{Policy: p.Version(), Adapter: adapter})
	require.ErrorContains(t, err, "it is of another rank", "whatever it calls itself")
	err = p.Load(stream.PolicySnapshot{Policy: p.Version(), Adapter: []byte("{")})
	require.ErrorContains(t, err, "the tensors of an adapter")
	saved, err := other.Save()
	require.NoError(t, err)
	require.ErrorContains(t, m.Restore(saved), "it is of another rank")
	_, err = New(random(t), "random", alignment(func(a *config.Alignment) { a.Targets = []string{"w"} }))
	require.ErrorContains(t, err, `target "w"`)
}

func TestTextsThatCannotBeComputedWith(t *testing.T) {
	m := newModel(t, alignment())
	ask := stream.SamplePrompt{User: "Heat"}
	require.NoError(t, m.Check(policy.Text{Prompt: ask, Tokens: []int32{0, 258}}))
	require.ErrorContains(t, m.Check(policy.Text{Prompt: ask, Tokens: []int32{259}}), "token 259 is not among the model's 259")
	require.ErrorContains(t, m.Check(policy.Text{Prompt: ask, Tokens: make([]int32, 512)}), "context of 512")
	ask.User = strings.Repeat("Heat ", 200)
	require.ErrorContains(t, m.Check(policy.Text{Prompt: ask, Tokens: []int32{5}}), "context of 512")
}

// A step that is not finite is told as such, and not taken.
func TestAStepThatIsNotFinite(t *testing.T) {
	m := newModel(t, alignment())
	before, err := m.Save()
	require.NoError(t, err)
	for _, c := range []float32{float32(math.NaN()), math.MaxFloat32} {
		text := policy.Text{Prompt: stream.SamplePrompt{User: "Heat"}, Tokens: []int32{5, 6}, Coefficients: []float32{c, c}}
		_, err := m.Train(t.Context(), []policy.Text{text}, 1)
		require.ErrorIs(t, err, policy.ErrNotFinite, fmt.Sprint(c))
		after, err := m.Save()
		require.NoError(t, err)
		require.Equal(t, before, after)
	}
}
