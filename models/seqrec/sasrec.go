package seqrec

import (
	"cmp"

	"seralm/models/tensor"
)

// sasrec is the self-attentive recommender of Kang and McAuley (ICDM 2018) in
// RecBole's form: learned absolute positions counted from the oldest item kept,
// post-LN blocks, GELU.
//
// The causal mask makes one pass over a sequence the same as one over each prefix by
// itself (but for dropout, of embeddings, attention probabilities and sublayers).
type sasrec struct{ h Hyper }

func newSASRec(h Hyper) (architecture, error) {
	return sasrec{h}, cmp.Or(h.heads(), h.within("layers", h.Layers, 1, 1<<10), h.within("inner", h.Inner, 1, 1<<20))
}

func (a sasrec) causal() bool { return true }

func (a sasrec) shapes() []shaped {
	d := a.h.Dim
	out := []shaped{{"position_embedding.weight", []int64{int64(a.h.MaxLen), int64(d)}, normal(deviation)}}
	out = append(out, normShapes("LayerNorm", d)...)
	for i := range a.h.Layers {
		for _, n := range []string{"query", "key", "value", "dense"} {
			out = append(out, linearShapes(layerName(i, "multi_head_attention."+n), d, d)...)
		}
		out = append(out, normShapes(layerName(i, "multi_head_attention.LayerNorm"), d)...)
		out = append(out, feedForwardShapes(layerName(i, "feed_forward"), d, a.h.Inner)...)
	}
	return out
}

func (a sasrec) encode(p pass, x *tensor.Tensor, at []int64) *tensor.Tensor {
	t := x.Dim(1)
	x = p.Add(x, p.Narrow(p.get("position_embedding.weight"), 0, 0, t))
	x = p.drop(p.norm(x, "LayerNorm"))
	mask := p.Bool(causalMask(int(t)), t, t)
	for i := range a.h.Layers {
		attention := layerName(i, "multi_head_attention")
		head := func(name string) *tensor.Tensor { return p.split(p.linear(x, attention+"."+name), a.h.Heads) }
		context := p.Attention(head("query"), head("key"), head("value"), mask, p.dropout)
		x = p.blockOutput(context, x, a.h, i, at)
	}
	return x
}

// causalMask is the lower triangle [T, T]. Padding stands behind the items, so no
// position that counts sees it.
func causalMask(t int) []bool {
	mask := make([]bool, t*t)
	for i := range t {
		for j := 0; j <= i; j++ {
			mask[i*t+j] = true
		}
	}
	return mask
}
