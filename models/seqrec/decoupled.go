package seqrec

import (
	"cmp"
	"math"
	"slices"

	"seralm/models/tensor"
)

// decoupled is the encoder of LightSANs and of what grew from it: a transformer in which
// items attend to a shortened history, and positions to positions, apart:
//
//	Q = X Wq, K = X Wk, V = X Wv
//	C = A V~ + S V,  A = softmax(Q K~ᵀ / sqrt(d_h)),  S = softmax(p Wpq (p Wpk)ᵀ / sqrt(2 d_h d_h))
//
// Nothing is masked, so a position sees what is behind it, and padding, whose row is zero
// here. In RecBole it is random and never learnt (its _init_weights fills the row again),
// so weights of theirs score a short history otherwise unless that row is set to zero.
// Both softmaxes are over the queries, as their authors' code has them (RecBole's
// dim=-2).
type decoupled struct {
	h Hyper
	// shorten makes K~ or V~ [B, k, d] of K or V [B, L, d]; shortening lists what it is
	// trained by.
	shorten    func(p pass, z *tensor.Tensor, name string) *tensor.Tensor
	shortening func(name string) []shaped
	// positions returns what stands for the positions, [1 or B, L, d], in a layer whose
	// input is x, before the normalisation that makes it p.
	positions func(p pass, embedding, x *tensor.Tensor) *tensor.Tensor
}

// check is of the sizes that the encoder has whatever shortens.
func (a decoupled) check() error {
	return cmp.Or(a.h.heads(), a.h.within("layers", a.h.Layers, 1, 1<<10), a.h.within("inner", a.h.Inner, 1, 1<<20))
}

func (a decoupled) causal() bool { return false }

func (a decoupled) shapes() []shaped {
	d := a.h.Dim
	out := []shaped{{"position_embedding.weight", []int64{int64(a.h.MaxLen), int64(d)}, normal(deviation)}}
	out = append(out, normShapes("LayerNorm", d)...)
	for i := range a.h.Layers {
		attention := layerName(i, "multi_head_attention")
		for _, n := range []string{"query", "key", "value", "pos_q_linear", "pos_k_linear", "dense"} {
			out = append(out, linearShapes(attention+"."+n, d, d)...)
		}
		out = slices.Concat(out, a.shortening(attention+".attpooling_key"), a.shortening(attention+".attpooling_value"),
			normShapes(attention+".pos_ln", d), normShapes(attention+".LayerNorm", d),
			feedForwardShapes(layerName(i, "feed_forward"), d, a.h.Inner))
	}
	return out
}

func (a decoupled) encode(p pass, x *tensor.Tensor, at []int64) *tensor.Tensor {
	scale := 1 / math.Sqrt(float64(a.h.Dim/a.h.Heads))
	split := func(x *tensor.Tensor) *tensor.Tensor { return p.split(x, a.h.Heads) }
	attend := func(q, k *tensor.Tensor, scale float64) *tensor.Tensor {
		return p.Softmax(p.MulScalar(p.Matmul(split(q), p.Transpose(split(k), 2, 3)), scale), 2)
	}
	embedding := p.Unsqueeze(p.get("position_embedding.weight"), 0)
	x = p.drop(p.norm(x, "LayerNorm"))
	for i := range a.h.Layers {
		name := layerName(i, "multi_head_attention")
		linear := func(x *tensor.Tensor, n string) *tensor.Tensor { return p.linear(x, name+"."+n) }
		q, k, v := linear(x, "query"), linear(x, "key"), linear(x, "value")
		shortK, shortV := a.shorten(p, k, name+".attpooling_key"), a.shorten(p, v, name+".attpooling_value")
		byItem := p.Matmul(p.drop(attend(q, shortK, scale)), split(shortV))
		pos := p.norm(a.positions(p, embedding, x), name+".pos_ln")
		byPosition := p.Matmul(attend(linear(pos, "pos_q_linear"), linear(pos, "pos_k_linear"), scale*scale/math.Sqrt2), split(v))
		x = p.blockOutput(p.Add(byItem, byPosition), x, a.h, i, at)
	}
	return x
}
