package seqrec

import (
	"cmp"

	"seralm/models/tensor"
)

// newLightSANs is the low-rank decomposed self-attention of Fan et al. (SIGIR 2021), as
// its authors' code and RecBole have it. A history of L items is condensed to k
// interests,
//
//	g(Z) = softmax(Z T)ᵀ Z  with the softmax over L and T [d, k],
//
// of keys and of values, each by its own T; so items attend at a cost linear in L. The
// positions' attention depends on no history.
func newLightSANs(h Hyper) (architecture, error) {
	a := decoupled{
		h: h,
		shorten: func(p pass, z *tensor.Tensor, name string) *tensor.Tensor {
			share := p.Softmax(p.Matmul(z, p.get(name+".theta")), 1) // [B, L, k]
			return p.Matmul(p.Transpose(share, 1, 2), z)
		},
		shortening: func(name string) []shaped {
			return []shaped{{name + ".theta", []int64{int64(h.Dim), int64(h.Interests)}, normal(1)}}
		},
		positions: func(_ pass, embedding, _ *tensor.Tensor) *tensor.Tensor { return embedding },
	}
	return a, cmp.Or(a.check(), h.within("k_interests", h.Interests, 1, h.MaxLen))
}
