package seqrec

import (
	"context"
	"fmt"
	"math"
	"sort"

	"seralm/models/tensor"
	"seralm/models/vocab"
)

// scoreRows bounds the histories scored in one pass.
const scoreRows = 256

// Scores implements Recommender.
func (m *Model) Scores(_ context.Context, histories [][]int32) ([][]float32, error) {
	out := make([][]float32, len(histories))
	order := make([]int, len(histories))
	for i, h := range histories {
		if len(h) == 0 {
			return nil, fmt.Errorf("%s: history %d is empty", m.hyper.Name, i)
		}
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return len(histories[order[a]]) < len(histories[order[b]]) })
	err := m.thread.Do(func(s *tensor.Scope) {
		table := m.items(s, 0, nil)
		for len(order) > 0 {
			some := order[:min(len(order), scoreRows)]
			order = order[len(some):]
			s.Sub(func(s *tensor.Scope) { m.score(s, table, histories, some, out) })
		}
	})
	if err != nil {
		return nil, fmt.Errorf("%s: scoring %d histories: %w", m.hyper.Name, len(histories), err)
	}
	return out, nil
}

// score fills out for the histories that which names, the longest of them last.
func (m *Model) score(s *tensor.Scope, table *tensor.Tensor, histories [][]int32, which []int, out [][]float32) {
	var kept [][]int32
	for _, w := range which {
		h := histories[w]
		kept = append(kept, h[max(0, len(h)-m.hyper.MaxLen):])
	}
	width := m.hyper.MaxLen
	if m.encoder.causal() {
		width = len(kept[len(kept)-1])
	}
	users := m.encode(s, table, groupOf(kept, width), 0)
	rho := float32(m.rho(s))
	scores := s.Values(s.Matmul(users, s.Transpose(table, 0, 1)))
	for i, w := range which {
		row := scores[i*m.rows : (i+1)*m.rows : (i+1)*m.rows]
		if m.opts.HistoryBias {
			for item := range once(kept[i]) {
				row[item] += rho
			}
		}
		row[vocab.Padding], row[vocab.Unknown] = negInf, negInf
		out[w] = row
	}
}

var negInf = float32(math.Inf(-1))
