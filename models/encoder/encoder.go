package encoder

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"seralm/models/tensor"
	"seralm/models/tokenizer"
)

// Encoder is a loaded text encoder. Close it after use. It may be used by several
// goroutines, which take turns.
type Encoder struct {
	config    config
	tokenizer *tokenizer.WordPiece
	files     string // a hash of those it was loaded from
	kind      tensor.Kind
	thread    *tensor.Thread
	weights   map[string]*tensor.Tensor // the frozen ones

	train  string // "", last or full
	adam   tensor.Adam
	mu     sync.RWMutex // held to change params, or to read what must be of one step
	params *tensor.Params
}

// batchTokens bounds one pass, padding included.
const batchTokens = 4096

// Dim is the length of the vectors.
func (e *Encoder) Dim() int { return int(e.config.Dim) }

// Version names what vectors depend on: a hash of weights, configuration and tokenizer
// as they were loaded, the arithmetic if it is not float32, and what has been trained
// since, for how many steps: "0123456789abcdef-bf16-last@12". Vectors of two versions
// must not be compared. It changes with every step: who encodes while another learns asks
// before and after.
func (e *Encoder) Version() string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	v := e.files
	if e.kind != tensor.Float32 {
		v += "-" + e.kind.String()
	}
	if n := e.params.Steps(); n > 0 {
		v += fmt.Sprintf("-%s@%d", e.train, n)
	}
	return v
}

// Encode returns one vector of length one for each text; the text may be empty. They are
// all of one version. When ctx ends it returns the context's error after the pass that
// is under way.
func (e *Encoder) Encode(ctx context.Context, texts []string) ([][]float32, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	out := make([][]float32, len(texts))
	for b := range e.batches(texts, batchTokens) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("encoding: %w", err)
		}
		err := e.thread.Do(func(s *tensor.Scope) {
			values := s.Values(e.embed(s, b.tokens))
			for i, text := range b.texts {
				out[text] = slices.Clone(values[i*e.Dim() : (i+1)*e.Dim()])
			}
		})
		if err != nil {
			return nil, fmt.Errorf("encoding %d texts: %w", len(texts), err)
		}
	}
	return out, nil
}

// Close frees the encoder; work that is under way is waited for.
func (e *Encoder) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.thread.Do(func(s *tensor.Scope) {
		for _, t := range e.weights {
			s.Free(t)
		}
		e.params.Free(s)
	})
	e.thread.Close()
}
