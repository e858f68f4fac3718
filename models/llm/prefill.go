package llm

import (
	"slices"

	"seralm/models/tensor"
)

// worthSharing is how many tokens a pass of its own over the model must save. (It
// costs as much as some dozens of tokens in a batch.)
const worthSharing = 256

// prefill computes the prompts and returns the logits [B, V] after each, and the
// cache with room for more tokens. A prompt that occurs several times is computed
// once, and so is what all begin with: the instructions.
func (m *Model) prefill(s *tensor.Scope, prompts []Prompt, which []int, more int) (logits *tensor.Tensor, c *cache) {
	var distinct [][]int32
	rows := make([]int64, len(which))
	width := 0
	for b, w := range which {
		if n := len(distinct); n == 0 || !slices.Equal(distinct[n-1], prompts[w]) {
			distinct = append(distinct, prompts[w])
		}
		rows[b] = int64(len(distinct) - 1)
		width = max(width, len(prompts[w]))
	}
	capacity := width + more - 1
	if shared := commonPrefix(distinct); shared*(len(distinct)-1) >= worthSharing {
		c = m.newCache(s, 1, capacity)
		s.Sub(func(s *tensor.Scope) { m.extend(s, [][]int32{distinct[0][:shared]}, c) })
		c.pick(s, make([]int64, len(distinct)))
		for i := range distinct {
			distinct[i] = distinct[i][shared:]
		}
	} else {
		c = m.newCache(s, len(distinct), capacity)
	}
	logits = s.Only(func(s *tensor.Scope) *tensor.Tensor { return m.logits(s, m.extend(s, distinct, c)) })
	if len(distinct) < len(rows) {
		logits = s.IndexSelect(logits, 0, s.I64(rows, int64(len(rows))))
		c.pick(s, rows)
	}
	return logits, c
}

// commonPrefix is how many tokens all begin with, at least one less than each has.
func commonPrefix(all [][]int32) int {
	n := len(all[0]) - 1
	for _, p := range all[1:] {
		n = min(n, len(p)-1)
		for i := range n {
			if p[i] != all[0][i] {
				n = i
				break
			}
		}
	}
	return n
}

// extend computes the first tokens of each row that differ, padded on the left so
// that all end in one column, and returns the hidden states [B, d] of that column.
func (m *Model) extend(s *tensor.Scope, rows [][]int32, c *cache) *tensor.Tensor {
	width := 0
	for _, p := range rows {
		width = max(width, len(p))
	}
	c.padFrom, c.pad = int(c.length), make([]int, len(rows))
	ids, positions := make([]int64, len(rows)*width), make([]int, len(rows)*width)
	for b, p := range rows {
		c.pad[b] = width - len(p)
		for i, id := range p {
			at := b*width + c.pad[b] + i
			ids[at], positions[at] = int64(id), c.padFrom+i
		}
	}
	in := input{ids: s.I64(ids, int64(len(rows)), int64(width)), mask: m.causal(s, c.padFrom, c.pad, width)}
	in.cos, in.sin = m.angles(s, positions, len(rows), width)
	return s.Select(m.hidden(s, in, c), 1, int64(width-1))
}

// causal is the mask [B, 1, G*T, from+T] of T tokens after the first from: a token
// sees those first ones, the T up to itself, and no padding. Padding sees itself,
// for a softmax over nothing is not a number.
func (m *Model) causal(s *tensor.Scope, from int, pad []int, t int) *tensor.Tensor {
	group := m.config.Heads / m.config.KVHeads
	mask := make([]bool, 0, len(pad)*group*t*(from+t))
	for _, p := range pad {
		one := make([]bool, t*(from+t))
		for i := range t {
			row := one[i*(from+t) : (i+1)*(from+t)]
			for j := range row {
				row[j] = j < from || from+p <= j && j <= from+i || j == from+i
			}
		}
		for range group {
			mask = append(mask, one...)
		}
	}
	return s.Bool(mask, int64(len(pad)), 1, int64(group*t), int64(from+t))
}

// step computes the logits [B, V] after one more token per row.
func (m *Model) step(s *tensor.Scope, next []int64, c *cache) *tensor.Tensor {
	rows, seen := len(next), int(c.length)+1
	mask, positions := make([]bool, rows*seen), make([]int, rows)
	for b, p := range c.pad {
		positions[b] = int(c.length) - p
		for j := range seen {
			mask[b*seen+j] = j < c.padFrom || j >= c.padFrom+p
		}
	}
	in := input{ids: s.I64(next, int64(rows), 1), mask: s.Bool(mask, int64(rows), 1, 1, int64(seen))}
	in.cos, in.sin = m.angles(s, positions, rows, 1)
	return m.logits(s, s.Select(m.hidden(s, in, c), 1, 0))
}
