// Package ranking chooses the n best of many scored rows.
//
// It knows numbers only: no items, no users, no I/O. It imports nothing of
// SeRALM and must never allocate per row, because it looks at every row of the
// item table in every look-up.
package ranking

import (
	"math"
	"slices"
)

// Scored is a row of the item table and its score.
type Scored struct {
	Row   int32
	Score float32
}

// Top keeps the n best rows offered to it: the highest score first, and of equal
// scores the lower row, so that an answer does not depend on the order of offers.
// The zero Top keeps nothing until Reset; it is reusable and not safe for
// concurrent use.
type Top struct {
	n    int
	heap []Scored // the worst of the kept rows is at the root
}

// Reset empties t and lets it keep n rows, reusing its memory.
func (t *Top) Reset(n int) {
	t.n = max(n, 0)
	t.heap = slices.Grow(t.heap[:0], t.n)
}

// Beats reports whether a row with this score would be kept. What is not finite
// never is.
func (t *Top) Beats(row int32, score float32) bool {
	if !(score >= -math.MaxFloat32 && score <= math.MaxFloat32) || t.n == 0 {
		return false
	}
	return len(t.heap) < t.n || before(Scored{row, score}, t.heap[0])
}

// Offer keeps the row if it is among the n best so far.
func (t *Top) Offer(row int32, score float32) {
	if !t.Beats(row, score) {
		return
	}
	if len(t.heap) < t.n {
		t.heap = append(t.heap, Scored{row, score})
		t.up(len(t.heap) - 1)
		return
	}
	t.heap[0] = Scored{row, score}
	t.down(0)
}

// Scan offers every row of scores (row i has score scores[i]) that keep admits.
// keep is asked only about rows that would enter the list, about n*ln(N/n) of N
// times when it admits most, so a filter may be expensive and the table long.
// A nil keep admits all.
func (t *Top) Scan(scores []float32, keep func(row int32) bool) {
	worst := t.worst()
	for i, s := range scores {
		if s < worst { // an equal score has a higher row, which Offer settles
			continue
		}
		if row := int32(i); t.Beats(row, s) && (keep == nil || keep(row)) {
			t.Offer(row, s)
			worst = t.worst()
		}
	}
}

// worst is the score below which nothing enters the list.
func (t *Top) worst() float32 {
	if t.n == 0 {
		return math.MaxFloat32
	}
	if len(t.heap) < t.n {
		return -math.MaxFloat32
	}
	return t.heap[0].Score
}

// Sorted returns the kept rows, best first. The slice belongs to t and is valid
// until the next Reset; Offer must not be called in between.
func (t *Top) Sorted() []Scored {
	slices.SortFunc(t.heap, func(a, b Scored) int {
		if before(a, b) {
			return -1
		}
		return 1
	})
	return t.heap
}

// before reports whether a ranks above b.
func before(a, b Scored) bool {
	return a.Score > b.Score || (a.Score == b.Score && a.Row < b.Row)
}

func (t *Top) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !before(t.heap[parent], t.heap[i]) {
			return
		}
		t.heap[parent], t.heap[i] = t.heap[i], t.heap[parent]
		i = parent
	}
}

func (t *Top) down(i int) {
	for {
		worst := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(t.heap); child++ {
			if before(t.heap[worst], t.heap[child]) {
				worst = child
			}
		}
		if worst == i {
			return
		}
		t.heap[worst], t.heap[i] = t.heap[i], t.heap[worst]
		i = worst
	}
}
