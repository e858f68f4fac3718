package seqrec

import (
	"cmp"
	"fmt"

	"seralm/models/tensor"
)

// gru4rec is the recurrent recommender of Hidasi et al. (ICLR 2016) as Tan et al. (DLRS
// 2016) train it, in RecBole's form: items with dropout, layers of gated recurrent units
// without biases, whose size is Hyper.Inner (RecBole's hidden_size), and a linear map of
// their last state to the size of an item.
type gru4rec struct{ h Hyper }

func newGRU4Rec(h Hyper) (architecture, error) {
	return gru4rec{h}, cmp.Or(h.within("layers", h.Layers, 1, 1<<10), h.within("inner", h.Inner, 1, 1<<20))
}

func (a gru4rec) causal() bool { return true }

// weights names the matrices of a layer.
func (a gru4rec) weights(layer int) (input, hidden string) {
	return fmt.Sprintf("gru_layers.weight_ih_l%d", layer), fmt.Sprintf("gru_layers.weight_hh_l%d", layer)
}

func (a gru4rec) shapes() []shaped {
	d, n := int64(a.h.Dim), int64(a.h.Inner)
	var out []shaped
	in := d
	for i := range a.h.Layers {
		input, hidden := a.weights(i)
		out = append(out,
			shaped{input, []int64{3 * n, in}, normal(xavier(in, 3*n))},
			shaped{hidden, []int64{3 * n, n}, normal(xavier(n, 3*n))})
		in = n
	}
	return append(out, shaped{"dense.weight", []int64{d, n}, normal(fanIn(n))}, shaped{"dense.bias", []int64{d}, normal(fanIn(n))})
}

func (a gru4rec) encode(p pass, x *tensor.Tensor, at []int64) *tensor.Tensor {
	var weights []*tensor.Tensor
	for i := range a.h.Layers {
		input, hidden := a.weights(i)
		weights = append(weights, p.get(input), p.get(hidden))
	}
	return p.linear(p.pick(p.GRU(p.drop(x), weights...), at), "dense")
}
