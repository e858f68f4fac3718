package llm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"seralm/models/tensor"
)

// Policy is a model with an adapter that learns. The model's own methods compute with
// the adapter on: Generate samples the policy. The reference is the same weights with
// the adapter off. It ends with its model.
type Policy struct {
	model  *Model
	lora   LoRA
	params *tensor.Params
	bare   bool // the adapter is left out; on the model's thread only
}

// Adapt gives the model an adapter, once.
func (m *Model) Adapt(o LoRA) (*Policy, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("adapting the language model: %w", err)
	}
	if o.PassTokens == 0 {
		o.PassTokens = defaultPassTokens
	}
	p := &Policy{model: m, lora: o, params: tensor.NewParams()}
	var err error
	opErr := m.thread.Do(func(s *tensor.Scope) {
		if m.policy != nil {
			err = errors.New("it has an adapter already")
			return
		}
		m.policy = p
		for _, t := range p.tensors() {
			values := make([]float32, size(t.shape))
			if strings.HasSuffix(t.name, partA) {
				drawA(values, o.Seed, t.name, t.shape[1])
			}
			p.params.Add(s, t.name, values, t.shape...)
		}
		for _, l := range m.adapts(o) {
			l.linear.delta = &delta{p, l.name}
		}
	})
	if err = cmp.Or(opErr, err); err != nil {
		return nil, fmt.Errorf("adapting the language model: %w", err)
	}
	return p, nil
}

// leaveOut leaves the adapter out until the function it returns is called.
func (p *Policy) leaveOut() (back func()) {
	p.bare = true
	return func() { p.bare = false }
}

// Steps counts the updates made.
func (p *Policy) Steps() (n int64) {
	_ = p.model.thread.Do(func(*tensor.Scope) { n = p.params.Steps() })
	return n
}

// LogProbs returns what Model.LogProbs does under the policy and under the reference,
// by the same computation as Train's. The log-probabilities that sampling leaves behind
// are not to be learnt from: in bfloat16 a token at a time comes out up to 0.2 nats off.
// So does, now and then, a text beside others (0.06 in the root mean square): what is
// to be the same to the bit has to be scored in the same company.
func (p *Policy) LogProbs(ctx context.Context, prompts []Prompt, completions [][]int32, temperature float64) (policy, reference [][]float32, err error) {
	if policy, err = p.model.score(ctx, prompts, completions, temperature, false); err != nil {
		return nil, nil, err
	}
	if reference, err = p.model.score(ctx, prompts, completions, temperature, true); err != nil {
		return nil, nil, err
	}
	return policy, reference, nil
}

// Example is a text and what it asks of the policy.
type Example struct {
	Prompt Prompt
	Tokens []int32
	// Coefficients of grad log pi(token), one for each token: see package align.
	Coefficients []float32
}

// Update is the outcome of a step, measured before it.
type Update struct {
	Objective float64 // sum of coefficients times log pi
	Norm      float64 // of its gradient, before clipping
	Step      int64   // updates made, with this one
}

// NumericError says that something in a step was not finite. The step was not taken:
// the adapter is as before.
type NumericError struct {
	What  string
	Value float64
	Step  int64 // that was not taken
}

func (e *NumericError) Error() string {
	return fmt.Sprintf("policy step %d: %s is %v", e.Step, e.What, e.Value)
}

