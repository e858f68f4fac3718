package llm

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/tensor"
)

// small is a model whose policy can be enumerated.
func small(t testing.TB, vocab int, o Options) *Model {
	t.Helper()
	o.Threads = 1
	m, err := Random(Config{Vocab: vocab, Dim: 16, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 4, Inner: 24, Context: 64, Theta: 10000, Eps: 1e-5}, 3, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		m.Close()
		require.Zero(t, m.thread.Live(), "every tensor is freed")
	})
	return m
}

// ragged prompts, some of them twice.
func ragged(vocab int) []Prompt {
	var out []Prompt
	for _, n := range []int{1, 7, 3, 7, 2, 12, 3, 1} {
		var p Prompt
		for i := range n {
			p = append(p, int32(3+(i*i+n)%(vocab-3)))
		}
		out = append(out, p)
	}
	return out
}

// Exact: all completions of up to three tokens have probabilities that sum to one,
// and 10,000 samples are distributed like them (chi-square).
func TestSamplesFollowTheExactDistribution(t *testing.T) {
	const vocab, most, n = 8, 3, 10_000
	m := small(t, vocab, Options{Batch: 500})
	prompt := Prompt{4, 5, 3, 6}
	for _, tau := range []float64{1, 0.6} {
		t.Run(fmt.Sprint("temperature ", tau), func(t *testing.T) {
			var all [][]int32
			var grow func(c []int32)
			grow = func(c []int32) {
				if len(c) == most || len(c) > 0 && slices.Contains(m.stop, c[len(c)-1]) {
					all = append(all, c)
					return
				}
				for id := range int32(vocab) {
					grow(append(slices.Clone(c), id))
				}
			}
			grow(nil)
			logp, err := m.LogProbs(t.Context(), slices.Repeat([]Prompt{prompt}, len(all)), all, tau)
			require.NoError(t, err)
			p, sum := map[string]float64{}, 0.0
			for i, c := range all {
				total := 0.0
				for _, l := range logp[i] {
					total += float64(l)
				}
				p[fmt.Sprint(c)] = math.Exp(total)
				sum += math.Exp(total)
			}
			require.InDelta(t, 1, sum, 1e-4)

			got, err := m.Generate(t.Context(), slices.Repeat([]Prompt{prompt}, n), Sampling{Temperature: tau, MaxTokens: most, Seed: 11})
			require.NoError(t, err)
			count := map[string]float64{}
			for _, c := range got {
				count[fmt.Sprint(c.Tokens)]++
			}
			chi, cells, rareP, rareN := 0.0, 0, 0.0, 0.0
			add := func(seen, expected float64) { chi += (seen - expected) * (seen - expected) / expected; cells++ }
			for c, p := range p {
				if p*n < 5 { // the test wants five expected in each cell
					rareP, rareN = rareP+p, rareN+count[c]
					continue
				}
				add(count[c], p*n)
			}
			if rareP*n >= 5 {
				add(rareN, rareP*n)
			}
			df := float64(cells - 1)
			t.Logf("chi-square %.1f with %v degrees of freedom", chi, df)
			require.Greater(t, cells, 50)
			// Mean df, standard deviation sqrt(2 df); the seed is fixed.
			require.Less(t, chi, df+4*math.Sqrt(2*df))
			require.Greater(t, chi, df-4*math.Sqrt(2*df))
		})
	}
}

// Two code paths give one number: tokens one by one with a cache and padding on the
// left, and all at once with padding on the right.
func TestSampledAndScoredLogProbabilitiesAreEqual(t *testing.T) {
	for kind, tolerance := range map[string]float64{"float32": 1e-4, "bf16": 0.15} {
		m := small(t, 50, Options{Batch: 3, Type: kind})
		for _, tau := range []float64{0.3, 1, 2} {
			sampledEqualsScored(t, m, ragged(50), Sampling{Temperature: tau, MaxTokens: 20, Seed: 5}, tolerance)
		}
	}
}

