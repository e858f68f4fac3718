// Package tower makes the row that an item has in the item table from what is known
// of its text. A recommender with knowledge represents item i as
//
//	e_i = [E'[i] ; n_i] W + b,    n_i = scale (v_i - mean)
//
// with v_i its knowledge vector (the paper's r_s, Eq. 2 and section 4.3) and E'[i] the
// row of its id, or the learned unknown row while nothing is known of it but the text.
// What a recommender publishes is its folded table, the e_i of all rows; this package
// holds the little that is needed to add a row for an item that has only a vector.
//
// Plain arithmetic: it imports models/snapshot for the tensor type, links nothing
// native, and never does I/O.
package tower

import (
	"fmt"
	"math"
	"slices"

	"seralm/models/snapshot"
	"seralm/models/vocab"
)

// Names of the tensors in a snapshot.
const (
	Weight = "item_tower.knowledge.weight" // [d, k]: n_i's part of W, transposed
	Mean   = "item_tower.mean"             // [k]
	Scale  = "item_tower.scale"            // [1]

	itemTable = "item_embedding.weight" // [R, d], folded
)

// Statistics bring vectors around the origin and to a common size. Vectors of one text
// encoder share a large part, which would drown what tells items apart.
type Statistics struct {
	Mean  []float32
	Scale float32
}

// Identity leaves vectors of k numbers as they are.
func Identity(k int) Statistics { return Statistics{make([]float32, k), 1} }

// Measure takes the statistics of vectors of k numbers, nil ones left out: what they
// centre has a mean squared norm of 1. A weight then moves a row about as far in a step
// as the row of an id moves, whatever k is.
func Measure(vectors [][]float32, k int) Statistics {
	sum, square, n := make([]float64, k), 0.0, 0
	for _, v := range vectors {
		for i, x := range v {
			sum[i] += float64(x)
		}
		if v != nil {
			n++
		}
	}
	s := Identity(k)
	if n == 0 {
		return s
	}
	for i := range sum {
		s.Mean[i] = float32(sum[i] / float64(n))
	}
	for _, v := range vectors {
		for i, x := range v {
			d := float64(x) - sum[i]/float64(n)
			square += d * d
		}
	}
	// The vectors may all be the same, or differ by rounding only: no size to speak of.
	if scale := float32(math.Sqrt(float64(n) / square)); scale < 1e6 {
		s.Scale = scale
	}
	return s
}

// Normalise returns n of a vector.
func (s Statistics) Normalise(v []float32) []float32 {
	n := make([]float32, len(v))
	for i, x := range v {
		n[i] = (x - s.Mean[i]) * s.Scale
	}
	return n
}

// Gradient returns a loss's gradient by a vector v, given the one by its n: what trains
// the text encoder that made v. The statistics are held fixed, as a step holds them.
func (s Statistics) Gradient(byN []float32) []float32 {
	byV := make([]float32, len(byN))
	for i, g := range byN {
		byV[i] = g * s.Scale
	}
	return byV
}

// Tower makes rows as one snapshot's model would.
type Tower struct {
	stats   Statistics
	weight  []float32 // [d, k]
	unknown []float32 // [d]: the table's row of the unknown item
}

// New reads the tower out of a snapshot's tensors; nil if its model has none, which is
// a Base.
func New(tensors map[string]snapshot.Tensor) (*Tower, error) {
	w, ok := tensors[Weight]
	if !ok {
		return nil, nil
	}
	if len(w.Shape) != 2 {
		return nil, fmt.Errorf("item tower: %s has shape %v, not two dimensions", Weight, w.Shape)
	}
	d, k := w.Shape[0], w.Shape[1]
	for name, shape := range map[string][]int64{Mean: {k}, Scale: {1}} {
		if t := tensors[name]; !slices.Equal(t.Shape, shape) {
			return nil, fmt.Errorf("item tower: %s has shape %v, %s wants %v", name, t.Shape, Weight, shape)
		}
	}
	table := tensors[itemTable]
	if len(table.Shape) != 2 || table.Shape[0] <= vocab.Unknown || table.Shape[1] != d {
		return nil, fmt.Errorf("item tower: %s has shape %v, %s makes rows of %d", itemTable, table.Shape, Weight, d)
	}
	return &Tower{
		stats:   Statistics{tensors[Mean].Data, tensors[Scale].Data[0]},
		weight:  w.Data,
		unknown: slices.Clone(table.Data[vocab.Unknown*d : (vocab.Unknown+1)*d]), // not to hold on to the table
	}, nil
}

// Dim is the length of a knowledge vector.
func (t *Tower) Dim() int { return len(t.stats.Mean) }

// Reads reports whether the model has learnt from any vector. One that has not, whose W
// is as it began, makes the same row of all.
func (t *Tower) Reads() bool {
	return slices.ContainsFunc(t.weight, func(w float32) bool { return w != 0 })
}

// Row returns the row [d] of an item whose id nobody has seen and whose knowledge vector
// is v [k]: e = [E[unknown] ; n] W + b. The row of the unknown item is the same without
// n, so W's upper part and b are in it already.
func (t *Tower) Row(v []float32) ([]float32, error) {
	if len(v) != t.Dim() {
		return nil, fmt.Errorf("item tower: a vector of %d numbers, the model was trained with %d", len(v), t.Dim())
	}
	n := t.stats.Normalise(v)
	row := make([]float32, len(t.unknown))
	for i, e := range t.unknown {
		row[i] = e + dot(t.weight[i*len(n):(i+1)*len(n)], n)
		if x := float64(row[i]); math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, fmt.Errorf("item tower: number %d of the row is %v: the vector is not finite, or far from those learnt", i, row[i])
		}
	}
	return row, nil
}

// dot has four sums, for additions of one would wait for each other: rows are made for
// thousands of items at a time.
func dot(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}
