package llm

import (
	"seralm/models/tensor"
	"seralm/models/tokenizer"
)

// Model is a loaded language model. Close it after use.
type Model struct {
	config    Config
	tokenizer *tokenizer.BPE
	template  template
	stop      []int32 // tokens that end a text
	kind      tensor.Kind
	batch     int

	thread *tensor.Thread
	kept   []*tensor.Tensor
	embed  *tensor.Tensor // [V, d]
	layers []layer
	norm   *tensor.Tensor // [d]
	head   linear
	policy *Policy // nil without an adapter

	fingerprint uint64 // of the weights as they were read
}

// layer is one block: attention, then the gated feed-forward, each after a norm and
// added to what came in.
type layer struct {
	attentionNorm *tensor.Tensor
	q, k, v, o    linear
	innerNorm     *tensor.Tensor
	gate, up      linear
	down          linear
}

// linear is y = x Wᵀ. Every weight of the model but the embedding and the norms is
// used through it, so that what changes a weight (an adapter) has one place to be.
type linear struct {
	weight *tensor.Tensor
	delta  *delta // nil where nothing is adapted
}

// skinny is up to how many rows x goes to the right of W: at these sizes reading W
// is most of the work, and libtorch's bfloat16 kernels read it faster from the left (a
// token for each of 16 texts takes a quarter less CPU time).
const skinny = 64

func (l linear) apply(s *tensor.Scope, x *tensor.Tensor) *tensor.Tensor {
	y := l.base(s, x)
	if l.delta == nil || l.delta.policy.bare {
		return y
	}
	return s.Add(y, l.delta.apply(s, x))
}

func (l linear) base(s *tensor.Scope, x *tensor.Tensor) *tensor.Tensor {
	shape := x.Shape()
	in := shape[len(shape)-1]
	rows := int64(x.Numel()) / in
	if rows > skinny {
		return s.Linear(x, l.weight, nil)
	}
	y := s.Matmul(l.weight, s.Transpose(s.View(x, rows, in), 0, 1))
	shape[len(shape)-1] = l.weight.Dim(0)
	return s.View(s.Contiguous(s.Transpose(y, 0, 1)), shape...)
}

// Config returns the model's shape.
func (m *Model) Config() Config { return m.config }

// Close frees the model; work that is under way is waited for.
func (m *Model) Close() {
	_ = m.thread.Do(func(s *tensor.Scope) {
		for _, t := range m.kept {
			s.Free(t)
		}
		if m.policy != nil {
			m.policy.params.Free(s)
		}
	})
	m.thread.Close()
}
