package llm

import (
	"cmp"
	"slices"

	"seralm/models/tensor"
)

// row is a prompt and texts that go on from it, one after the other in one sequence: the
// prompt is computed once for all of them, and no text sees another.
type row struct {
	prompt Prompt
	texts  [][]int32
	which  []int // the texts' numbers in the list that they come from
}

// width is how many tokens go through the model: the last of a text is only scored.
func (r row) width() int {
	n := len(r.prompt)
	for _, text := range r.texts {
		n += max(0, len(text)-1)
	}
	return n
}

// packedWidth bounds a row of several texts: what a token looks at grows with it.
const packedWidth = 512

// pack puts texts that go on from one prompt side by side: at most so many in a row, and
// at most so many tokens, if they are several. The narrowest row is first.
func pack(prompts []Prompt, texts [][]int32, most, tokens int) (rows []row) {
	order := make([]int, len(prompts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(slices.Compare(prompts[a], prompts[b]), cmp.Compare(len(texts[a]), len(texts[b])))
	})
	for _, i := range order {
		if n := len(rows) - 1; n >= 0 && slices.Equal(rows[n].prompt, prompts[i]) && len(rows[n].texts) < most &&
			rows[n].width()+len(texts[i])-1 <= min(tokens, packedWidth) {
			rows[n].texts, rows[n].which = append(rows[n].texts, texts[i]), append(rows[n].which, i)
		} else {
			rows = append(rows, row{prompts[i], [][]int32{texts[i]}, []int{i}})
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.width(), b.width()) })
	return rows
}

// passes divides rows, the narrowest first, into passes of at most so many texts and so
// many tokens, padding included, or of one row.
func passes(rows []row, texts, tokens int) (out [][]row) {
	filled := 0
	for _, r := range rows {
		if n := len(out) - 1; n >= 0 && filled+len(r.texts) <= texts && (len(out[n])+1)*r.width() <= tokens {
			out[n] = append(out[n], r)
			filled += len(r.texts)
		} else {
			out = append(out, []row{r})
			filled = len(r.texts)
		}
	}
	return out
}

// predictors computes rows in one pass, padded on the right, where no token sees the
// padding. It returns the hidden states [n, d] that predict the tokens of the texts, one
// text after the other, and those tokens. Gradients flow through both this and logProbs.
func (m *Model) predictors(s *tensor.Scope, rows []row) (hidden *tensor.Tensor, targets []int64) {
	width, single := 1, true
	for _, r := range rows {
		width, single = max(width, r.width()), single && len(r.texts) == 1
	}
	ids, positions := make([]int64, len(rows)*width), make([]int, len(rows)*width)
	starts := make([][]int, len(rows)) // of the texts in a row
	var at []int64
	for b, r := range rows {
		ids, positions := ids[b*width:(b+1)*width], positions[b*width:(b+1)*width]
		for i := range positions { // and of the padding, for which any would do
			positions[i] = i
		}
		for i, id := range r.prompt {
			ids[i] = int64(id)
		}
		next := len(r.prompt)
		for _, text := range r.texts {
			starts[b] = append(starts[b], next)
			predictor := len(r.prompt) - 1
			for i, id := range text {
				at, targets = append(at, int64(b*width+predictor)), append(targets, int64(id))
				if i < len(text)-1 {
					ids[next], positions[next] = int64(id), len(r.prompt)+i
					predictor = next
					next++
				}
			}
		}
	}
	in := input{ids: s.I64(ids, int64(len(rows)), int64(width))}
	if single { // all rows are alike
		in.mask = m.causal(s, 0, []int{0}, width)
		in.cos, in.sin = m.angles(s, positions[:width], 1, width)
	} else {
		in.mask = m.sideBySide(s, rows, starts, width)
		in.cos, in.sin = m.angles(s, positions, len(rows), width)
	}
	all := s.View(m.hidden(s, in, nil), int64(len(ids)), int64(m.config.Dim))
	return s.IndexSelect(all, 0, s.I64(at, int64(len(at)))), targets
}

// sideBySide is the mask [B, 1, G*T, T] of rows whose texts begin at starts: a token sees
// the prompt and its own text, as far as itself.
func (m *Model) sideBySide(s *tensor.Scope, rows []row, starts [][]int, t int) *tensor.Tensor {
	group := m.config.Heads / m.config.KVHeads
	mask := make([]bool, 0, len(rows)*group*t*t)
	for b, r := range rows {
		one := make([]bool, t*t)
		prompt, text, start := len(r.prompt), 0, 0 // start of the text that token i is in
		for i := range t {
			for text < len(starts[b]) && starts[b][text] <= i {
				start = starts[b][text]
				text++
			}
			for j := 0; j <= i; j++ {
				one[i*t+j] = j < prompt || j >= start
			}
		}
		for range group {
			mask = append(mask, one...)
		}
	}
	return s.Bool(mask, int64(len(rows)), 1, int64(group*t), int64(t))
}
