package seqrec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"seralm/models/tensor"
)

// architecture is how a recommender reads a history.
type architecture interface {
	// shapes lists the parameters besides the item table, under RecBole's names.
	shapes() []shaped
	// causal says that a position sees what is before it and nothing else. All positions
	// of a sequence are then learnt in one pass, and histories are padded to the longest
	// of their group. Otherwise one position of a sequence is learnt in a step, every
	// history is padded to MaxLen, and padding is seen, as a vector of zeros.
	causal() bool
	// encode returns hidden states [n, d] of histories x [B, T, d], which have their
	// padding behind. at are flat positions in B x T: any of a causal one, otherwise the
	// last item of each history.
	encode(p pass, x *tensor.Tensor, at []int64) *tensor.Tensor
}

// penalised is an architecture with a term of the loss that depends on its parameters
// alone. It is no part of the loss that is reported.
type penalised interface {
	penalty(p pass) *tensor.Tensor
}

var architectures = map[string]func(Hyper) (architecture, error){
	"caser": newCaser, "gru4rec": newGRU4Rec, "lightsans": newLightSANs, "paup": newPAUP, "sasrec": newSASRec,
}

func newArchitecture(h Hyper) (architecture, error) {
	build, ok := architectures[h.Name]
	if !ok {
		return nil, fmt.Errorf("no such architecture %q: it is one of %s", h.Name, strings.Join(slices.Sorted(maps.Keys(architectures)), ", "))
	}
	if err := h.sizes(); err != nil {
		return nil, err
	}
	return build(h)
}

// pass is one run of an encoder: what its equations are written with.
type pass struct {
	*tensor.Scope
	params  *tensor.Params
	dropout float64
}

func (p pass) get(name string) *tensor.Tensor { return p.params.Get(name) }

func (p pass) drop(x *tensor.Tensor) *tensor.Tensor { return p.Dropout(x, p.dropout) }

func (p pass) linear(x *tensor.Tensor, name string) *tensor.Tensor {
	return p.Linear(x, p.get(name+".weight"), p.get(name+".bias"))
}

func (p pass) norm(x *tensor.Tensor, name string) *tensor.Tensor {
	const eps = 1e-12
	return p.LayerNorm(x, p.get(name+".weight"), p.get(name+".bias"), eps)
}

// pick takes the states at flat positions of h [B, T, d].
func (p pass) pick(h *tensor.Tensor, at []int64) *tensor.Tensor {
	return p.IndexSelect(p.View(h, -1, h.Dim(2)), 0, p.I64(at, int64(len(at))))
}

// split turns x [B, T, d] into heads [B, h, T, d/h]; join is its inverse.
func (p pass) split(x *tensor.Tensor, heads int) *tensor.Tensor {
	shape, h := x.Shape(), int64(heads)
	return p.Transpose(p.View(x, shape[0], shape[1], h, shape[2]/h), 1, 2)
}

func (p pass) join(x *tensor.Tensor) *tensor.Tensor {
	shape := x.Shape()
	return p.View(p.Transpose(x, 1, 2), shape[0], shape[2], shape[1]*shape[3])
}

// Parts of the transformers, under RecBole's names.

func layerName(i int, rest string) string { return fmt.Sprintf("trm_encoder.layer.%d.%s", i, rest) }

// blockOutput is layer i after its attention has found the context [B, h, T, d/h] of its
// inputs x [B, T, d]. What comes after takes positions one by one, so of the last layer
// only the flat positions at go on: [n, d].
func (p pass) blockOutput(context, x *tensor.Tensor, h Hyper, i int, at []int64) *tensor.Tensor {
	attention := layerName(i, "multi_head_attention")
	context = p.join(context)
	if i == h.Layers-1 {
		context, x = p.pick(context, at), p.pick(x, at)
	}
	x = p.norm(p.Add(p.drop(p.linear(context, attention+".dense")), x), attention+".LayerNorm")
	return p.feedForward(x, layerName(i, "feed_forward"))
}

// feedForward is LN(x + W2 gelu(W1 x + b1) + b2).
func (p pass) feedForward(x *tensor.Tensor, name string) *tensor.Tensor {
	out := p.linear(p.Gelu(p.linear(x, name+".dense_1")), name+".dense_2")
	return p.norm(p.Add(p.drop(out), x), name+".LayerNorm")
}

func feedForwardShapes(name string, d, inner int) []shaped {
	return slices.Concat(linearShapes(name+".dense_1", d, inner), linearShapes(name+".dense_2", inner, d), normShapes(name+".LayerNorm", d))
}

func linearShapes(name string, in, out int) []shaped {
	return []shaped{{name + ".weight", []int64{int64(out), int64(in)}, normal(deviation)}, {name + ".bias", []int64{int64(out)}, zeros}}
}

func normShapes(name string, d int) []shaped {
	return []shaped{{name + ".weight", []int64{int64(d)}, ones}, {name + ".bias", []int64{int64(d)}, zeros}}
}

// convShapes are filters [out, in, ...] with PyTorch's first deviation of both.
func convShapes(name string, out, in int64, size ...int64) []shaped {
	p := shaped{name: name + ".weight", shape: append([]int64{out, in}, size...)}
	p.first = normal(fanIn(int64(p.width())))
	return []shaped{p, {name + ".bias", []int64{out}, p.first}}
}