func sampledEqualsScored(t *testing.T, m *Model, prompts []Prompt, o Sampling, tolerance float64) {
	t.Helper()
	got, err := m.Generate(t.Context(), prompts, o)
	require.NoError(t, err)
	var completions [][]int32
	for _, c := range got {
		completions = append(completions, c.Tokens)
	}
	scores, err := m.LogProbs(t.Context(), prompts, completions, o.Temperature)
	require.NoError(t, err)
	worst := 0.0
	for i, c := range got {
		require.Len(t, c.LogProbs, len(c.Tokens))
		for j := range scores[i] {
			worst = max(worst, math.Abs(float64(scores[i][j]-c.LogProbs[j])))
		}
	}
	t.Logf("temperature %v: sampled and scored differ by at most %.2g", o.Temperature, worst)
	require.LessOrEqual(t, worst, tolerance)
}

// What prompts have in common is computed once; that must not show.
func TestPromptsThatBeginAlikeAreComputedTogether(t *testing.T) {
	var instructions Prompt
	for i := range 45 {
		instructions = append(instructions, int32(3+i*i%47))
	}
	var prompts []Prompt
	for i, p := range ragged(50) {
		prompts = append(prompts, append(slices.Clone(instructions[:45-i%3]), p...))
	}
	prompts = append(prompts, instructions, instructions)
	together := small(t, 50, Options{Batch: 16})
	require.GreaterOrEqual(t, 43*(len(prompts)-1), worthSharing)
	o := Sampling{Temperature: 1, MaxTokens: 7, Seed: 9}
	sampledEqualsScored(t, together, prompts, o, 1e-4)
	want, err := small(t, 50, Options{Batch: 1}).Generate(t.Context(), prompts, o)
	require.NoError(t, err)
	got, err := together.Generate(t.Context(), prompts, o)
	require.NoError(t, err)
	for i := range want {
		require.Equal(t, want[i].Tokens, got[i].Tokens)
	}
}

// Texts of one prompt are computed side by side; that must not show either.
func TestTextsOfAPromptAreScoredTogether(t *testing.T) {
	m := small(t, 50, Options{Batch: 16})
	var prompts []Prompt
	for _, p := range ragged(50) {
		prompts = append(prompts, slices.Repeat([]Prompt{p}, 4)...)
	}
	got, err := m.Generate(t.Context(), prompts, Sampling{Temperature: 1, MaxTokens: 9, Seed: 4})
	require.NoError(t, err)
	var texts [][]int32
	for i, c := range got {
		texts = append(texts, c.Tokens[:len(c.Tokens)*min(1, i%7)]) // an empty one now and then
	}
	rows := pack(prompts, texts, 16, math.MaxInt)
	require.Less(t, len(rows), len(prompts)/3)
	together, err := m.LogProbs(t.Context(), prompts, texts, 1)
	require.NoError(t, err)
	for i := range prompts {
		alone, err := m.LogProbs(t.Context(), prompts[i:i+1], texts[i:i+1], 1)
		require.NoError(t, err)
		require.Len(t, together[i], len(texts[i]))
		require.InDeltaSlice(t, alone[0], together[i], 1e-5)
	}
}

func TestRowsAndPassesAreBounded(t *testing.T) {
	var prompts []Prompt
	var texts [][]int32
	for i := range 40 {
		prompts = append(prompts, make(Prompt, 3+i%3))
		texts = append(texts, make([]int32, i%11))
	}
	for _, most := range []int{1, 4, 100} {
		for _, tokens := range []int{1, 20, 200} {
			seen := make([]int, len(texts))
			for _, pass := range passes(pack(prompts, texts, most, tokens), most, tokens) {
				n, width := 0, 0
				for _, r := range pass {
					require.LessOrEqual(t, len(r.texts), most)
					if len(r.texts) > 1 {
						require.LessOrEqual(t, r.width(), tokens)
					}
					n, width = n+len(r.texts), max(width, r.width())
					for i, w := range r.which {
						seen[w]++
						require.Equal(t, prompts[w], r.prompt)
						require.Len(t, r.texts[i], len(texts[w]))
					}
				}
				if len(pass) > 1 {
					require.LessOrEqual(t, n, most)
					require.LessOrEqual(t, len(pass)*width, tokens)
				}
			}
			require.Equal(t, slices.Repeat([]int{1}, len(texts)), seen)
		}
	}
}

