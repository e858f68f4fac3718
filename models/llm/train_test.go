package llm

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/align"
	"seralm/models/snapshot"
	"seralm/models/tensor"
)

func lora() LoRA {
	return LoRA{Rank: 3, Alpha: 6, Targets: Targets(), Seed: 5, LearningRate: 0.01}
}

func adapt(t testing.TB, m *Model, o LoRA) *Policy {
	t.Helper()
	p, err := m.Adapt(o)
	require.NoError(t, err)
	return p
}

// stir gives the adapter a B that is not zero, so that it says something and all of it
// has a gradient.
func stir(t testing.TB, p *Policy, size float64) {
	t.Helper()
	state, err := p.State()
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(4, 4))
	for _, name := range slices.Sorted(maps.Keys(state)) {
		if strings.HasSuffix(name, partB) {
			for i := range state[name].Data {
				state[name].Data[i] = float32(size * r.NormFloat64())
			}
		}
	}
	require.NoError(t, p.Restore(state))
}

// texts of ragged prompts, as the model samples them.
func texts(t testing.TB, m *Model, tau float64) (prompts []Prompt, completions [][]int32) {
	t.Helper()
	prompts = ragged(m.config.Vocab)
	got, err := m.Generate(t.Context(), prompts, Sampling{Temperature: tau, MaxTokens: 9, Seed: 2})
	require.NoError(t, err)
	for _, c := range got {
		completions = append(completions, c.Tokens)
	}
	return prompts, completions
}

func examples(prompts []Prompt, completions [][]int32) (out []Example) {
	for i, c := range completions {
		e := Example{Prompt: prompts[i], Tokens: c}
		for t := range c {
			e.Coefficients = append(e.Coefficients, float32(math.Sin(float64(7*i+3*t))))
		}
		out = append(out, e)
	}
	return out
}

func TestAnAdapterBeginsAsTheModelItself(t *testing.T) {
	for _, kind := range []string{"float32", "bf16"} {
		base, m := small(t, 50, Options{Type: kind}), small(t, 50, Options{Type: kind})
		prompts, completions := texts(t, base, 1)
		want, err := base.LogProbs(t.Context(), prompts, completions, 1)
		require.NoError(t, err)
		p := adapt(t, m, lora())
		policy, reference, err := p.LogProbs(t.Context(), prompts, completions, 1)
		require.NoError(t, err)
		require.Equal(t, want, policy)
		require.Equal(t, want, reference)
	}
}

// What was learnt is in the policy and not in the reference, and sampling follows the
// policy, at any temperature.
func TestWithoutItsAdapterTheModelIsWhatItWas(t *testing.T) {
	for kind, tolerance := range map[string]float64{"float32": 1e-4, "bf16": 0.15} {
		base, m := small(t, 50, Options{Type: kind}), small(t, 50, Options{Type: kind})
		p := adapt(t, m, lora())
		for _, tau := range []float64{0.5, 2} {
			prompts, completions := texts(t, m, tau)
			_, err := p.Train(t.Context(), examples(prompts, completions), tau)
			require.NoError(t, err)
			want, err := base.LogProbs(t.Context(), prompts, completions, tau)
			require.NoError(t, err)
			policy, reference, err := p.LogProbs(t.Context(), prompts, completions, tau)
			require.NoError(t, err)
			require.Equal(t, want, reference)
			require.NotEqual(t, want, policy)
			sampledEqualsScored(t, m, prompts, Sampling{Temperature: tau, MaxTokens: 20, Seed: 5}, tolerance)
		}
	}
}

