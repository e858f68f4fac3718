package seqrec

import (
	"cmp"
	"fmt"

	"seralm/models/tensor"
)

// caser is the convolutional recommender of Tang and Wang (WSDM 2018) in RecBole's form,
// with one learned vector in place of each user's own: users of a stream are unbounded
// and new. A history is an image [L, d]. Vertical filters [L, 1] are weighted sums of its
// rows; horizontal ones [i, d], some of each height 1..L, answer by their maximum over
// time. Padding is zero, where RecBole has a random row that is never learnt.
type caser struct{ h Hyper }

// caserMaxLen bounds L: there is a convolution of each height, and the largest see
// mostly padding.
const caserMaxLen = 50

// caserPenalty weighs the norms of the horizontal filters in the loss (RecBole's
// reg_weight). RecBole has penalties on other weights besides, which are left out.
const caserPenalty = 1e-4

func newCaser(h Hyper) (architecture, error) {
	return caser{h}, cmp.Or(h.within("max_len", h.MaxLen, 1, caserMaxLen), h.within("n_v", h.Vertical, 1, 1<<10), h.within("n_h", h.Horizontal, 1, 1<<10))
}

func (a caser) causal() bool { return false }

func (a caser) horizontal(i int) string { return fmt.Sprintf("conv_h.%d", i) }

func (a caser) shapes() []shaped {
	d, l, vertical, horizontal := int64(a.h.Dim), int64(a.h.MaxLen), int64(a.h.Vertical), int64(a.h.Horizontal)
	out := []shaped{{"user_embedding.weight", []int64{1, d}, normal(1 / float64(d))}}
	out = append(out, convShapes("conv_v", vertical, 1, l, 1)...)
	for i := range a.h.MaxLen {
		out = append(out, convShapes(a.horizontal(i), horizontal, 1, int64(i+1), d)...)
	}
	in := vertical*d + horizontal*l
	return append(out,
		shaped{"fc1.weight", []int64{d, in}, normal(xavier(in, d))}, shaped{"fc1.bias", []int64{d}, zeros},
		shaped{"fc2.weight", []int64{d, 2 * d}, normal(xavier(2*d, d))}, shaped{"fc2.bias", []int64{d}, zeros})
}

func (a caser) encode(p pass, x *tensor.Tensor, _ []int64) *tensor.Tensor {
	b, l, d := x.Dim(0), x.Dim(1), x.Dim(2)
	vertical := p.Matmul(p.View(p.get("conv_v.weight"), -1, l), x) // [B, n_v, d]
	vertical = p.Add(vertical, p.View(p.get("conv_v.bias"), -1, 1))
	features := []*tensor.Tensor{p.View(vertical, b, -1)}
	rows := p.View(x, -1, d)
	for i := range l {
		name, height := a.horizontal(int(i)), i+1
		windows := p.View(p.IndexSelect(rows, 0, p.I64(windowRows(b, l, height), b*(l-i)*height)), -1, height*d)
		answers := p.Linear(windows, p.View(p.get(name+".weight"), -1, height*d), p.get(name+".bias"))
		most, _ := p.MaxDim(p.View(answers, b, l-i, -1), 1, false)
		features = append(features, p.Relu(most)) // [B, n_h]
	}
	z := p.Relu(p.linear(p.drop(p.Cat(1, features...)), "fc1"))
	user := p.Expand(p.get("user_embedding.weight"), b, -1)
	return p.Relu(p.linear(p.Cat(1, z, user), "fc2"))
}

// windowRows lists the rows of each window of a height in b images of l rows. Where a
// filter is as wide as the image, its convolution is a product with the windows, and
// several times as fast so: libtorch copies them entry by entry.
func windowRows(b, l, height int64) []int64 {
	out := make([]int64, 0, b*(l-height+1)*height)
	for image := range b {
		for first := range l - height + 1 {
			for row := range height {
				out = append(out, image*l+first+row)
			}
		}
	}
	return out
}

// penalty is the sum of the horizontal filters' Euclidean norms, weighted.
func (a caser) penalty(p pass) *tensor.Tensor {
	var norms []*tensor.Tensor
	for i := range a.h.MaxLen {
		norms = append(norms, p.View(p.Norm(p.get(a.horizontal(i)+".weight")), 1))
	}
	return p.MulScalar(p.Sum(p.Cat(0, norms...)), caserPenalty)
}
