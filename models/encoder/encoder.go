package encoder

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"seralm/models/tensor"
	"seralm/models/tokenizer"
)

// Encoder is a loaded text encoder. Close it after use. It may be used by several
// goroutines, which take turns.
type Encoder struct {
	config    config
	tokenizer *tokenizer.WordPiece
	version   string
	kind      tensor.Kind
	thread    *tensor.Thread
	weights   map[string]*tensor.Tensor
}

const (
	minTokens = 3 // [CLS], a piece, [SEP]
	// maxTokens of a text, the rest is cut off: what all-MiniLM-L6-v2 is made for.
	maxTokens = 256
	// batchTokens bounds one pass, padding included.
	batchTokens = 4096
)

// Dim is the length of the vectors.
func (e *Encoder) Dim() int { return int(e.config.Dim) }

// Version names what vectors depend on: a hash of weights, configuration and
// tokenizer. Vectors of two versions have nothing to do with each other.
func (e *Encoder) Version() string { return e.version }

// Encode returns one vector of length one for each text; the text may be empty. When
// ctx ends it returns the context's error after the pass that is under way.
func (e *Encoder) Encode(ctx context.Context, texts []string) ([][]float32, error) {
	tokens := make([][]int32, len(texts))
	order := make([]int, len(texts))
	for i, text := range texts {
		tokens[i], order[i] = e.tokenizer.Encode(text, min(maxTokens, int(e.config.Positions))), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(tokens[a]), len(tokens[b])) })
	out := make([][]float32, len(texts))
	for len(order) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("encoding: %w", err)
		}
		// The last of a batch is its longest.
		n := 1
		for n < len(order) && (n+1)*len(tokens[order[n]]) <= batchTokens {
			n++
		}
		batch := make([][]int32, n)
		for i, w := range order[:n] {
			batch[i] = tokens[w]
		}
		err := e.thread.Do(func(s *tensor.Scope) {
			values := s.Values(e.embed(s, batch))
			for i, w := range order[:n] {
				out[w] = slices.Clone(values[i*e.Dim() : (i+1)*e.Dim()])
			}
		})
		if err != nil {
			return nil, fmt.Errorf("encoding %d texts: %w", len(texts), err)
		}
		order = order[n:]
	}
	return out, nil
}

// Close frees the encoder; work that is under way is waited for.
func (e *Encoder) Close() {
	_ = e.thread.Do(func(s *tensor.Scope) {
		for _, t := range e.weights {
			s.Free(t)
		}
	})
	e.thread.Close()
}
