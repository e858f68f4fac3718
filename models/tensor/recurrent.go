package tensor

import (
	lib "github.com/sugarme/gotch/libtch"
)

// GRU runs layers of gated recurrent units without biases over x [B, T, d], from states
// of zeros, and returns the last layer's states [B, T, h]. weights are PyTorch's, a pair
// for each layer: input-hidden [3h, d] (then [3h, h]) and hidden-hidden [3h, h], gates
// in the order r, z, n.
func (s *Scope) GRU(x *Tensor, weights ...*Tensor) *Tensor {
	layers := len(weights) / 2
	start := s.Zeros(x.Kind(), int64(layers), x.Dim(0), weights[1].Dim(1))
	params := make([]lib.Ctensor, len(weights))
	for i, w := range weights {
		params[i] = w.c
	}
	var c [2]lib.Ctensor
	lib.AtgGru(&c[0], x.c, start.c, params, len(params), flag(false), int64(layers), 0, flag(true), flag(false), flag(true))
	out := s.own("gru", c[0], append([]*Tensor{x}, weights...)...)
	s.own("gru", c[1])
	return out
}