// Train makes one step of Adam up the gradient of
//
//	sum over examples and tokens of coefficient * log pi(token | prompt, tokens before)
//
// with pi = softmax(logits / temperature). Texts whose coefficients are all zero cost
// nothing; if all are, no step is taken. On an error, ctx's too, no step is taken either.
func (p *Policy) Train(ctx context.Context, examples []Example, temperature float64) (Update, error) {
	fail := func(err error) (Update, error) { return Update{}, fmt.Errorf("training the policy: %w", err) }
	if err := checkTemperature(temperature); err != nil {
		return fail(err)
	}
	passes, err := p.divide(examples)
	if err != nil {
		return fail(err)
	}
	var u Update
	opErr := p.model.thread.Do(func(s *tensor.Scope) {
		p.params.ClearGradients(s) // of a step that ended early
		for _, pass := range passes {
			if err = ctx.Err(); err != nil {
				return
			}
			s.Sub(func(s *tensor.Scope) { u.Objective += p.accumulate(s, pass, examples, temperature) })
			if !finite(u.Objective) {
				err = &NumericError{"objective", u.Objective, p.params.Steps() + 1}
				return
			}
		}
		adam := tensor.DefaultAdam(p.lora.LearningRate)
		adam.ClipNorm = p.lora.ClipNorm
		if len(passes) > 0 {
			if u.Norm = p.params.Step(s, adam); !finite(u.Norm) {
				err = &NumericError{"gradient norm", u.Norm, p.params.Steps() + 1}
			}
		}
		u.Step = p.params.Steps()
	})
	if err = cmp.Or(opErr, err); err != nil {
		return fail(err)
	}
	return u, nil
}

// divide checks the examples and divides those that ask for something into passes.
func (p *Policy) divide(examples []Example) ([][]row, error) {
	var prompts []Prompt
	var texts [][]int32
	var which []int
	for i, e := range examples {
		err := p.model.admit(e.Prompt, len(e.Tokens))
		if err = cmp.Or(err, p.model.known(e.Tokens)); err != nil {
			return nil, fmt.Errorf("example %d: %w", i, err)
		}
		if len(e.Coefficients) != len(e.Tokens) {
			return nil, fmt.Errorf("example %d: %d coefficients for %d tokens", i, len(e.Coefficients), len(e.Tokens))
		}
		for t, c := range e.Coefficients {
			if !finite(float64(c)) {
				return nil, &NumericError{fmt.Sprintf("example %d: coefficient of token %d", i, t), float64(c), p.Steps() + 1}
			}
		}
		if slices.ContainsFunc(e.Coefficients, func(c float32) bool { return c != 0 }) {
			prompts, texts, which = append(prompts, e.Prompt), append(texts, e.Tokens), append(which, i)
		}
	}
	rows := pack(prompts, texts, math.MaxInt, p.lora.PassTokens)
	for _, r := range rows {
		for i, w := range r.which {
			r.which[i] = which[w]
		}
	}
	return passes(rows, math.MaxInt, p.lora.PassTokens), nil
}

// accumulate adds the gradient of -objective of a pass's examples to the parameters' own and
// returns the objective.
func (p *Policy) accumulate(s *tensor.Scope, pass []row, examples []Example, temperature float64) (objective float64) {
	m := p.model
	var coefficients []float32
	for _, r := range pass {
		for _, w := range r.which {
			coefficients = append(coefficients, examples[w].Coefficients...)
		}
	}
	var hidden *tensor.Tensor
	var targets []int64
	s.Grad(func() { hidden, targets = m.predictors(s, pass) })
	// The softmax over the vocabulary goes back to the hidden states in parts: of all
	// tokens at once it would hold more than the model.
	leaf := s.Leaf(hidden)
	for from, n := 0, len(targets); from < n; {
		to := min(n, from+max(1, softmaxElements/m.config.Vocab))
		s.Sub(func(s *tensor.Scope) {
			var loss *tensor.Tensor
			s.Grad(func() {
				logp := m.logProbs(s, s.Narrow(leaf, 0, int64(from), int64(to-from)), targets[from:to], temperature)
				loss = s.Neg(s.Sum(s.Mul(logp, s.F32(coefficients[from:to], int64(to-from)))))
				s.Backward(loss)
			})
			objective -= s.Value(loss)
		})
		from = to
	}
	if finite(objective) {
		s.BackwardFrom([]*tensor.Tensor{hidden}, []*tensor.Tensor{s.Gradient(leaf)})
	}
	return objective
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