// The adapter's gradient along itself, by differences of what LogProbs says: at the
// temperature, through each kind of layer and all of them.
func TestGradientsOfTheAdapter(t *testing.T) {
	const tau = 0.7
	for _, targets := range append([][]string{Targets()}, func() (out [][]string) {
		for _, t := range Targets() {
			out = append(out, []string{t})
		}
		return out
	}()...) {
		t.Run(strings.Join(targets, " "), func(t *testing.T) {
			m := small(t, 20, Options{})
			o := lora()
			o.Targets, o.PassTokens = targets, 24 // several passes
			p := adapt(t, m, o)
			stir(t, p, 0.3)
			prompts, completions := texts(t, m, tau)
			batch := examples(prompts, completions)
			passes, err := p.divide(batch)
			require.NoError(t, err)
			require.Greater(t, len(passes), 2)
			gradient, size := p.gradient(t, batch, tau)
			state, err := p.State()
			require.NoError(t, err)
			at := func(step float64) (objective float64) {
				moved := maps.Clone(state)
				for name, g := range gradient {
					moved[name] = snapshot.Tensor{Shape: state[name].Shape, Data: slices.Clone(state[name].Data)}
					for i := range g {
						moved[name].Data[i] += float32(step / size * g[i])
					}
				}
				require.NoError(t, p.Restore(moved))
				logp, err := m.LogProbs(t.Context(), prompts, completions, tau)
				require.NoError(t, err)
				for i, e := range batch {
					for t, c := range e.Coefficients {
						objective += float64(c) * float64(logp[i][t])
					}
				}
				return objective
			}
			const h = 3e-3
			require.InEpsilon(t, size, (at(h)-at(-h))/(2*h), 0.01)
		})
	}
}

// gradient of the objective by name, and its size. It is the one that Train steps along.
func (p *Policy) gradient(t testing.TB, batch []Example, tau float64) (out map[string][]float64, size float64) {
	t.Helper()
	passes, err := p.divide(batch)
	require.NoError(t, err)
	require.NoError(t, p.model.thread.Do(func(s *tensor.Scope) {
		p.params.ClearGradients(s)
		for _, pass := range passes {
			p.accumulate(s, pass, batch, tau)
		}
		out, size = p.read64(s, -1)
	}))
	return out, size
}

// read64 copies the parameters' gradients out.
func (p *Policy) read64(s *tensor.Scope, sign float64) (out map[string][]float64, size float64) {
	out = map[string][]float64{}
	for _, n := range p.tensors() {
		for _, g := range s.Values(s.Gradient(p.params.Get(n.name))) {
			out[n.name] = append(out[n.name], sign*float64(g))
			size += float64(g) * float64(g)
		}
	}
	return out, math.Sqrt(size)
}

