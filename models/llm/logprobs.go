package llm

import (
	"cmp"
	"context"
	"fmt"
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
	order := make([]int, len(prompts))
	sequences := make([]sequence, len(prompts))
	for i, p := range prompts {
		err := m.admit(p, len(completions[i]))
		if err = cmp.Or(err, m.known(completions[i])); err != nil {
			return nil, fmt.Errorf("scoring: prompt %d: %w", i, err)
		}
		order[i], sequences[i] = i, sequence{p, completions[i]}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(sequences[a].length(), sequences[b].length()) })
	out := make([][]float32, len(prompts))
	for batch := range slices.Chunk(order, m.batch) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("scoring: %w", err)
		}
		some := make([]sequence, len(batch))
		for i, w := range batch {
			some[i] = sequences[w]
		}
		err := m.thread.Do(func(s *tensor.Scope) {
			if bare {
				defer m.policy.leaveOut()()
			}
			hidden, targets := m.predictors(s, some)
			var scores []float32
			for from, n := 0, len(targets); from < n; {
				to := min(n, from+max(1, softmaxElements/m.config.Vocab))
				s.Sub(func(s *tensor.Scope) {
					rows := s.Narrow(hidden, 0, int64(from), int64(to-from))
					scores = append(scores, s.Values(m.logProbs(s, rows, targets[from:to], temperature))...)
				})
				from = to
			}
			for i, w := range batch {
				n := len(some[i].completion)
				out[w], scores = slices.Clone(scores[:n]), scores[n:]
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

// sequence is a prompt and the tokens that are scored after it.
type sequence struct {
	prompt     Prompt
	completion []int32
}

// length is the number of tokens that go through the model: the last is only scored.
func (q sequence) length() int { return len(q.prompt) + len(q.completion) - 1 }

// predictors computes the sequences in one pass, padded on the right, where no token
// sees the padding. It returns the hidden states [n, d] that predict the tokens of
// the completions, one sequence after the other, and those tokens. Gradients flow
// through both this and logProbs.
func (m *Model) predictors(s *tensor.Scope, batch []sequence) (hidden *tensor.Tensor, targets []int64) {
	width := 1
	for _, q := range batch {
		width = max(width, q.length())
	}
	ids, positions := make([]int64, len(batch)*width), make([]int, width)
	for i := range positions {
		positions[i] = i
	}
	var at []int64
	for b, q := range batch {
		for i, id := range slices.Concat(q.prompt, q.completion) {
			if i < width { // the longest sequence's last token is only scored
				ids[b*width+i] = int64(id)
			}
			if i >= len(q.prompt) {
				at, targets = append(at, int64(b*width+i-1)), append(targets, int64(id))
			}
		}
	}
	in := input{ids: s.I64(ids, int64(len(batch)), int64(width)), mask: m.causal(s, 0, []int{0}, width)}
	in.cos, in.sin = m.angles(s, positions, 1, width)
	all := s.View(m.hidden(s, in, nil), int64(len(ids)), int64(m.config.Dim))
	return s.IndexSelect(all, 0, s.I64(at, int64(len(at)))), targets
}

// logProbs returns log p(target) [n] of hidden states [n, d].
func (m *Model) logProbs(s *tensor.Scope, hidden *tensor.Tensor, targets []int64, temperature float64) *tensor.Tensor {
	n := int64(len(targets))
	logp := s.LogSoftmax(s.MulScalar(m.logits(s, hidden), 1/temperature), 1)
	return s.View(s.Gather(logp, 1, s.I64(targets, n, 1)), n)
}
