package encoder

import (
	"seralm/models/tensor"
)

// embed returns the vectors [B, d], float32, of texts' tokens, padded on the right.
// Gradients flow through it, to the weights that are trained.
func (e *Encoder) embed(s *tensor.Scope, texts [][]int32) *tensor.Tensor {
	width := 0
	for _, t := range texts {
		width = max(width, len(t))
	}
	ids, own, share := make([]int64, len(texts)*width), make([]bool, len(texts)*width), make([]float32, len(texts)*width)
	for b, t := range texts {
		for i := range width {
			ids[b*width+i] = int64(e.tokenizer.Pad())
			if i < len(t) {
				ids[b*width+i], own[b*width+i], share[b*width+i] = int64(t[i]), true, 1/float32(len(t))
			}
		}
	}
	b, t := int64(len(texts)), int64(width)
	x := s.Only(func(s *tensor.Scope) *tensor.Tensor { return e.input(s, s.I64(ids, b, t)) })
	mask := s.Bool(own, b, 1, 1, t)
	for i := range e.config.Layers {
		x = s.Only(func(s *tensor.Scope) *tensor.Tensor { return e.layer(s, i, x, mask) })
	}
	// The mean over a text's own tokens.
	mean := s.SumDim(s.Mul(s.To(x, tensor.Float32), s.F32(share, b, t, 1)), 1, false)
	length := s.Sqrt(s.SumDim(s.Square(mean), 1, true))
	return s.Div(mean, s.Clamp(length, 1e-12, 1e12))
}

// input is the sum of what a token is, where it stands, and the first text's type.
func (e *Encoder) input(s *tensor.Scope, ids *tensor.Tensor) *tensor.Tensor {
	x := s.Embedding(e.stored("embeddings.word_embeddings.weight"), ids)
	x = s.Add(x, s.Select(e.stored("embeddings.token_type_embeddings.weight"), 0, 0))
	x = s.Add(x, s.Narrow(e.stored("embeddings.position_embeddings.weight"), 0, 0, ids.Dim(1)))
	// Converted here: the tables themselves are large, a pass needs few of their rows.
	return e.norm(s, s.To(x, e.kind), "embeddings.LayerNorm")
}

// layer is a post-LN block: attention over the text's own tokens, then the
// feed-forward layer, each added to what came in and normalised.
func (e *Encoder) layer(s *tensor.Scope, i int, x, mask *tensor.Tensor) *tensor.Tensor {
	b, t, heads := x.Dim(0), x.Dim(1), e.config.Heads
	linear := func(x *tensor.Tensor, part string) *tensor.Tensor {
		name := layerName(i, part)
		return s.Linear(x, e.weight(s, name+".weight"), e.weight(s, name+".bias"))
	}
	head := func(part string) *tensor.Tensor {
		return s.Transpose(s.View(linear(x, part), b, t, heads, e.config.Dim/heads), 1, 2)
	}
	y := s.Attention(head("attention.self.query"), head("attention.self.key"), head("attention.self.value"), mask, 0)
	y = linear(s.View(s.Transpose(y, 1, 2), b, t, e.config.Dim), "attention.output.dense")
	x = e.norm(s, s.Add(x, y), layerName(i, "attention.output.LayerNorm"))
	y = linear(s.Gelu(linear(x, "intermediate.dense")), "output.dense")
	return e.norm(s, s.Add(x, y), layerName(i, "output.LayerNorm"))
}

func (e *Encoder) norm(s *tensor.Scope, x *tensor.Tensor, name string) *tensor.Tensor {
	return s.LayerNorm(x, e.weight(s, name+".weight"), e.weight(s, name+".bias"), e.config.Eps)
}

// weight is one to compute with.
func (e *Encoder) weight(s *tensor.Scope, name string) *tensor.Tensor {
	return s.To(e.stored(name), e.kind)
}

// stored is a weight as it is kept: a trained one in float32 whatever the arithmetic,
// for bf16 would round its small steps away.
func (e *Encoder) stored(name string) *tensor.Tensor {
	if e.trains(name) {
		return e.params.Get(name)
	}
	return e.weights[name]
}