// Over all 125 texts of three tokens of a vocabulary of five, what package align asks for
// is, in the mean, the gradient of log p(y|x) = log sum_s p(y|x,s) pi(s) (Eq. 5) that
// autograd finds in the real decoder; and that of KL(pi || ref).
func TestTheExpectedGradientIsThatOfTheMarginal(t *testing.T) {
	const tau, alpha = 0.8, 0.4
	m := small(t, 5, Options{})
	p := adapt(t, m, lora())
	stir(t, p, 0.3)
	prompt := Prompt{3, 4, 4, 3}
	var all [][]int32
	for n := range int32(125) {
		all = append(all, []int32{n / 25, n / 5 % 5, n % 5})
	}
	prompts := slices.Repeat([]Prompt{prompt}, len(all))
	policy, reference, err := p.LogProbs(t.Context(), prompts, all, tau)
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(1, 2))
	rewards, pi, marginal, inverse := make([]float64, 125), make([]float64, 125), 0.0, 0.0
	for i := range all {
		rewards[i] = 0.02 * math.Exp(r.NormFloat64())
		pi[i] = math.Exp(float64(policy[i][0]) + float64(policy[i][1]) + float64(policy[i][2]))
		marginal += pi[i] * rewards[i]
		inverse += pi[i] / rewards[i]
	}
	candidate := func(i int) align.Candidate {
		return align.Candidate{Reward: rewards[i], Tokens: 3, Policy: policy[i], Behaviour: policy[i], Reference: reference[i]}
	}

	// exact[0] is grad log p(y|x), exact[1] grad KL, both from Eq. 5 and 7 as they stand
	// with the sum over all texts written out.
	var exact [2]map[string][]float64
	require.NoError(t, m.thread.Do(func(s *tensor.Scope) {
		var rows []row // one text each: independent of how Train packs them
		for i, c := range all {
			rows = append(rows, row{prompt, [][]int32{c}, []int{i}})
		}
		for n := range exact {
			s.Sub(func(s *tensor.Scope) {
				p.params.ClearGradients(s)
				s.Grad(func() {
					hidden, targets := m.predictors(s, rows)
					logPi := s.SumDim(s.View(m.logProbs(s, hidden, targets, tau), 125, 3), 1, false)
					var logR, logRef []float32
					for i := range all {
						logR = append(logR, float32(math.Log(rewards[i])))
						logRef = append(logRef, reference[i][0]+reference[i][1]+reference[i][2])
					}
					if n == 0 {
						s.Backward(s.Log(s.Sum(s.Exp(s.Add(logPi, s.F32(logR, 125))))))
					} else {
						s.Backward(s.Sum(s.Mul(s.Exp(logPi), s.Minus(logPi, s.F32(logRef, 125)))))
					}
				})
				exact[n], _ = p.read64(s, 1)
			})
		}
	}))

	// mean adds up what a sample asks of its texts, times the sample's probability.
	mean := func(o align.Options, base float64, tuple int) (out map[string][]float64) {
		ask := make([][]float64, 125)
		for i := range ask {
			ask[i] = make([]float64, 3)
		}
		add := func(probability float64, texts ...int) {
			s := align.Sample{Base: base}
			for _, i := range texts {
				s.Candidates = append(s.Candidates, candidate(i))
			}
			got, err := align.Coefficients([]align.Sample{s}, o, align.Deviation{})
			require.NoError(t, err)
			for n, i := range texts {
				for token, c := range got.Coefficients[0][n] {
					ask[i][token] += probability * float64(c)
				}
			}
		}
		for i := range all {
			if tuple == 1 {
				add(pi[i], i)
				continue
			}
			for j := range all {
				add(pi[i]*pi[j], i, j)
			}
		}
		var batch []Example
		for i, c := range all {
			e := Example{Prompt: prompt, Tokens: c}
			for _, v := range ask[i] {
				e.Coefficients = append(e.Coefficients, float32(v))
			}
			batch = append(batch, e)
		}
		out, size := p.gradient(t, batch, tau)
		require.Greater(t, size, 0.01)
		return out
	}
	o := align.Options{Reward: align.Instance, Estimator: align.Paper, Clip: 1e9, Weighting: align.PerToken, Truncate: 1e9}
	nearby(t, exact[0], mean(o, marginal, 1), 1)
	o.Estimator = align.LeaveOneOut // longer by E[p(y|x) / p(y|x,s')]
	nearby(t, exact[0], mean(o, 0, 2), marginal*inverse)

	for i := range rewards {
		rewards[i] = 0.5
	}
	o.Alpha, o.Penalty = alpha, align.InReward
	nearby(t, exact[1], mean(o, 0, 2), -alpha)
}

func nearby(t *testing.T, want, got map[string][]float64, times float64) {
	t.Helper()
	require.Len(t, got, len(want))
	off, size := 0.0, 0.0
	for name := range want {
		for i, w := range want[name] {
			require.InDelta(t, times*w, got[name][i], 1e-4)
			off += (times*w - got[name][i]) * (times*w - got[name][i])
			size += times * w * times * w
		}
	}
	t.Logf("off by %.1g of a gradient of %.2g", math.Sqrt(off), math.Sqrt(size))
	require.Less(t, off, 1e-4*size)
}

