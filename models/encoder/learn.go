package encoder

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"seralm/models/tensor"
)

// What is trained, as Options.Train spells it.
const (
	last = "last"
	full = "full"
)

// learnTokens bounds one pass of a step, padding included: what the pass leaves for its
// gradient is some 180 kB a token of all-MiniLM-L6-v2.
const learnTokens = 1024

var errFrozen = errors.New("encoder: it is frozen: load it with Options.Train last or full to train it")

// NumericError says that the gradient's norm was not finite. The step was not taken: the
// weights are as before.
type NumericError struct {
	Norm float64
	Step int64 // that it would have been, counted from 1
}

func (e *NumericError) Error() string {
	return fmt.Sprintf("encoder: step %d: the gradient's norm is %v", e.Step, e.Norm)
}

// trains reports whether a weight is trained.
func (e *Encoder) trains(name string) bool {
	return e.train == full || e.train == last && strings.HasPrefix(name, layerName(e.config.Layers-1, ""))
}

// Learn makes one step of Adam down the sum over i of <gradients[i], vector(texts[i])>:
// down a loss whose gradient by the vector of text i is gradients[i]. norm is that of the
// gradient by the weights, before clipping. When ctx ends, or the norm is not finite (a
// *NumericError), no step is taken.
//
// Together with a recommender that trains (the paper's section 4.3) this is its loss's
// gradient going on into the encoder by the chain rule, without one graph for both
// models: what of the loss depends on the encoder goes through the vectors.
//
// There is no dropout. The gradient holds at the vectors that the loss was computed with,
// which Encode made; dropout would make others of the same texts, and carry the gradient
// back from where it was not taken.
func (e *Encoder) Learn(ctx context.Context, texts []string, gradients [][]float32) (norm float64, err error) {
	if e.train == "" {
		return 0, errFrozen
	}
	if len(texts) != len(gradients) {
		return 0, fmt.Errorf("encoder: %d gradients for %d texts", len(gradients), len(texts))
	}
	for i, g := range gradients {
		if len(g) != e.Dim() {
			return 0, fmt.Errorf("encoder: text %d: a gradient of %d numbers, vectors have %d", i, len(g), e.Dim())
		}
	}
	if len(texts) == 0 {
		return 0, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var ended error
	err = e.thread.Do(func(s *tensor.Scope) {
		if ended = e.backward(ctx, s, texts, gradients, learnTokens); ended == nil {
			norm = e.params.Step(s, e.adam)
		}
	})
	switch err = errors.Join(err, ended); {
	case err != nil:
		return 0, fmt.Errorf("encoder: learning from %d texts: %w", len(texts), err)
	case math.IsNaN(norm) || math.IsInf(norm, 0):
		return norm, &NumericError{Norm: norm, Step: e.params.Steps() + 1}
	}
	return norm, nil
}

// backward leaves the gradients of a step in params, added up over passes of at most
// budget tokens.
func (e *Encoder) backward(ctx context.Context, s *tensor.Scope, texts []string, gradients [][]float32, budget int) error {
	e.params.ClearGradients(s) // those of a step that failed halfway
	for b := range e.batches(texts, budget) {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.Sub(func(s *tensor.Scope) {
			var byVector []float32
			for _, text := range b.texts {
				byVector = append(byVector, gradients[text]...)
			}
			var vectors *tensor.Tensor
			s.Grad(func() { vectors = e.embed(s, b.tokens) })
			s.BackwardFrom([]*tensor.Tensor{vectors}, []*tensor.Tensor{s.F32(byVector, int64(len(b.texts)), e.config.Dim)})
		})
	}
	return nil
}