func TestCommonPrefix(t *testing.T) {
	for _, c := range []struct {
		want int
		all  [][]int32
	}{
		{2, [][]int32{{1, 2, 3}}},
		{2, [][]int32{{1, 2, 3}, {1, 2, 4, 5}}},
		{1, [][]int32{{1, 2, 3}, {1, 2}}},
		{0, [][]int32{{1, 2, 3}, {2, 2, 3}, {1, 2, 3}}},
		{0, [][]int32{{1}, {1, 2}}},
		{1, [][]int32{{1, 2, 3, 4}, {1, 5, 3, 4}, {1, 2, 3, 4}}},
	} {
		require.Equal(t, c.want, commonPrefix(c.all), "%v", c.all)
	}
}

// A completion is a function of prompt, place and seed.
func TestSamplesDoNotDependOnTheBatch(t *testing.T) {
	prompts := ragged(50)
	o := Sampling{Temperature: 1, MaxTokens: 12, Seed: 9}
	want, err := small(t, 50, Options{Batch: 1}).Generate(t.Context(), prompts, o)
	require.NoError(t, err)
	for _, batch := range []int{2, 3, 16} {
		got, err := small(t, 50, Options{Batch: batch}).Generate(t.Context(), prompts, o)
		require.NoError(t, err)
		for i := range want {
			require.Equal(t, want[i].Tokens, got[i].Tokens, "batches of %d", batch)
		}
	}
	require.NotEqual(t, want[0].Tokens, want[7].Tokens, "the same prompt in two places")
	o.Seed++
	other, err := small(t, 50, Options{}).Generate(t.Context(), prompts, o)
	require.NoError(t, err)
	require.NotEqual(t, want, other)
}

func TestTemperatureZeroTakesTheMostProbable(t *testing.T) {
	m := small(t, 50, Options{})
	prompts := ragged(50)
	a, err := m.Generate(t.Context(), prompts, Sampling{MaxTokens: 6, Seed: 1})
	require.NoError(t, err)
	b, err := m.Generate(t.Context(), prompts, Sampling{MaxTokens: 6, Seed: 2, Temperature: 1e-4})
	require.NoError(t, err)
	for i, logits := range lastLogits(t, m, prompts) {
		require.Equal(t, slices.Max(logits), logits[a[i].Tokens[0]])
		require.Equal(t, a[i].Tokens, b[i].Tokens)
	}
}

// With top-p the tokens outside never come, those inside keep their ratios, and
// log-probabilities stay those of the whole policy.
func TestTopPSamplesTheNucleus(t *testing.T) {
	const topP, n = 0.5, 2000
	m := small(t, 50, Options{Batch: 500})
	prompt := Prompt{4, 5, 3, 6}
	p := softmax(lastLogits(t, m, []Prompt{prompt})[0])
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return int(math.Copysign(1, p[b]-p[a])) })
	inside, mass := map[int32]bool{}, 0.0
	for _, id := range order {
		inside[int32(id)] = true
		if mass += p[id]; mass >= topP {
			break
		}
	}
	require.Greater(t, len(inside), 2)
	got, err := m.Generate(t.Context(), slices.Repeat([]Prompt{prompt}, n), Sampling{Temperature: 1, TopP: topP, MaxTokens: 1, Seed: 3})
	require.NoError(t, err)
	count := map[int32]float64{}
	for _, c := range got {
		id := c.Tokens[0]
		require.True(t, inside[id], "token %d", id)
		require.InDelta(t, math.Log(p[id]), float64(c.LogProbs[0]), 1e-4)
		count[id]++
	}
	for id := range inside {
		share := p[id] / mass
		require.InDelta(t, share, count[id]/n, 5*math.Sqrt(share*(1-share)/n))
	}
}

