package tensor

// #include "adam.h"
import "C"

import (
	"math"

	lib "github.com/sugarme/gotch/libtch"
)

// Adam holds the optimiser's settings (Kingma and Ba, 2015; PyTorch's defaults
// for the betas and eps). WeightDecay is decoupled (AdamW).
type Adam struct {
	LearningRate, WeightDecay float64
	Beta1, Beta2, Eps         float64
	ClipNorm                  float64 // of the global gradient; 0 = off
}

// DefaultAdam returns PyTorch's defaults at a learning rate.
func DefaultAdam(rate float64) Adam {
	return Adam{LearningRate: rate, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
}

// learning is a parameter with its gradient.
type learning struct {
	*param
	g *Tensor
}

// Step makes one update from the gradients that Backward left, and clears them.
// norm is the global gradient norm before clipping. If it is not finite no
// parameter and no moment changes.
func (p *Params) Step(s *Scope, o Adam) (norm float64) {
	var all []learning
	for _, name := range p.names {
		q := p.byName[name]
		if g := s.Gradient(q.value); g != nil {
			all = append(all, learning{q, g})
			norm += squares(s, g)
		}
	}
	norm = math.Sqrt(norm)
	if len(all) == 0 || math.IsNaN(norm) || math.IsInf(norm, 0) {
		p.ClearGradients(s)
		return norm
	}
	p.step++
	scale := 1.0
	if o.ClipNorm > 0 && norm > o.ClipNorm {
		scale = o.ClipNorm / norm
	}
	for _, l := range all {
		l.update(s, o, p.step, scale)
	}
	return norm
}

// squares is the sum of a gradient's.
func squares(s *Scope, g *Tensor) float64 {
	if !s.inMemory(g) {
		return s.Value(s.Sum(s.Square(g)))
	}
	return float64(C.adam_squares(floats(g), C.size_t(g.Numel())))
}

// update moves the parameter and clears its gradient.
func (l learning) update(s *Scope, o Adam, step int64, scale float64) {
	t := float64(step)
	correction1, correction2 := 1-math.Pow(o.Beta1, t), 1-math.Pow(o.Beta2, t)
	rate, root, decay := o.LearningRate/correction1, 1/math.Sqrt(correction2), o.LearningRate*o.WeightDecay
	if s.inMemory(l.value, l.m, l.v, l.g) {
		C.adam_update(floats(l.value), floats(l.m), floats(l.v), floats(l.g), C.size_t(l.g.Numel()), C.adam_step{
			scale: C.float(scale), beta1: C.float(o.Beta1), beta2: C.float(o.Beta2), eps: C.float(o.Eps),
			decay: C.float(decay), rate: C.float(rate), root: C.float(root),
		})
		return
	}
	s.Sub(func(s *Scope) {
		g := s.MulScalar(l.g, scale)
		s.LerpInPlace(l.m, g, 1-o.Beta1)
		s.LerpInPlace(l.v, s.Square(g), 1-o.Beta2)
		denominator := s.AddScalar(s.MulScalar(s.Sqrt(l.v), root), o.Eps)
		if o.WeightDecay != 0 {
			s.AddInPlace(l.value, s.MulScalar(l.value, -decay))
		}
		s.AddInPlace(l.value, s.MulScalar(s.Div(l.m, denominator), -rate))
	})
	s.ZeroInPlace(l.g)
}

// inMemory says that tensors lie in the memory of this process, row after row.
func (s *Scope) inMemory(all ...*Tensor) bool {
	for _, t := range all {
		if s.thread.device >= 0 || !lib.AtIsContiguous(t.c) {
			return false
		}
	}
	return true
}

func floats(t *Tensor) *C.float { return (*C.float)(lib.AtDataPtr(t.c)) }