// Texts are rewarded for tokens below 15; advantages are align's. The policy learns it.
func TestAPlantedRewardIsLearnt(t *testing.T) {
	const tau, k, steps = 1, 4, 50
	m := small(t, 30, Options{Batch: 32})
	m.stop = nil
	o := lora()
	o.LearningRate, o.ClipNorm = 0.02, 1
	p := adapt(t, m, o)
	var prompts []Prompt
	for _, q := range ragged(30) {
		prompts = append(prompts, slices.Repeat([]Prompt{q}, k)...)
	}
	options := align.Options{Reward: align.Catalogue, Estimator: align.LeaveOneOut, Clip: 5, Weighting: align.Uncorrected}
	var deviation align.Deviation
	var first, last float64
	for step := range steps {
		got, err := m.Generate(t.Context(), prompts, Sampling{Temperature: tau, MaxTokens: 6, Seed: uint64(step)})
		require.NoError(t, err)
		batch := make([]align.Sample, len(prompts)/k)
		for i, c := range got {
			reward := 0.0
			for _, id := range c.Tokens {
				if id < 15 {
					reward++
				}
			}
			batch[i/k].Candidates = append(batch[i/k].Candidates, align.Candidate{Reward: reward, Tokens: len(c.Tokens)})
		}
		r, err := align.Coefficients(batch, options, deviation)
		require.NoError(t, err)
		deviation = r.Deviation
		var examples []Example
		for i, c := range got {
			examples = append(examples, Example{prompts[i], c.Tokens, r.Coefficients[i/k][i%k]})
		}
		u, err := p.Train(t.Context(), examples, tau)
		require.NoError(t, err)
		require.Equal(t, int64(step+1), u.Step)
		switch {
		case step < 5:
			first += r.Stats.Reward / 5
		case step >= steps-5:
			last += r.Stats.Reward / 5
		}
	}
	t.Logf("of 6 tokens %.2f were rewarded in the first five steps, %.2f in the last", first, last)
	require.Less(t, first, 3.6)
	require.Greater(t, last, 4.8)
}

// The number of passes is a matter of memory, and not of the step.
func TestAStepDoesNotDependOnItsPasses(t *testing.T) {
	var want map[string]snapshot.Tensor
	for _, tokens := range []int{0, 64, 1} {
		m := small(t, 50, Options{})
		o := lora()
		o.PassTokens = tokens
		p := adapt(t, m, o)
		stir(t, p, 0.3)
		prompts, completions := texts(t, m, 1)
		batch := examples(prompts, completions)
		batch = append(batch, Example{prompts[0], completions[0], make([]float32, len(completions[0]))}) // asks for nothing
		u, err := p.Train(t.Context(), batch, 1)
		require.NoError(t, err)
		require.Positive(t, u.Norm)
		state, err := p.State()
		require.NoError(t, err)
		if want == nil {
			want = state
		}
		for name := range want {
			require.InDeltaSlice(t, want[name].Data, state[name].Data, 2e-3, "%d tokens a pass, %s", tokens, name)
		}
	}
}

// A run that is saved and goes on elsewhere is the run that did not stop, to the bit.
func TestARestoredPolicyLearnsOnToTheBit(t *testing.T) {
	for _, kind := range []string{"float32", "bf16"} {
		m := small(t, 50, Options{Type: kind})
		p := adapt(t, m, lora())
		prompts, completions := texts(t, m, 1)
		batch := examples(prompts, completions)
		train := func(p *Policy, n int) {
			for range n {
				_, err := p.Train(t.Context(), batch, 1)
				require.NoError(t, err)
			}
		}
		train(p, 3)
		saved, err := p.FullState()
		require.NoError(t, err)
		raw, err := snapshot.EncodeTensors(saved)
		require.NoError(t, err)
		train(p, 3)
		want, err := p.FullState()
		require.NoError(t, err)

		back, err := snapshot.DecodeTensors(raw)
		require.NoError(t, err)
		o := lora()
		o.Seed++ // nothing of it is left
		q := adapt(t, small(t, 50, Options{Type: kind}), o)
		require.NoError(t, q.RestoreFull(back))
		require.Equal(t, int64(3), q.Steps())
		train(q, 3)
		got, err := q.FullState()
		require.NoError(t, err)
		require.Equal(t, want, got)

		// State is enough to sample the same.
		weights, err := p.State()
		require.NoError(t, err)
		require.Less(t, len(weights), len(want)/2)
		q = adapt(t, small(t, 50, Options{Type: kind}), o)
		require.NoError(t, q.Restore(weights))
		a, err := m.LogProbs(t.Context(), prompts, completions, 1)
		require.NoError(t, err)
		b, err := q.model.LogProbs(t.Context(), prompts, completions, 1)
		require.NoError(t, err)
		require.Equal(t, a, b)
	}
}

