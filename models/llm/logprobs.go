package llm

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"seralm/models/tensor"
)

// LogProbs returns log p(token | prompt, the tokens before) of every token of the
// completions under the policy softmax(logits / temperature). An adapter is on.
func (m *Model) LogProbs(ctx context.Context, prompts []Prompt, completions [][]int32, temperature float64) ([][]float32, error) {
	return m.score(ctx, prompts, completions, temperature, false)
}

// score is LogProbs; bare leaves the adapter out.
func (m *Model) score(ctx context.Context, prompts []Prompt, completions [][]int32, temperature float64, bare bool) ([][]float32, error) {
	if len(prompts) != len(completions) {
		return nil, fmt.Errorf("scoring: %d prompts and %d completions", len(prompts), len(completions))
	}
	if err := checkTemperature(temperature); err != nil {
		return nil, fmt.Errorf("scoring: %w", err)
	}
	for i, p := range prompts {
		err := m.admit(p, len(completions[i]))
		if err = cmp.Or(err, m.known(completions[i])); err != nil {
			return nil, fmt.Errorf("scoring: prompt %d: %w", i, err)
		}
	}
	out := make([][]float32, len(prompts))
	for _, rows := range passes(pack(prompts, completions, m.batch, math.MaxInt), m.batch, math.MaxInt) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("scoring: %w", err)
		}
		err := m.thread.Do(func(s *tensor.Scope) {
			if bare {
				defer m.policy.leaveOut()()
			}
			hidden, targets := m.predictors(s, rows)
			var scores []float32
			for from, n := 0, len(targets); from < n; {
				to := min(n, from+max(1, softmaxElements/m.config.Vocab))
				s.Sub(func(s *tensor.Scope) {
					rows := s.Narrow(hidden, 0, int64(from), int64(to-from))
					scores = append(scores, s.Values(m.logProbs(s, rows, targets[from:to], temperature))...)
				})
				from = to
			}
			for _, r := range rows {
				for i, w := range r.which {
					n := len(r.texts[i])
					out[w], scores = slices.Clone(scores[:n]), scores[n:]
				}
			}
		})
		if err != nil {
			return nil, fmt.Errorf("scoring %d texts: %w", len(prompts), err)
		}
	}
	return out, nil
}

// checkTemperature refuses one that makes no policy with a log-probability.
func checkTemperature(temperature float64) error {
	if !(temperature > 0 && temperature <= 100) {
		return fmt.Errorf("temperature %v: it is above 0 and at most 100", temperature)
	}
	return nil
}

// softmaxElements bounds tokens x vocabulary of one softmax: 128 MiB of float32.
const softmaxElements = 1 << 25

// logProbs returns log p(target) [n] of hidden states [n, d].
func (m *Model) logProbs(s *tensor.Scope, hidden *tensor.Tensor, targets []int64, temperature float64) *tensor.Tensor {
	n := int64(len(targets))
	logp := s.LogSoftmax(s.MulScalar(m.logits(s, hidden), 1/temperature), 1)
	return s.View(s.Gather(logp, 1, s.I64(targets, n, 1)), n)
}
