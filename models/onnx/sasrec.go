package onnx

import (
	"fmt"
	"math"

	"seralm/models/snapshot"
)

// sasrec mirrors seqrec's SASRec for one history without padding.
func (g *graph) sasrec(a snapshot.Architecture, x string) string {
	d, maxLen := int64(a.Dim), int64(a.MaxLen)
	length := g.length()
	positions := g.floats("position_embedding.weight", g.weight("position_embedding.weight", maxLen, d), maxLen, d)
	x = g.node("Add", []string{x, g.node("Slice", []string{positions, g.ints(0), length, g.ints(0)})})
	x = g.layerNorm(x, "LayerNorm", d)

	// The causal mask [T, T], a corner of [L, L].
	var mask string
	if a.Layers > 1 {
		cell := make([]float32, maxLen*maxLen)
		for i := range maxLen {
			for j := i + 1; j < maxLen; j++ {
				cell[i*maxLen+j] = float32(math.Inf(-1))
			}
		}
		mask = g.node("Slice", []string{g.floats("causal_mask", cell, maxLen, maxLen), g.ints(0, 0), g.node("Concat", []string{length, length}, attrInt("axis", 0)), g.ints(0, 1)})
	}
	scale := g.scalar("scale", float32(1/math.Sqrt(float64(a.Dim/a.Heads))))
	for i := range a.Layers {
		attention := fmt.Sprintf("trm_encoder.layer.%d.multi_head_attention", i)
		last := i == a.Layers-1
		var q, k, v string
		if last {
			kv := g.nodes("Split", []string{g.linear(x, d, d, attention+".key", attention+".value"), g.ints(d, d)}, 2, attrInt("axis", 1))
			x = g.node("Slice", []string{x, g.ints(-1), g.ints(math.MaxInt64), g.ints(0)}) // the last position, [1, d]
			q, k, v = g.linear(x, d, d, attention+".query"), kv[0], kv[1]
		} else {
			q, k, v = g.queryKeyValue(x, d, attention)
		}
		scores := g.node("Mul", []string{g.node("MatMul", []string{g.split(q, a, 1, 0, 2), g.split(k, a, 1, 2, 0)}), scale}) // [h, n, T]
		if !last {
			scores = g.node("Add", []string{scores, mask})
		}
		context := g.node("MatMul", []string{g.node("Softmax", []string{scores}, attrInt("axis", -1)), g.split(v, a, 1, 0, 2)})
		x = g.blockOutput(context, x, a, i)
	}
	return x
}
