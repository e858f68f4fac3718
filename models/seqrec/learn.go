package seqrec

import (
	"context"
	"fmt"
	"math"

	"seralm/models/tensor"
	"seralm/models/vocab"
)

// Learn implements Recommender. Of a sequence, a causal architecture learns all new
// positions, any other one of them (see group).
func (m *Model) Learn(_ context.Context, batch []Sequence, step uint64) (Loss, error) {
	groups, targets, err := m.prepare(batch, step)
	if err != nil {
		return Loss{}, fmt.Errorf("%s: %w", m.hyper.Name, err)
	}
	n := len(targets)
	if n == 0 {
		return Loss{}, nil
	}
	var drawn candidates
	if m.opts.Negatives > 0 {
		drawn = sample(groups, targets, m.rows-vocab.FirstItem, m.opts.Negatives, mix(m.opts.Seed, step))
		drawn.rename(groups, targets)
	}
	var loss answer
	var norm float64
	err = m.thread.Do(func(s *tensor.Scope) {
		s.Seed(mix(m.opts.Seed, step))
		var items, table, hidden, penalty *tensor.Tensor
		s.Grad(func() {
			items = m.items(s, m.opts.IDDropout, drawn.rows)
			if table = items; m.knowledge != nil || drawn.rows != nil {
				// What histories and candidates do to the rows meets here, and goes on
				// to the parameters in one pass.
				table = s.Leaf(items)
			}
			var parts []*tensor.Tensor
			for _, g := range groups {
				parts = append(parts, m.encode(s, table, g, m.opts.Dropout))
			}
			hidden = s.Cat(0, parts...)
			if e, ok := m.encoder.(penalised); ok {
				penalty = e.penalty(pass{Scope: s, params: m.params})
			}
		})
		q := question{items: realItems(s, table), hidden: hidden, targets: targets, logWeights: drawn.logWeights(s), rho: m.rho(s)}
		if m.opts.HistoryBias {
			q.seen = histories(groups)
		}
		loss = crossEntropy(s, q)
		if !finite(loss.nll) {
			return
		}
		outputs, gradients := []*tensor.Tensor{hidden}, []*tensor.Tensor{loss.hidden}
		if penalty != nil {
			outputs, gradients = append(outputs, penalty), append(gradients, s.Full(1, tensor.Float32, 1))
		}
		if m.opts.HistoryBias {
			outputs, gradients = append(outputs, m.params.Get(historyBias)), append(gradients, s.Full(loss.rho, tensor.Float32, 1))
		}
		s.BackwardFrom(outputs, gradients)
		byTable := s.Gradient(table)
		s.AddInPlace(realItems(s, byTable), loss.items)
		if table != items {
			s.BackwardFrom([]*tensor.Tensor{items}, []*tensor.Tensor{byTable})
		}
		adam := tensor.DefaultAdam(m.opts.LearningRate)
		adam.ClipNorm = m.opts.ClipNorm
		norm = m.params.Step(s, adam)
	})
	switch {
	case err != nil:
		return Loss{}, fmt.Errorf("%s: learning from %d sequences: %w", m.hyper.Name, len(batch), err)
	case !finite(loss.nll):
		return Loss{}, &NumericError{What: "loss", Value: loss.nll, Step: step}
	case !finite(norm):
		return Loss{}, &NumericError{What: "gradient norm", Value: norm, Step: step}
	}
	return Loss{NLL: loss.nll, Targets: n}, nil
}

// realItems are the rows of a table that can be targets.
func realItems(s *tensor.Scope, table *tensor.Tensor) *tensor.Tensor {
	return s.Narrow(table, 0, vocab.FirstItem, table.Dim(0)-vocab.FirstItem)
}

// encode returns the hidden states [n, d] at the positions that g names, of histories
// read with a table of items.
func (m *Model) encode(s *tensor.Scope, table *tensor.Tensor, g *group, dropout float64) *tensor.Tensor {
	ids := s.I64(g.ids, int64(g.rows), int64(g.width))
	x := s.Embedding(table, ids)
	if !m.encoder.causal() {
		x = s.Mul(x, s.Unsqueeze(g.present(s), 2))
	}
	return m.encoder.encode(pass{s, m.params, dropout}, x, g.at)
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
