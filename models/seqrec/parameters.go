package seqrec

import (
	"hash/fnv"
	"math"
	"math/rand/v2"

	"seralm/models/vocab"
)

// shaped is a parameter: its name, its shape, and what it holds at first.
type shaped struct {
	name  string
	shape []int64
	first first
}

// first makes the values that a parameter begins with.
type first func(seed uint64, p shaped) []float32

// Standard deviations of the item table and of the transformers' matrices: RecBole's
// initializer_range. A table that grows cannot have one that depends on its height, as
// some of RecBole's do.
const (
	itemDeviation = 0.02
	deviation     = 0.02
)

func zeros(_ uint64, p shaped) []float32 { return make([]float32, p.rows()*p.width()) }

func ones(seed uint64, p shaped) []float32 {
	out := zeros(seed, p)
	for i := range out {
		out[i] = 1
	}
	return out
}

func identity(seed uint64, p shaped) []float32 {
	out := zeros(seed, p)
	for i := 0; i < len(out); i += p.width() + 1 {
		out[i] = 1
	}
	return out
}

// normal draws from N(0, std²).
func normal(std float64) first {
	return func(seed uint64, p shaped) []float32 {
		out := make([]float32, 0, p.rows()*p.width())
		for r := range p.rows() {
			out = append(out, normalRow(seed, p.name, r, p.width(), std)...)
		}
		return out
	}
}

// zeroPadding is an item table in which padding is nothing.
func zeroPadding(seed uint64, p shaped) []float32 {
	out := normal(itemDeviation)(seed, p)
	clear(out[vocab.Padding*p.width() : (vocab.Padding+1)*p.width()])
	return out
}

// Standard deviations of PyTorch's initialisations, which draw uniformly; here they are
// normal.

// xavier is that of Glorot and Bengio (2010).
func xavier(in, out int64) float64 { return math.Sqrt(2 / float64(in+out)) }

// fanIn is that of a layer with so many inputs that nothing else is said of: uniform
// between ±1/sqrt(in).
func fanIn(in int64) float64 { return math.Sqrt(1 / float64(3*in)) }

func (p shaped) rows() int { return int(p.shape[0]) }

func (p shaped) width() int {
	n := 1
	for _, d := range p.shape[1:] {
		n *= int(d)
	}
	return n
}

// normalRow is a function of its arguments, so that a table grown row by row is
// the table made at once.
func normalRow(seed uint64, name string, row, width int, std float64) []float32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	r := rand.New(rand.NewPCG(mix(seed, uint64(row)), h.Sum64()))
	out := make([]float32, width)
	for i := range out {
		out[i] = float32(r.NormFloat64() * std)
	}
	return out
}

// mix is SplitMix64 of two words.
func mix(a, b uint64) uint64 {
	z := a*0x9e3779b97f4a7c15 + b + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
