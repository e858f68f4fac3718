package onnx

import (
	"fmt"

	"seralm/models/snapshot"
)

// Export writes the graph of a snapshot's architecture with its weights. The item
// table is not among them: it is an input.
func Export(a snapshot.Architecture, weights map[string]snapshot.Tensor) ([]byte, error) {
	g, user, err := user(a, weights)
	if err != nil {
		return nil, err
	}
	scores := g.node("Gemm", []string{user, inputItems}, attrInt("transB", 1))
	if _, ok := weights[historyBias]; ok {
		scores = g.repeats(scores)
	}
	return g.finish(scores, outputScores, a, "R")
}

// user begins a graph: the user's vector [1, d] after a history.
func user(a snapshot.Architecture, weights map[string]snapshot.Tensor) (*graph, string, error) {
	// encode adds what makes of the vectors of a history [T, d] the user's, [1, d].
	var encode func(*graph, snapshot.Architecture, string) string
	sizes := a.Dim >= 1 && a.MaxLen >= 1
	transformer := a.Layers >= 1 && a.Heads >= 1 && a.Dim%max(a.Heads, 1) == 0 && a.Inner >= 1
	switch a.Name {
	case "sasrec":
		encode, sizes = (*graph).sasrec, sizes && transformer
	case "gru4rec":
		encode, sizes = (*graph).gru4rec, sizes && a.Layers >= 1 && a.Inner >= 1
	case "lightsans":
		encode, sizes = (*graph).lightSANs, sizes && transformer && a.Interests >= 1
	case "paup":
		encode, sizes = (*graph).paup, sizes && transformer && a.Segments >= 1 && a.Kernel >= 1 && a.Kernel <= a.MaxLen
	case "caser":
		encode, sizes = (*graph).caser, sizes && a.Vertical >= 1 && a.Horizontal >= 1
	default:
		return nil, "", fmt.Errorf("exporting: no graph for architecture %q", a.Name)
	}
	if !sizes {
		return nil, "", fmt.Errorf("exporting %s: impossible sizes %+v", a.Name, a)
	}
	g := newGraph(a.Name, weights)
	history := g.node("Gather", []string{inputItems, g.node("Reshape", []string{inputHistory, g.ints(-1)})}, attrInt("axis", 0)) // [T, d]
	return g, encode(g, a, history), nil
}

// historyBias is a model's tensor [1]: what an item's score gains for being in the
// history.
const historyBias = "history_bias"

// repeats adds the history's bias. An item that comes twice is written twice, and is the
// same both times.
func (g *graph) repeats(scores string) string {
	rho := g.floats(historyBias, g.weight(historyBias, 1), 1)
	seen := g.node("GatherElements", []string{scores, inputHistory}, attrInt("axis", 1)) // [1, T]
	return g.node("ScatterElements", []string{scores, inputHistory, g.node("Add", []string{seen, rho})}, attrInt("axis", 1))
}
