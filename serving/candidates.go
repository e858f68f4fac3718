package serving

import (
	"math"

	"seralm/models/vocab"
	"seralm/serving/catalogue"
	"seralm/serving/scorer"
)

// rules say which items may appear in the answer of one query.
type rules struct {
	unannounced bool // items that no item event described are allowed
	categories  []string
	candidates  map[string]struct{} // nil: every item
	blocked     map[string]struct{} // seen, excluded, or in the answer already
}

// described reports whether what is known of an item lets it appear. It is asked
// with nil for an item that no event described.
func (r *rules) described(e *catalogue.Entry) bool {
	if e == nil {
		return r.unannounced && len(r.categories) == 0
	}
	return e.Recommendable() && (len(r.categories) == 0 || e.In(r.categories))
}

// admits reports whether the item may appear in the answer.
func (r *rules) admits(id string, item *catalogue.Item) bool {
	if _, blocked := r.blocked[id]; blocked {
		return false
	}
	if r.candidates != nil {
		if _, ok := r.candidates[id]; !ok {
			return false
		}
	}
	if item == nil {
		return r.described(nil)
	}
	return r.described(item.Entry())
}

// mask takes rows out of the ranking.
func mask(scores []float32, rows []int32) {
	for _, row := range rows {
		scores[row] = float32(math.Inf(-1))
	}
}

// maskIDs takes items out of the ranking.
func maskIDs(scores []float32, m *scorer.Model, ids []string) {
	for _, id := range ids {
		if row, ok := m.Row(id); ok {
			scores[row] = float32(math.Inf(-1))
		}
	}
}

// rank keeps in w.top the best rows of w.scores that the query allows.
func (w *work) rank(m *scorer.Model, scores []float32) {
	q := w.query
	if q.excludeSeen() {
		mask(scores, w.rows)
	}
	maskIDs(scores, m, q.Exclude)
	keep := func(row int32) bool {
		return row >= vocab.FirstItem && w.rules.described(m.Item(row).Entry())
	}
	w.top.Reset(q.N)
	if q.Candidates == nil {
		w.top.Scan(scores, keep)
		return
	}
	for _, id := range q.Candidates {
		if row, ok := m.Row(id); ok && keep(row) {
			w.top.Offer(row, scores[row])
			scores[row] = float32(math.Inf(-1)) // a candidate named twice is one
		}
	}
}