// A nucleus may be of more tokens than are sorted at first, beside others that are not.
func TestANucleusMayBeLarge(t *testing.T) {
	const v, n = 2000, 4000
	p, u := make([]float32, 2*n*v), make([]float32, 2*n)
	for i := range n {
		u[i], u[n+i] = float32(i)/n, float32(i)/n
		for id := range v { // v/2 tokens of 3/4 of the mass
			p[i*v+id] = float32(1+2*(id%2)) / (2 * v)
		}
		copy(p[(n+i)*v:], []float32{0.1, 0.6, 0.3})
	}
	count, narrow := map[int64]int{}, [3]int{}
	require.NoError(t, small(t, 50, Options{}).thread.Do(func(s *tensor.Scope) {
		got := s.Int64s(nucleus(s, s.F32(p, 2*n, v), 0.74, u))
		for i, id := range got[:n] {
			count[id]++
			narrow[got[n+i]]++
		}
	}))
	require.InDeltaSlice(t, []int{0, 2 * n / 3, n / 3}, narrow[:], 2)
	require.InDelta(t, 0.74/0.75*v/2, len(count), 2)
	for id, times := range count {
		require.Equal(t, int64(1), id%2, "token %d is not of the most probable", id)
		require.InDelta(t, n/float64(len(count)), times, 1.1)
	}
}

