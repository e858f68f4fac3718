package onnx

import (
	"seralm/models/snapshot"
)

// paup mirrors seqrec's PAUP: LightSANs with keys and values shortened to m segments by
// two strided convolutions over time, d -> d/16 -> d channels with a ReLU between them,
// and with an attention between positions that sees the layer's input: p = LN(P + X).
func (g *graph) paup(a snapshot.Architecture, x string) string {
	d, n, k1 := int64(a.Dim), int64(a.MaxLen), int64(a.Kernel)
	k2, pad := secondConvolution(a)
	channels := d / 16
	condense := func(z, name string) string { // [L, d] -> [m, d]
		z = g.node("Reshape", []string{g.node("Transpose", []string{z}, attrInts("perm", 1, 0)), g.ints(1, d, n)})
		z = g.node("Relu", []string{g.conv(z, name+".conv1a", []int64{channels, d, k1}, attrInts("strides", k1))})
		z = g.conv(z, name+".conv2a", []int64{d, channels, k2}, attrInts("strides", k2), attrInts("pads", pad, pad))
		return g.node("Transpose", []string{g.node("Reshape", []string{z, g.ints(d, -1)})}, attrInts("perm", 1, 0))
	}
	scale := g.scalar("position_scale", float32(positionScale(a)))
	embedding := g.floats("position_embedding.weight", g.weight("position_embedding.weight", n, d), n, d)
	positions := func(attention, x string) string {
		p := g.layerNorm(g.node("Add", []string{embedding, x}), attention+".pos_ln", d)
		qk := g.nodes("Split", []string{g.linear(p, d, d, attention+".pos_q_linear", attention+".pos_k_linear"), g.ints(d, d)}, 2, attrInt("axis", 1))
		scores := g.node("MatMul", []string{g.split(qk[0], a, 1, 0, 2), g.split(qk[1], a, 1, 2, 0)})
		return g.node("Softmax", []string{g.node("Mul", []string{scores, scale})}, attrInt("axis", 1))
	}
	return g.decoupled(a, x, condense, positions)
}

// secondConvolution returns the kernel, which is the stride too, and the padding that
// make m segments of mid = L/k1 steps: k2 = ceil(mid/m), pad = ceil((k2 m - mid)/2).
func secondConvolution(a snapshot.Architecture) (kernel, pad int64) {
	n, m, k1 := int64(a.MaxLen), int64(a.Segments), int64(a.Kernel)
	kernel = (n + k1*m - 1) / (k1 * m)
	return kernel, (kernel*m*k1 - n + 2*k1 - 1) / (2 * k1)
}