func TestAdaptersOfOthersAreRefusedByName(t *testing.T) {
	m := small(t, 50, Options{})
	o := lora()
	o.Targets = []string{"q", "down"}
	p := adapt(t, m, o)
	full, err := p.FullState()
	require.NoError(t, err)
	other := func(c Config, seed uint64, change func(*LoRA)) *Policy {
		m, err := Random(c, seed, Options{Threads: 1})
		require.NoError(t, err)
		t.Cleanup(m.Close)
		o := o
		change(&o)
		return adapt(t, m, o)
	}
	same := func(*LoRA) {}
	deeper := m.config
	deeper.Layers++
	const q0 = "base_model.model.model.layers.0.self_attn.q_proj"
	for want, p := range map[string]*Policy{
		q0 + ".lora_A.weight is [3 16] in it, [4 16] here": other(m.config, 3, func(o *LoRA) { o.Rank = 4 }),
		"it lacks base_model.model.model.layers.0.mlp.up_": other(m.config, 3, func(o *LoRA) { o.Targets = []string{"q", "up", "down"} }),
		"it has " + q0[:34]:                         other(m.config, 3, func(o *LoRA) { o.Targets = []string{"down"} }),
		"its alpha is 6, here it is 5":              other(m.config, 3, func(o *LoRA) { o.Alpha = 5 }),
		"it lacks base_model.model.model.layers.2.": other(deeper, 3, same),
		"it was trained on other weights":           other(m.config, 4, same),
	} {
		before, err := p.FullState()
		require.NoError(t, err)
		require.ErrorContains(t, p.RestoreFull(full), want)
		require.ErrorContains(t, p.Restore(full), want)
		after, err := p.FullState()
		require.NoError(t, err)
		require.Equal(t, before, after)
	}
	for want, spoil := range map[string]func(map[string]snapshot.Tensor){
		q0 + ".lora_A.weight: value 1 is NaN": func(s map[string]snapshot.Tensor) {
			data := slices.Clone(s[q0+partA].Data)
			data[1] = float32(math.NaN())
			s[q0+partA] = snapshot.Tensor{Shape: s[q0+partA].Shape, Data: data}
		},
		"has 5 values for shape": func(s map[string]snapshot.Tensor) {
			s[q0+partA] = snapshot.Tensor{Shape: s[q0+partA].Shape, Data: make([]float32, 5)}
		},
		"it lacks adam.m.": func(s map[string]snapshot.Tensor) {
			maps.DeleteFunc(s, func(name string, _ snapshot.Tensor) bool { return strings.HasPrefix(name, adamM) })
		},
		"it lacks adam.step":  func(s map[string]snapshot.Tensor) { delete(s, adamStep) },
		"it lacks lora.model": func(s map[string]snapshot.Tensor) { delete(s, stateModel) },
	} {
		s := maps.Clone(full)
		spoil(s)
		require.ErrorContains(t, p.RestoreFull(s), want)
	}
	require.NoError(t, p.RestoreFull(full))
}

