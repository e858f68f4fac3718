package encoder

import (
	"cmp"
	"iter"
	"slices"
)

const (
	minTokens = 3 // [CLS], a piece, [SEP]
	// maxTokens of a text, the rest is cut off: what all-MiniLM-L6-v2 is made for.
	maxTokens = 256
)

// batch is texts of similar length for one pass.
type batch struct {
	texts  []int // their numbers, those of fewer tokens first
	tokens [][]int32
}

// batches cuts texts into batches of at most budget tokens each, padding included, but
// of one text at least.
func (e *Encoder) batches(texts []string, budget int) iter.Seq[batch] {
	tokens, order := make([][]int32, len(texts)), make([]int, len(texts))
	for i, text := range texts {
		tokens[i], order[i] = e.tokenizer.Encode(text, min(maxTokens, int(e.config.Positions))), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(tokens[a]), len(tokens[b])) })
	return func(yield func(batch) bool) {
		for rest := order; len(rest) > 0; {
			// The last of a batch is its longest.
			n := 1
			for n < len(rest) && (n+1)*len(tokens[rest[n]]) <= budget {
				n++
			}
			b := batch{texts: rest[:n]}
			for _, i := range b.texts {
				b.tokens = append(b.tokens, tokens[i])
			}
			if rest = rest[n:]; !yield(b) {
				return
			}
		}
	}
}
