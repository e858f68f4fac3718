package seqrec

import (
	"math"
	"math/rand/v2"
	"slices"

	"seralm/models/tensor"
	"seralm/models/vocab"
)

// candidates are the items of a sampled softmax, rows counted from vocab.FirstItem.
type candidates struct {
	rows []int64
	// named is how many of them, the first, the batch names. Each of the others was drawn
	// and stands for weight items.
	named  int
	weight float64
	place  map[int64]int64 // of a row among rows
}

// sample returns the candidates of a step on a table of so many items: all that the batch
// names, in histories or as targets, and n more, drawn uniformly without replacement.
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
	for _, g := range groups {
		for _, id := range g.ids {
			if id >= vocab.FirstItem {
				add(id - vocab.FirstItem)
			}
		}
	}
	for _, row := range targets {
		add(row)
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
		add(row)
	}
	return c
}

// ask puts a question about all items to the candidates alone, which are these rows.
func (c candidates) ask(s *tensor.Scope, q question, rows *tensor.Tensor) question {
	q.items = s.IndexSelect(q.items, 0, rows)
	q.targets = c.places(q.targets)
	q.seen = slices.Clone(q.seen)
	for i := range q.seen {
		q.seen[i].at = c.places(q.seen[i].at)
	}
	weights := make([]float32, len(c.rows))
	for i := c.named; i < len(weights); i++ {
		weights[i] = float32(math.Log(c.weight))
	}
	q.logWeights = s.F32(weights, 1, int64(len(weights)))
	return q
}

func (c candidates) places(rows []int64) []int64 {
	rows = slices.Clone(rows)
	for i, r := range rows {
		rows[i] = c.place[r]
	}
	return rows
}
