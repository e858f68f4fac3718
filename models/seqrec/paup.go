package seqrec

import (
	"cmp"

	"seralm/models/tensor"
)

// paupReduction is how many channels become one between the two convolutions.
const paupReduction = 16

// newPAUP is the progressive self-attention of Zhu et al. (SIGIR 2022), as its authors'
// code has it: LightSANs' encoder, where two strided convolutions over time shorten keys
// and values to m segments,
//
//	g(Z) = conv2(relu(conv1(Z))),  d -> d/16 -> d channels,
//
// conv1 with kernel and stride k1, conv2 with k2 = ceil(L/k1 / m) and padding; and where
// the positions' attention sees the items: p = LN(P + X).
func newPAUP(h Hyper) (architecture, error) {
	if err := cmp.Or(
		h.within("dim", h.Dim, paupReduction, 1<<16),
		h.within("m (segments)", h.Segments, 1, h.MaxLen),
		h.within("k1 (kernel)", h.Kernel, 1, h.MaxLen/max(1, h.Segments)),
	); err != nil {
		return nil, err
	}
	k1 := int64(h.Kernel)
	k2, padding := paupSecond(h)
	d, channels := int64(h.Dim), int64(h.Dim/paupReduction)
	a := decoupled{
		h: h,
		shorten: func(p pass, z *tensor.Tensor, name string) *tensor.Tensor {
			z = p.Relu(p.conv(p.Transpose(z, 1, 2), name+".conv1a", k1, 0))
			return p.Transpose(p.conv(z, name+".conv2a", k2, padding), 1, 2)
		},
		shortening: func(name string) []shaped {
			return append(convShapes(name+".conv1a", channels, d, k1), convShapes(name+".conv2a", d, channels, k2)...)
		},
		positions: func(p pass, embedding, x *tensor.Tensor) *tensor.Tensor { return p.Add(embedding, x) },
	}
	return a, a.check()
}

// paupSecond is the kernel, which is the stride too, and the padding of the second
// convolution: k2 = ceil(mid/m), padding = ceil((k2 m - mid)/2), mid = L/k1.
func paupSecond(h Hyper) (k2, padding int64) {
	l, m, k1 := int64(h.MaxLen), int64(h.Segments), int64(h.Kernel)
	k2 = (l + k1*m - 1) / (k1 * m)
	return k2, (k2*m*k1 - l + 2*k1 - 1) / (2 * k1)
}

func (p pass) conv(x *tensor.Tensor, name string, stride, padding int64) *tensor.Tensor {
	return p.Conv1d(x, p.get(name+".weight"), p.get(name+".bias"), stride, padding)
}
