package seqrec

import (
	"math"
	"math/rand/v2"

	"seralm/models/tensor"
	"seralm/models/vocab"
)

// candidates are the items of a sampled softmax, and all that its step knows of the item
// table: the rows that are no items, what the batch names, and what was drawn.
type candidates struct {
	rows []int64 // of the item table; nil: all of it
	// named is how many of them, the first, stand for themselves. Each of the others was
	// drawn and stands for weight items.
	named  int
	weight float64
	place  map[int64]int64 // of a row of the item table among rows
}

// sample returns the candidates of a step on a table of so many items: all that the batch
// names, in histories or as targets (which are counted from vocab.FirstItem), and n more,
// drawn uniformly without replacement.
//
// An item that is drawn with probability n / items and then weighs its inverse leaves the
// sum under a softmax unbiased (the logQ correction of Bengio and Senecal, 2008). What the
// batch names is there for certain and weighs 1: among it are the targets, and, as often
// as they are taken, the popular items, whose part in the sum is large.
func sample(groups []*group, targets []int64, items, n int, seed uint64) candidates {
	n = min(n, items)
	c := candidates{weight: float64(items) / float64(n), place: map[int64]int64{}}
	add := func(row int64) {
		if _, ok := c.place[row]; !ok {
			c.place[row] = int64(len(c.rows))
			c.rows = append(c.rows, row)
		}
	}
	for row := range int64(vocab.FirstItem) {
		add(row)
	}
	for _, g := range groups {
		for _, row := range g.ids {
			add(row)
		}
	}
	for _, t := range targets {
		add(vocab.FirstItem + t)
	}
	c.named = len(c.rows)
	r := rand.New(rand.NewPCG(seed, 0x5a))
	drawn := make(map[int64]bool, n)
	for last := items - n; last < items; last++ { // Floyd's
		row := r.Int64N(int64(last) + 1)
		if drawn[row] {
			row = int64(last)
		}
		drawn[row] = true
		add(vocab.FirstItem + row)
	}
	return c
}

// rename has groups and targets name the candidates' places in place of rows of the item
// table.
func (c candidates) rename(groups []*group, targets []int64) {
	for _, g := range groups {
		for i, row := range g.ids {
			g.ids[i] = c.place[row]
		}
	}
	for i, t := range targets {
		targets[i] = c.place[vocab.FirstItem+t] - vocab.FirstItem
	}
}

// logWeights [1, C] of the candidates that are items; nil where all are.
func (c candidates) logWeights(s *tensor.Scope) *tensor.Tensor {
	if c.rows == nil {
		return nil
	}
	weights := make([]float32, len(c.rows))
	for i := c.named; i < len(weights); i++ {
		weights[i] = float32(math.Log(c.weight))
	}
	return s.F32(weights[vocab.FirstItem:], 1, int64(len(weights)-vocab.FirstItem))
}
