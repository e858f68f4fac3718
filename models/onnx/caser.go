package onnx

import (
	"fmt"

	"seralm/models/snapshot"
)

// caser mirrors seqrec's Caser: a history is an image [L, d], padded with zeros at its
// end. Vertical filters [L, 1] are weighted sums of its rows; horizontal ones, some of
// each height 1..L and d wide, answer by their maximum over time. Users are one vector.
func (g *graph) caser(a snapshot.Architecture, x string) string {
	d, n := int64(a.Dim), int64(a.MaxLen)
	vertical, horizontal := int64(a.Vertical), int64(a.Horizontal)
	image := g.node("Reshape", []string{g.padded(x, a), g.ints(1, 1, n, d)})
	features := []string{g.node("Reshape", []string{g.conv(image, "conv_v", []int64{vertical, 1, n, 1}), g.ints(1, -1)})}
	for i := range n {
		c := g.conv(image, fmt.Sprintf("conv_h.%d", i), []int64{horizontal, 1, i + 1, d}) // [1, n_h, L-i, 1]
		c = g.node("Relu", []string{g.node("GlobalMaxPool", []string{c})})
		features = append(features, g.node("Reshape", []string{c, g.ints(1, -1)}))
	}
	z := g.node("Concat", features, attrInt("axis", 1))
	z = g.node("Relu", []string{g.linear(z, vertical*d+horizontal*n, d, "fc1")})
	user := g.floats("user_embedding.weight", g.weight("user_embedding.weight", 1, d), 1, d)
	z = g.node("Concat", []string{z, user}, attrInt("axis", 1))
	return g.node("Relu", []string{g.linear(z, 2*d, d, "fc2")})
}
