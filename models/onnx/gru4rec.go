package onnx

import (
	"fmt"
	"slices"

	"seralm/models/snapshot"
)

// gru4rec mirrors seqrec's GRU4Rec: layers of gated recurrent units without biases,
//
//	r = sigmoid(W_r x + U_r h)    z = sigmoid(W_z x + U_z h)
//	n = tanh(W_n x + r * U_n h)   h' = (1 - z) n + z h
//
// and a linear map of the last state to the size of an item. That r multiplies U_n h
// and not h is what ONNX calls linear_before_reset.
func (g *graph) gru4rec(a snapshot.Architecture, x string) string {
	d, hidden := int64(a.Dim), int64(a.Inner)
	width, state := d, ""
	for i := range a.Layers {
		x = g.node("Reshape", []string{x, g.ints(-1, 1, width)}) // [T, 1, width]
		w := g.gates(fmt.Sprintf("gru_layers.weight_ih_l%d", i), hidden, width)
		u := g.gates(fmt.Sprintf("gru_layers.weight_hh_l%d", i), hidden, hidden)
		out := g.nodes("GRU", []string{x, w, u}, 2, attrInt("hidden_size", hidden), attrInt("linear_before_reset", 1))
		x, state, width = out[0], out[1], hidden // [T, 1, 1, hidden], [1, 1, hidden]
	}
	return g.linear(g.node("Reshape", []string{state, g.ints(-1, hidden)}), hidden, d, "dense")
}

// gates adds the weights [3 hidden, in] of a layer, which stand in PyTorch's order r, z,
// n and go into ONNX's z, r, n.
func (g *graph) gates(name string, hidden, in int64) string {
	w, n := g.weight(name, 3*hidden, in), hidden*in
	return g.floats(name, slices.Concat(w[n:2*n], w[:n], w[2*n:]), 1, 3*hidden, in)
}