func softmax(logits []float32) []float64 {
	top, sum := float64(slices.Max(logits)), 0.0
	p := make([]float64, len(logits))
	for i, l := range logits {
		p[i] = math.Exp(float64(l) - top)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

// A text ends with the model's end of text, with the format's end of turn, or when
// it has become too long.
func TestWhatEndsAText(t *testing.T) {
	m := small(t, 8, Options{Batch: 200})
	got, err := m.Generate(t.Context(), slices.Repeat([]Prompt{{3}}, 200), Sampling{Temperature: 1, MaxTokens: 5, Seed: 1})
	require.NoError(t, err)
	by := map[int32]int{}
	for _, c := range got {
		last := c.Tokens[len(c.Tokens)-1]
		if c.Finish == Length {
			require.Len(t, c.Tokens, 5)
			require.NotContains(t, m.stop, last)
			require.Equal(t, m.tokenizer.Decode(c.Tokens), c.Text)
			continue
		}
		require.Equal(t, Stop, c.Finish)
		for _, id := range c.Tokens[:len(c.Tokens)-1] {
			require.NotContains(t, m.stop, id)
		}
		require.Equal(t, m.tokenizer.Decode(c.Tokens[:len(c.Tokens)-1]), c.Text)
		by[last]++
	}
	require.Len(t, by, 2, "<|endoftext|> and <|im_end|>: %v", by)
}

func TestCancelEndsGeneration(t *testing.T) {
	m := small(t, 50, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := m.Generate(ctx, []Prompt{{3}}, Sampling{MaxTokens: 5})
	require.ErrorIs(t, err, context.Canceled)
	_, err = m.LogProbs(ctx, []Prompt{{3}}, [][]int32{{4}}, 1)
	require.ErrorIs(t, err, context.Canceled)
	// It is still of use.
	_, err = m.Generate(t.Context(), []Prompt{{3}}, Sampling{MaxTokens: 5})
	require.NoError(t, err)
}

func TestRequestsThatCannotBeMet(t *testing.T) {
	m := small(t, 50, Options{})
	ok := Sampling{Temperature: 1, MaxTokens: 5}
	with := func(f func(*Sampling)) Sampling { o := ok; f(&o); return o }
	for name, c := range map[string]struct {
		prompts []Prompt
		o       Sampling
		want    string
	}{
		"negative temperature":  {[]Prompt{{3}}, with(func(o *Sampling) { o.Temperature = -1 }), "temperature -1"},
		"temperature of no sum": {[]Prompt{{3}}, with(func(o *Sampling) { o.Temperature = math.NaN() }), "temperature NaN"},
		"top-p above one":       {[]Prompt{{3}}, with(func(o *Sampling) { o.TopP = 1.5 }), "top-p 1.5"},
		"no tokens":             {[]Prompt{{3}}, with(func(o *Sampling) { o.MaxTokens = 0 }), "at most 0 tokens"},
		"empty prompt":          {[]Prompt{{3}, {}}, ok, "prompt 1: it has no token"},
		"too long":              {[]Prompt{make(Prompt, 60)}, ok, "its 60 tokens and 5 more exceed the model's context of 64"},
		"far too long":          {[]Prompt{{3}}, with(func(o *Sampling) { o.MaxTokens = math.MaxInt }), "exceed the model's context"},
		"token of another":      {[]Prompt{{50}}, ok, "token 50 is not among the model's 50"},
		"negative token":        {[]Prompt{{-1}}, ok, "token -1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := m.Generate(t.Context(), c.prompts, c.o)
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := m.LogProbs(t.Context(), []Prompt{{3}}, nil, 1)
	require.ErrorContains(t, err, "1 prompts and 0 completions")
	_, err = m.LogProbs(t.Context(), []Prompt{{3}}, [][]int32{{99}}, 1)
	require.ErrorContains(t, err, "token 99")
	_, err = m.LogProbs(t.Context(), []Prompt{{3}}, [][]int32{{4}}, 0)
	require.ErrorContains(t, err, "temperature 0")
	scores, err := m.LogProbs(t.Context(), []Prompt{{3}, {4}}, [][]int32{{}, {5}}, 1)
	require.NoError(t, err)
	require.Empty(t, scores[0])
	require.Len(t, scores[1], 1)
	none, err := m.Generate(t.Context(), nil, ok)
	require.NoError(t, err)
	require.Empty(t, none)
}

// Gradients of the scored log-probabilities, through the cache-less pass and every
// kind of weight, against finite differences.
func TestGradientsOfLogProbabilities(t *testing.T) {
	m := small(t, 20, Options{})
	// The first prompt has two texts: they are computed side by side.
	batch := pack([]Prompt{{3, 4, 5}, {8}, {3, 4, 5}}, [][]int32{{6, 7, 2}, {9, 0}, {6, 3, 10, 4}}, 9, 99)
	require.Len(t, batch, 2)
	const tau = 0.8
	loss := func(s *tensor.Scope) *tensor.Tensor {
		hidden, targets := m.predictors(s, batch)
		return s.Sum(m.logProbs(s, hidden, targets, tau))
	}
	l := &m.layers[0]
	for name, w := range map[string]**tensor.Tensor{
		"embedding": &m.embed, "norm": &l.attentionNorm, "q": &l.q.weight, "k": &l.k.weight, "v": &l.v.weight, "o": &l.o.weight,
		"gate": &l.gate.weight, "up": &l.up.weight, "down": &l.down.weight, "head": &m.head.weight,
	} {
		t.Run(name, func(t *testing.T) {
			kept := *w
			defer func() { *w = kept }()
			require.NoError(t, m.thread.Do(func(s *tensor.Scope) {
				leaf := s.Leaf(kept)
				*w = leaf
				s.Grad(func() { s.Backward(loss(s)) })
				gradient := s.Values(s.Gradient(leaf))
				// Along the gradient itself the loss changes by its squared norm.
				norm := 0.0
				for _, g := range gradient {
					norm += float64(g) * float64(g)
				}
				const eps = 1e-3
				at := func(step float64) float64 {
					*w = s.Add(kept, s.MulScalar(s.Gradient(leaf), step/math.Sqrt(norm)))
					return s.Value(loss(s))
				}
				slope := (at(eps) - at(-eps)) / (2 * eps)
				require.InEpsilon(t, math.Sqrt(norm), slope, 0.01)
			}))
		})
	}
}