// What is not finite is no step: the adapter and its optimiser are as before, and learn on.
func TestAStepThatIsNotFiniteIsNotTaken(t *testing.T) {
	m := small(t, 50, Options{})
	p := adapt(t, m, lora())
	prompts, completions := texts(t, m, 1)
	good := examples(prompts, completions)
	_, err := p.Train(t.Context(), good, 1)
	require.NoError(t, err)
	before, err := p.FullState()
	require.NoError(t, err)
	unchanged := func() {
		t.Helper()
		after, err := p.FullState()
		require.NoError(t, err)
		require.Equal(t, before, after)
	}
	for want, c := range map[string]float32{
		"policy step 2: example 1: coefficient of token 0 is NaN": float32(math.NaN()),
		"policy step 2: objective is -Inf":                        3e38,
		"policy step 2: gradient norm is +Inf":                    1e36,
	} {
		bad := examples(prompts, completions)
		for i := range bad[1].Coefficients {
			bad[1].Coefficients[i] = c
		}
		_, err = p.Train(t.Context(), bad, 1)
		var numeric *NumericError
		require.ErrorAs(t, err, &numeric)
		require.ErrorContains(t, err, want)
		unchanged()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = p.Train(ctx, good, 1)
	require.ErrorIs(t, err, context.Canceled)
	unchanged()

	// Nothing is asked: nothing is done.
	for _, none := range [][]Example{nil, {{prompts[0], completions[0], make([]float32, len(completions[0]))}}} {
		u, err := p.Train(t.Context(), none, 1)
		require.NoError(t, err)
		require.Equal(t, Update{Step: 1}, u)
		unchanged()
	}

	// A run without those steps goes the same way.
	q := adapt(t, small(t, 50, Options{}), lora())
	require.NoError(t, q.RestoreFull(before))
	for _, p := range []*Policy{p, q} {
		_, err = p.Train(t.Context(), good, 1)
		require.NoError(t, err)
	}
	a, err := p.FullState()
	require.NoError(t, err)
	b, err := q.FullState()
	require.NoError(t, err)
	require.Equal(t, a, b)
}

func TestExamplesThatCannotBeLearntFromAreNamed(t *testing.T) {
	m := small(t, 50, Options{})
	p := adapt(t, m, lora())
	one := []float32{1}
	for want, e := range map[string]Example{
		"example 1: it has no token":                 {nil, []int32{4}, one},
		"example 1: token 50 is not among":           {Prompt{3}, []int32{50}, one},
		"example 1: 1 coefficients for 2 tokens":     {Prompt{3}, []int32{4, 5}, one},
		"example 1: its 64 tokens and 1 more exceed": {make(Prompt, 64), []int32{4}, one},
	} {
		_, err := p.Train(t.Context(), []Example{{Prompt{3}, []int32{4}, one}, e}, 1)
		require.ErrorContains(t, err, want)
	}
	_, err := p.Train(t.Context(), nil, 0)
	require.ErrorContains(t, err, "temperature 0")
	_, _, err = p.LogProbs(t.Context(), []Prompt{{3}}, nil, 1)
	require.ErrorContains(t, err, "1 prompts and 0 completions")
	_, err = m.Adapt(lora())
	require.ErrorContains(t, err, "it has an adapter already")
}

func TestAdaptersThatMakeNoSenseAreNamed(t *testing.T) {
	m := small(t, 50, Options{})
	for want, spoil := range map[string]func(*LoRA){
		"rank 0":                   func(o *LoRA) { o.Rank = 0 },
		"alpha 0":                  func(o *LoRA) { o.Alpha = 0 },
		"no targets":               func(o *LoRA) { o.Targets = nil },
		`target "head"`:            func(o *LoRA) { o.Targets = []string{"q", "head"} },
		`target "q" is named twic`: func(o *LoRA) { o.Targets = []string{"q", "q"} },
		"learning rate NaN":        func(o *LoRA) { o.LearningRate = math.NaN() },
		"clip norm -1":             func(o *LoRA) { o.ClipNorm = -1 },
		"-1 tokens a pass":         func(o *LoRA) { o.PassTokens = -1 },
	} {
		o := lora()
		spoil(&o)
		_, err := m.Adapt(o)
		require.ErrorContains(t, err, want)
	}
	adapt(t, m, lora())
}

// A is a function of seed and name, spread as PEFT spreads it.
func TestAIsDrawnBySeedAndName(t *testing.T) {
	draw := func(seed uint64, name string) []float32 {
		out := make([]float32, 4096)
		drawA(out, seed, name, 64)
		return out
	}
	a := draw(1, "a")
	require.Equal(t, a, draw(1, "a"))
	require.NotEqual(t, a, draw(1, "b"))
	require.NotEqual(t, a, draw(2, "a"))
	square := 0.0
	for _, v := range a {
		require.LessOrEqual(t, math.Abs(float64(v)), 1./8)
		square += float64(v) * float64(v) / 4096
	}
	require.InEpsilon(t, 1./(3*64), square, 0.1, fmt.Sprint(square))
}
