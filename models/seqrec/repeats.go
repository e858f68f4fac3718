package seqrec

import (
	"seralm/models/tensor"
	"seralm/models/vocab"
)

// historyBias is rho [1], what an item's score gains for being in the history that it is
// scored for. Where nobody takes an item twice it becomes negative, where people come
// back to what they know, positive; without it, a model of item vectors scores them high
// in any case, for they are like the history.
const historyBias = "history_bias"

// seen is which items a state's history holds: the candidates at[i] where first[i]; an
// item that comes twice is named once.
type seen struct {
	at    []int64
	first []bool
}

// histories lists what each wanted state of the groups has seen, in their order, rows
// counted from vocab.FirstItem.
func histories(groups []*group) (out []seen) {
	for _, g := range groups {
		all := seen{make([]int64, len(g.ids)), make([]bool, len(g.ids))}
		for row := 0; row < len(g.ids); row += g.width {
			met := map[int64]bool{}
			for i, id := range g.ids[row : row+g.width] {
				if id >= vocab.FirstItem {
					all.at[row+i] = id - vocab.FirstItem
					all.first[row+i] = !met[id]
					met[id] = true
				}
			}
		}
		for _, at := range g.at {
			begin, end := int(at)/g.width*g.width, int(at)+1
			out = append(out, seen{all.at[begin:end], all.first[begin:end]})
		}
	}
	return out
}

// places lays histories out as tensors [n, longest]: candidates, and 1 where one is meant.
func places(s *tensor.Scope, all []seen) (at, is *tensor.Tensor) {
	width := 0
	for _, h := range all {
		width = max(width, len(h.at))
	}
	where, ones := make([]int64, len(all)*width), make([]float32, len(all)*width)
	for i, h := range all {
		copy(where[i*width:], h.at)
		for t, first := range h.first {
			if first {
				ones[i*width+t] = 1
			}
		}
	}
	n := int64(len(all))
	return s.I64(where, n, int64(width)), s.F32(ones, n, int64(width))
}

// rho is the history's bias; 0 of a model that has none.
func (m *Model) rho(s *tensor.Scope) float64 {
	if !m.opts.HistoryBias {
		return 0
	}
	return s.Value(m.params.Get(historyBias))
}

// once is the distinct items of a history.
func once(history []int32) map[int32]bool {
	items := make(map[int32]bool, len(history))
	for _, r := range history {
		items[r] = true
	}
	return items
}
