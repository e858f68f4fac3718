package llm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"seralm/models/tensor"
)

// Prompt is what a text goes on from, as tokens: see Chat and Text.
type Prompt []int32

// Sampling says how tokens are chosen.
type Sampling struct {
	// Temperature tau of the policy softmax(logits / tau). 0 takes the most probable
	// token.
	Temperature float64
	// TopP below 1 samples among the fewest tokens whose probabilities sum to at
	// least it; 0 is 1. For serving only: what is sampled is then not the policy.
	TopP float64
	// MaxTokens of a completion, its last token included.
	MaxTokens int
	// Seed: a completion is a function of it, of the prompt and of the prompt's place
	// in the list, and not of the batch that it was computed in (but for rounding).
	Seed uint64
}

func (o Sampling) validate() error {
	switch {
	case !(o.Temperature >= 0 && o.Temperature <= 100):
		return fmt.Errorf("temperature %v: it is 0 to 100", o.Temperature)
	case !(o.TopP >= 0 && o.TopP <= 1):
		return fmt.Errorf("top-p %v: it is above 0 and at most 1", o.TopP)
	case o.MaxTokens < 1:
		return fmt.Errorf("at most %d tokens: it is 1 or more", o.MaxTokens)
	}
	return nil
}

// Finish is why a completion ended.
type Finish string

// Reasons.
const (
	Stop   Finish = "stop"   // the model ended its text; its last token says so
	Length Finish = "length" // MaxTokens were made
)

// Completion is one sampled text.
type Completion struct {
	Tokens []int32 // with the token that ended it
	Text   string  // without
	// LogProbs of each token under the policy, whatever TopP is. At temperature 0 they
	// are those of temperature 1.
	LogProbs []float32
	Finish   Finish
}

// Generate samples one completion for each prompt; for several of one prompt, repeat
// it (it is computed once). When ctx ends it returns the context's error at the next
// token.
func (m *Model) Generate(ctx context.Context, prompts []Prompt, o Sampling) ([]Completion, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("generating: %w", err)
	}
	order := make([]int, len(prompts))
	for i, p := range prompts {
		if err := m.admit(p, o.MaxTokens); err != nil {
			return nil, fmt.Errorf("generating: prompt %d: %w", i, err)
		}
		order[i] = i
	}
	// Prompts of a length share a batch, to pad little; equal ones stand together.
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(len(prompts[a]), len(prompts[b])), slices.Compare(prompts[a], prompts[b]))
	})
	out := make([]Completion, len(prompts))
	for batch := range slices.Chunk(order, m.batch) {
		var err error
		opErr := m.thread.Do(func(s *tensor.Scope) { err = m.generate(ctx, s, prompts, batch, o, out) })
		if err = cmp.Or(opErr, err); err != nil {
			return nil, fmt.Errorf("generating %d texts: %w", len(prompts), err)
		}
	}
	return out, nil
}

// admit checks that a sequence can be computed.
func (m *Model) admit(p Prompt, more int) error {
	if len(p) == 0 {
		return fmt.Errorf("it has no token")
	}
	if more > m.config.Context-len(p) {
		return fmt.Errorf("its %d tokens and %d more exceed the model's context of %d: shorten it or ask for fewer", len(p), more, m.config.Context)
	}
	return m.known(p)
}

func (m *Model) known(tokens []int32) error {
	for _, id := range tokens {
		if id < 0 || int(id) >= m.config.Vocab {
			return fmt.Errorf("token %d is not among the model's %d", id, m.config.Vocab)
		}
	}
	return nil
}

// generate samples the completions of one batch: which lists its prompts.
func (m *Model) generate(ctx context.Context, s *tensor.Scope, prompts []Prompt, which []int, o Sampling, out []Completion) error {
	logits, c := m.prefill(s, prompts, which, o.MaxTokens)
	rows := len(which)
	tokens := make([][]int32, rows)
	logProbs := make([][]float32, rows)
	ended := make([]bool, rows)
	running := rows
	next := make([]int64, rows)
	for step := 0; ; step++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.Sub(func(s *tensor.Scope) {
			if step > 0 {
				logits = m.step(s, next, c)
			}
			var chosen []float32
			next, chosen = choose(s, logits, o, draws(o.Seed, which, step))
			for b, id := range next {
				if ended[b] { // computed along, for nobody
					continue
				}
				tokens[b], logProbs[b] = append(tokens[b], int32(id)), append(logProbs[b], chosen[b])
				stop := slices.Contains(m.stop, int32(id))
				if stop || len(tokens[b]) == o.MaxTokens {
					ended[b] = true
					running--
					out[which[b]] = m.completion(tokens[b], logProbs[b], stop)
				}
			}
		})
		if running == 0 {
			return nil
		}
	}
}

func (m *Model) completion(tokens []int32, logProbs []float32, stop bool) Completion {
	c := Completion{Tokens: tokens, LogProbs: logProbs, Finish: Length}
	if stop {
		c.Finish = Stop
		tokens = tokens[:len(tokens)-1]
	}
	// MaxTokens may fall within a character.
	c.Text = strings.ToValidUTF8(m.tokenizer.Decode(tokens), "")
	return c
}
