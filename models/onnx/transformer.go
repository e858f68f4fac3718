package onnx

import (
	"fmt"

	"seralm/models/snapshot"
)

// What the transformers have in common, in RecBole's form: post-LN blocks of
// attention and a feed-forward net with GELU.

// queryKeyValue are three projections [n, d] of x [n, d].
func (g *graph) queryKeyValue(x string, d int64, attention string) (q, k, v string) {
	qkv := g.nodes("Split", []string{g.linear(x, d, d, attention+".query", attention+".key", attention+".value"), g.ints(d, d, d)}, 3, attrInt("axis", 1))
	return qkv[0], qkv[1], qkv[2]
}

// split turns [n, d] into [n, h, d/h] and orders its axes by perm.
func (g *graph) split(x string, a snapshot.Architecture, perm ...int64) string {
	x = g.node("Reshape", []string{x, g.ints(-1, int64(a.Heads), int64(a.Dim/a.Heads))})
	return g.node("Transpose", []string{x}, attrInts("perm", perm...))
}

// blockOutput is layer i after its attention has found the context [h, n, d/h] of its
// inputs x [n, d].
func (g *graph) blockOutput(context, x string, a snapshot.Architecture, i int) string {
	d, inner := int64(a.Dim), int64(a.Inner)
	attention := fmt.Sprintf("trm_encoder.layer.%d.multi_head_attention", i)
	ffn := fmt.Sprintf("trm_encoder.layer.%d.feed_forward", i)
	context = g.node("Reshape", []string{g.node("Transpose", []string{context}, attrInts("perm", 1, 0, 2)), g.ints(-1, d)})
	x = g.layerNorm(g.node("Add", []string{g.linear(context, d, d, attention+".dense"), x}), attention+".LayerNorm", d)
	h := g.gelu(g.linear(x, d, inner, ffn+".dense_1"))
	return g.layerNorm(g.node("Add", []string{g.linear(h, inner, d, ffn+".dense_2"), x}), ffn+".LayerNorm", d)
}
