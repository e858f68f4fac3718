package onnx

import (
	"fmt"
	"math"

	"seralm/models/snapshot"
)

// Export writes the graph of a snapshot's architecture with its weights. The item
// table is not among them: it is an input.
func Export(a snapshot.Architecture, weights map[string]snapshot.Tensor) ([]byte, error) {
	if a.Dim < 1 || a.Heads < 1 || a.Dim%a.Heads != 0 || a.Layers < 1 || a.MaxLen < 1 {
		return nil, fmt.Errorf("exporting %s: impossible sizes %+v", a.Name, a)
	}
	var out []byte
	var err error
	switch a.Name {
	case "sasrec":
		out, err = exportSASRec(a, weights)
	default:
		return nil, fmt.Errorf("exporting: no graph for architecture %q", a.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("exporting %s: %w", a.Name, err)
	}
	return out, nil
}

// exportSASRec mirrors seqrec.SASRec.encode for one history without padding.
func exportSASRec(a snapshot.Architecture, weights map[string]snapshot.Tensor) ([]byte, error) {
	const eps = 1e-12
	d, heads, maxLen := int64(a.Dim), int64(a.Heads), int64(a.MaxLen)
	head := d / heads
	g := newGraph("sasrec", weights)

	length := g.node("Slice", []string{g.node("Shape", []string{inputHistory}), g.ints(1), g.ints(2)}) // [T]
	ids := g.node("Reshape", []string{inputHistory, g.ints(-1)})
	x := g.node("Gather", []string{inputItems, ids}, attrInt("axis", 0)) // [T, d]
	positions := g.floats("position_embedding.weight", g.weight("position_embedding.weight", maxLen, d), maxLen, d)
	x = g.node("Add", []string{x, g.node("Slice", []string{positions, g.ints(0), length, g.ints(0)})})
	x = g.layerNorm(x, "LayerNorm", d, eps)

	mask := make([]float32, maxLen*maxLen)
	for i := range maxLen {
		for j := i + 1; j < maxLen; j++ {
			mask[i*maxLen+j] = float32(math.Inf(-1))
		}
	}
	split := func(x string, perm ...int64) string { // [n, d] -> [h, n, d/h] or [h, d/h, n]
		return g.node("Transpose", []string{g.node("Reshape", []string{x, g.ints(-1, heads, head)})}, attrInts("perm", perm...))
	}
	scale := g.scalar("scale", float32(1/math.Sqrt(float64(head))))
	for i := range a.Layers {
		attention := fmt.Sprintf("trm_encoder.layer.%d.multi_head_attention", i)
		ffn := fmt.Sprintf("trm_encoder.layer.%d.feed_forward", i)
		last := i == a.Layers-1
		var q, k, v string
		if last {
			kv := g.nodes("Split", []string{g.linear(x, d, d, attention+".key", attention+".value"), g.ints(d, d)}, 2, attrInt("axis", 1))
			x = g.node("Slice", []string{x, g.ints(-1), g.ints(math.MaxInt64), g.ints(0)}) // the last position, [1, d]
			q, k, v = g.linear(x, d, d, attention+".query"), kv[0], kv[1]
		} else {
			qkv := g.nodes("Split", []string{g.linear(x, d, d, attention+".query", attention+".key", attention+".value"), g.ints(d, d, d)}, 3, attrInt("axis", 1))
			q, k, v = qkv[0], qkv[1], qkv[2]
		}
		scores := g.node("Mul", []string{g.node("MatMul", []string{split(q, 1, 0, 2), split(k, 1, 2, 0)}), scale}) // [h, n, T]
		if !last {
			m := g.node("Slice", []string{g.maskOnce(mask, maxLen), g.node("Concat", []string{g.ints(0), g.ints(0)}, attrInt("axis", 0)),
				g.node("Concat", []string{length, length}, attrInt("axis", 0)), g.ints(0, 1)})
			scores = g.node("Add", []string{scores, m})
		}
		context := g.node("MatMul", []string{g.node("Softmax", []string{scores}, attrInt("axis", -1)), split(v, 1, 0, 2)}) // [h, n, d/h]
		context = g.node("Reshape", []string{g.node("Transpose", []string{context}, attrInts("perm", 1, 0, 2)), g.ints(-1, d)})
		x = g.layerNorm(g.node("Add", []string{g.linear(context, d, d, attention+".dense"), x}), attention+".LayerNorm", d, eps)
		h := g.gelu(g.linear(x, d, int64(a.Inner), ffn+".dense_1"))
		x = g.layerNorm(g.node("Add", []string{g.linear(h, int64(a.Inner), d, ffn+".dense_2"), x}), ffn+".LayerNorm", d, eps)
	}
	return g.finish(g.node("Gemm", []string{x, inputItems}, attrInt("transB", 1)), d)
}

// maskOnce adds the causal mask [L, L] at its first use.
func (g *graph) maskOnce(mask []float32, n int64) string {
	const name = "causal_mask"
	for _, t := range g.proto.Initializer {
		if t.GetName() == name {
			return name
		}
	}
	return g.floats(name, mask, n, n)
}
