package llm

import (
	"math"

	"seralm/models/tensor"
)

// input is a batch of sequences padded to one length T.
type input struct {
	ids      *tensor.Tensor // int64 [B, T]
	cos, sin *tensor.Tensor // of the rotary embedding: [B or 1, T, 1, D]
	mask     *tensor.Tensor // what a query may look at: bool, broadcast to [B, KV, G*T, U]
}

// hidden returns the hidden states [B, T, d] before the output layer. With a cache
// the sequences go on where the cache ends.
func (m *Model) hidden(s *tensor.Scope, in input, c *cache) *tensor.Tensor {
	x := s.Embedding(m.embed, in.ids)
	for i := range m.layers {
		x = s.Only(func(s *tensor.Scope) *tensor.Tensor { return m.block(s, i, x, in, c) })
	}
	if c != nil {
		c.length += in.ids.Dim(1)
	}
	return m.rmsNorm(s, x, m.norm)
}

func (m *Model) block(s *tensor.Scope, i int, x *tensor.Tensor, in input, c *cache) *tensor.Tensor {
	l := &m.layers[i]
	x = s.Add(x, m.attention(s, i, m.rmsNorm(s, x, l.attentionNorm), in, c))
	n := m.rmsNorm(s, x, l.innerNorm)
	return s.Add(x, l.down.apply(s, s.Mul(s.Silu(l.gate.apply(s, n)), l.up.apply(s, n))))
}

func (m *Model) attention(s *tensor.Scope, i int, x *tensor.Tensor, in input, c *cache) *tensor.Tensor {
	l := &m.layers[i]
	b, t := x.Dim(0), x.Dim(1)
	kv, d := int64(m.config.KVHeads), int64(m.config.HeadDim)
	group := int64(m.config.Heads) / kv
	q := rotate(s, s.View(l.q.apply(s, x), b, t, kv*group, d), in)
	k := s.Transpose(rotate(s, s.View(l.k.apply(s, x), b, t, kv, d), in), 1, 2)
	v := s.Transpose(s.View(l.v.apply(s, x), b, t, kv, d), 1, 2)
	if c != nil {
		k, v = c.add(s, i, k, v)
	}
	// The queries of the heads that share a key are queries of one head to libtorch:
	// nothing is repeated.
	q = s.View(s.Permute(s.View(q, b, t, kv, group, d), 0, 2, 3, 1, 4), b, kv, group*t, d)
	y := s.Attention(q, k, v, in.mask, 0)
	y = s.Permute(s.View(y, b, kv, group, t, d), 0, 3, 1, 2, 4)
	return l.o.apply(s, s.View(y, b, t, kv*group*d))
}

// rmsNorm is x / sqrt(mean(x²) + eps) in float32, times w.
func (m *Model) rmsNorm(s *tensor.Scope, x, w *tensor.Tensor) *tensor.Tensor {
	f := s.To(x, tensor.Float32)
	scale := s.Rsqrt(s.AddScalar(s.MeanDim(s.Square(f), -1, true), m.config.Eps))
	return s.Mul(s.To(s.Mul(f, scale), m.kind), w)
}

// logits returns those of hidden states [..., d], float32.
func (m *Model) logits(s *tensor.Scope, hidden *tensor.Tensor) *tensor.Tensor {
	return s.To(m.head.apply(s, hidden), tensor.Float32)
}

// rotate turns each pair (i, i+D/2) of a head's dimensions by its position times a
// frequency (Su et al. 2021, in the layout of Hugging Face): x cos + (x₂, x₁) sin,
// where sin has its first half negated.
func rotate(s *tensor.Scope, x *tensor.Tensor, in input) *tensor.Tensor {
	half := x.Dim(-1) / 2
	swapped := s.Cat(-1, s.Narrow(x, -1, half, half), s.Narrow(x, -1, 0, half))
	return s.Add(s.Mul(x, in.cos), s.Mul(swapped, in.sin))
}

// angles returns cos and sin [B, T, 1, D] of positions [B*T].
func (m *Model) angles(s *tensor.Scope, positions []int, b, t int) (cos, sin *tensor.Tensor) {
	d := m.config.HeadDim
	// In float32 like the reference, whose rounding moves the angles of far positions.
	frequency := make([]float32, d/2)
	for i := range frequency {
		frequency[i] = float32(1 / math.Pow(m.config.Theta, float64(2*i)/float64(d)))
	}
	c, z := make([]float32, len(positions)*d), make([]float32, len(positions)*d)
	for n, p := range positions {
		for i, f := range frequency {
			sine, cosine := math.Sincos(float64(float32(p) * f))
			c[n*d+i], c[n*d+i+d/2] = float32(cosine), float32(cosine)
			z[n*d+i], z[n*d+i+d/2] = float32(-sine), float32(sine)
		}
	}
	shape := []int64{int64(b), int64(t), 1, int64(d)}
	return s.To(s.F32(c, shape...), m.kind), s.To(s.F32(z, shape...), m.kind)
}

// cache holds the keys and values [B, KV, capacity, D] of every layer. Of row b the
// columns padFrom to padFrom+pad[b] are padding: no token of its.
type cache struct {
	keys, values []*tensor.Tensor
	length       int64
	padFrom      int
	pad          []int
}

func (m *Model) newCache(s *tensor.Scope, rows, capacity int) *cache {
	c := &cache{}
	for range m.layers {
		for _, into := range []*[]*tensor.Tensor{&c.keys, &c.values} {
			*into = append(*into, s.Zeros(m.kind, int64(rows), int64(m.config.KVHeads), int64(capacity), int64(m.config.HeadDim)))
		}
	}
	return c
}

// add appends the keys and values of layer i and returns all so far.
func (c *cache) add(s *tensor.Scope, i int, k, v *tensor.Tensor) (keys, values *tensor.Tensor) {
	n := k.Dim(2)
	put := func(store, x *tensor.Tensor) *tensor.Tensor {
		s.CopyInPlace(s.Narrow(store, 2, c.length, n), x)
		return s.Narrow(store, 2, 0, c.length+n)
	}
	return put(c.keys[i], k), put(c.values[i], v)
}

// pick makes row j of the cache what row rows[j] was.
func (c *cache) pick(s *tensor.Scope, rows []int64) {
	index := s.I64(rows, int64(len(rows)))
	for _, stores := range [][]*tensor.Tensor{c.keys, c.values} {
		for i := range stores {
			stores[i] = s.IndexSelect(stores[i], 0, index)
		}
	}
	pad := make([]int, len(rows))
	for b, r := range rows {
		pad[b] = c.pad[r]
	}
	c.pad = pad
}
