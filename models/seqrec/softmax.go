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

// question is what a softmax is asked: the candidates' rows [C, d], hidden states [n, d],
// and which candidate is each state's target. Candidate c has the logit
//
//	z_c = h . e_c + log w_c + rho 1[c in the state's history]
type question struct {
	items, hidden *tensor.Tensor
	targets       []int64
	logWeights    *tensor.Tensor // [1, C]; nil: every candidate stands for itself
	seen          []seen         // of each state; nil: no history counts
	rho           float64
}

// answer is the loss and its gradients.
type answer struct {
	nll           float64        // mean of -log p(target)
	hidden, items *tensor.Tensor // [n, d], [C, d]
	rho           float64
}

// crossEntropy is the loss of a full softmax over the candidates. Over logits its gradient
// is known: dL/dz = (p - onehot(target)) / n. So nothing is kept for autograd, and the
// softmax, which dominates the memory and the time of a step, is taken in chunks of
// targets, each in place where its logits are.
func crossEntropy(s *tensor.Scope, q question) answer {
	rows, d, n := q.items.Dim(0), q.items.Dim(1), len(q.targets)
	a := answer{hidden: s.Zeros(tensor.Float32, int64(n), d), items: s.Zeros(tensor.Float32, rows, d)}
	chunk := max(softmaxTargets, softmaxElements/int(rows))
	for from := 0; from < n; from += chunk {
		size := int64(min(chunk, n-from))
		s.Sub(func(s *tensor.Scope) {
			h := s.Narrow(q.hidden, 0, int64(from), size)
			target := s.I64(q.targets[from:from+int(size)], size, 1)
			z := s.Matmul(h, s.Transpose(q.items, 0, 1))
			if q.logWeights != nil {
				z = s.Add(z, q.logWeights)
			}
			var at, is *tensor.Tensor
			if q.seen != nil {
				at, is = places(s, q.seen[from:from+int(size)])
				s.ScatterAddInPlace(z, 1, at, s.MulScalar(is, q.rho))
			}
			p := s.LogSoftmax(z, 1)
			a.nll -= s.Value(s.Sum(s.Gather(p, 1, target))) / float64(n)
			s.ExpInPlace(p)
			s.ScatterAddInPlace(p, 1, target, s.Full(-1, tensor.Float32, size, 1))
			s.AddmmInPlace(s.Narrow(a.hidden, 0, int64(from), size), p, q.items)
			s.AddmmInPlace(a.items, s.Transpose(p, 0, 1), h)
			if q.seen != nil {
				a.rho += s.Value(s.Sum(s.Mul(s.Gather(p, 1, at), is))) / float64(n)
			}
		})
	}
	s.MulScalarInPlace(a.hidden, 1/float64(n))
	s.MulScalarInPlace(a.items, 1/float64(n))
	return a
}
