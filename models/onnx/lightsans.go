package onnx

import (
	"fmt"
	"math"

	"seralm/models/snapshot"
)

// lightSANs mirrors seqrec's LightSANs. It masks nothing, so padding counts: a history
// stands at the left of L positions, the others hold zeros.
//
// K and V are condensed to k interests each, g(Z) = softmax over L of (Z T), transposed,
// times Z. Positions take no part in the input; their attention depends on no history,
// so it is a constant of the graph.
func (g *graph) lightSANs(a snapshot.Architecture, x string) string {
	d, interests := int64(a.Dim), int64(a.Interests)
	condense := func(z, name string) string { // [L, d] -> [k, d]
		t := g.floats(name+".theta", g.weight(name+".theta", d, interests), d, interests)
		share := g.node("Softmax", []string{g.node("MatMul", []string{z, t})}, attrInt("axis", 0))
		return g.node("MatMul", []string{g.node("Transpose", []string{share}, attrInts("perm", 1, 0)), z})
	}
	positions := func(attention, _ string) string { return g.positionAttention(a, attention) }
	return g.decoupled(a, x, condense, positions)
}

// decoupled is the encoder of LightSANs and of those after it: item and position
// contexts are found apart and added. Both attentions are softmaxes over the queries
// (RecBole's dim=-2), so even the last layer needs them all; of the rest it computes the
// last item's position only.
//
// condense shortens keys or values [L, d]; positions returns the attention between
// positions [h, L, L] of a layer with inputs x.
func (g *graph) decoupled(a snapshot.Architecture, x string, condense func(z, name string) string, positions func(attention, x string) string) string {
	d := int64(a.Dim)
	last := g.node("Sub", []string{g.length(), g.ints(1)})
	x = g.layerNorm(g.padded(x, a), "LayerNorm", d)
	scale := g.scalar("scale", float32(1/math.Sqrt(float64(a.Dim/a.Heads))))
	for i := range a.Layers {
		attention := fmt.Sprintf("trm_encoder.layer.%d.multi_head_attention", i)
		q, k, v := g.queryKeyValue(x, d, attention)
		shortK, shortV := condense(k, attention+".attpooling_key"), condense(v, attention+".attpooling_value")
		scores := g.node("Mul", []string{g.node("MatMul", []string{g.split(q, a, 1, 0, 2), g.split(shortK, a, 1, 2, 0)}), scale})
		byItem := g.node("Softmax", []string{scores}, attrInt("axis", 1)) // [h, L, k]
		byPosition := positions(attention, x)                             // [h, L, L]
		if i == a.Layers-1 {
			byItem = g.node("Gather", []string{byItem, last}, attrInt("axis", 1))
			byPosition = g.node("Gather", []string{byPosition, last}, attrInt("axis", 1))
			x = g.node("Gather", []string{x, last}, attrInt("axis", 0))
		}
		context := g.node("Add", []string{
			g.node("MatMul", []string{byItem, g.split(shortV, a, 1, 0, 2)}),
			g.node("MatMul", []string{byPosition, g.split(v, a, 1, 0, 2)}),
		})
		x = g.blockOutput(context, x, a, i)
	}
	return x
}

// positionScale is RecBole's: (2 d/h)^-1/2 for the queries, (d/h)^-1/2 for the scores.
func positionScale(a snapshot.Architecture) float64 {
	head := float64(a.Dim / a.Heads)
	return 1 / math.Sqrt(2*head) / math.Sqrt(head)
}

// positionAttention adds softmax(p W_q (p W_k)ᵀ scale), p = LN(P), as a constant.
func (g *graph) positionAttention(a snapshot.Architecture, attention string) string {
	d, heads, n := a.Dim, a.Heads, a.MaxLen
	p := normalise(g.weight("position_embedding.weight", int64(n), int64(d)), g.weight(attention+".pos_ln.weight", int64(d)), g.weight(attention+".pos_ln.bias", int64(d)))
	project := func(name string) []float64 { // [n, d]
		w, b := g.weight(name+".weight", int64(d), int64(d)), g.weight(name+".bias", int64(d))
		out := make([]float64, n*d)
		for i := range n {
			for o := range d {
				sum := float64(b[o])
				for j := range d {
					sum += p[i*d+j] * float64(w[o*d+j])
				}
				out[i*d+o] = sum
			}
		}
		return out
	}
	q, k := project(attention+".pos_q_linear"), project(attention+".pos_k_linear")
	out := make([]float32, heads*n*n)
	column := make([]float64, n)
	for h := range heads {
		for j := range n {
			sum := 0.0
			for i := range n {
				dot := 0.0
				for c := h * d / heads; c < (h+1)*d/heads; c++ {
					dot += q[i*d+c] * k[j*d+c]
				}
				column[i] = math.Exp(dot * positionScale(a))
				sum += column[i]
			}
			for i, e := range column {
				out[(h*n+i)*n+j] = float32(e / sum)
			}
		}
	}
	return g.floats(attention+".positions", out, int64(heads), int64(n), int64(n))
}

// normalise is LayerNorm of the rows of x.
func normalise(x, weight, bias []float32) []float64 {
	d := len(weight)
	out := make([]float64, len(x))
	for r := 0; r < len(x); r += d {
		mean, square := 0.0, 0.0
		for _, v := range x[r : r+d] {
			mean += float64(v) / float64(d)
		}
		for _, v := range x[r : r+d] {
			square += (float64(v) - mean) * (float64(v) - mean) / float64(d)
		}
		for i := range d {
			out[r+i] = (float64(x[r+i])-mean)/math.Sqrt(square+layerNormEps)*float64(weight[i]) + float64(bias[i])
		}
	}
	return out
}
