package seqrec

import (
	"seralm/models/tensor"
)

// softmaxElements bounds targets x rows of one softmax. 4 MiB of float32 stay in
// the processor's cache from the product that makes them to the last that reads
// them; softmaxTargets keeps those products worth their while on a large table.
const (
	softmaxElements = 1 << 20
	softmaxTargets  = 32
)

// crossEntropy is the loss of a full softmax over the rows of items [R, d] for
// hidden states [n, d]: nll, the mean of -log p(target), and its gradients by the
// hidden states and the items.
//
// Over logits z = h Wᵀ the gradient is known: dL/dz = (p - onehot(target)) / n. So
// nothing is kept for autograd, and the softmax, which dominates the memory and the
// time of a step, is taken in chunks of targets, each in place where its logits are.
func crossEntropy(s *tensor.Scope, items, hidden *tensor.Tensor, targets []int64) (nll float64, byHidden, byItems *tensor.Tensor) {
	rows, d, n := items.Dim(0), items.Dim(1), len(targets)
	byHidden, byItems = s.Zeros(tensor.Float32, int64(n), d), s.Zeros(tensor.Float32, rows, d)
	chunk := max(softmaxTargets, softmaxElements/int(rows))
	for from := 0; from < n; from += chunk {
		size := int64(min(chunk, n-from))
		s.Sub(func(s *tensor.Scope) {
			h := s.Narrow(hidden, 0, int64(from), size)
			target := s.I64(targets[from:from+int(size)], size, 1)
			p := s.LogSoftmax(s.Matmul(h, s.Transpose(items, 0, 1)), 1)
			nll -= s.Value(s.Sum(s.Gather(p, 1, target))) / float64(n)
			s.ExpInPlace(p)
			s.ScatterAddInPlace(p, 1, target, s.Full(-1, tensor.Float32, size, 1))
			s.AddmmInPlace(s.Narrow(byHidden, 0, int64(from), size), p, items)
			s.AddmmInPlace(byItems, s.Transpose(p, 0, 1), h)
		})
	}
	s.MulScalarInPlace(byHidden, 1/float64(n))
	s.MulScalarInPlace(byItems, 1/float64(n))
	return nll, byHidden, byItems
}
