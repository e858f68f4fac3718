package scorer

import (
	"slices"
	"sync"
	"time"
	"unique"

	"seralm/models/tower"
	"seralm/serving/catalogue"
)

// text is what is known of one item beside its clicks: the vector of a text about it.
type text struct {
	id      string
	vector  []float32
	encoder unique.Handle[string]
	item    *catalogue.Item // nil until the catalogue has heard of it

	row   []float32    // as maker makes it; nil if it cannot
	maker *tower.Tower // nil before the first try
}

// make brings the row up to date. The error is returned by the try that finds it; the
// tries after it are none.
func (t *text) make(by *tower.Tower) (err error) {
	if t.maker != by {
		t.row, err = by.Row(t.vector)
		t.maker = by
	}
	return err
}

// texts are the vectors of items, as far as the knowledge topic was read. It is safe
// for concurrent use.
//
// Those of items that the recommender has learnt are kept as well: a rollback, or the
// snapshot of a trainer that began anew, may lack the items, and their records are not
// read twice. Memory is bounded: at most limit items (serving.catalogue, for an item
// that is not described is not served), each 4 bytes a number and about 200 more; the
// row adds 4 bytes a number where it is needed. That is 1.7 kB with the vectors of 384
// numbers that the default encoder makes, and 2 kB with a row of 64.
type texts struct {
	limit int

	mu      sync.Mutex
	by      map[string]*text
	order   []*text // by first arrival, so that rows keep their order from table to table
	version int64   // of the contents
	refused int     // records that found no room
	newest  time.Time
}

func newTexts(limit int) *texts { return &texts{limit: limit, by: map[string]*text{}} }

// put takes the vector of an item. It returns false when there is no room for another
// item, and an error when by, if there is one, cannot make a row of the vector.
func (x *texts) put(id string, vector []float32, encoder string, at time.Time, by *tower.Tower) (room bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	t, ok := x.by[id]
	if !ok {
		if len(x.by) >= x.limit {
			x.refused++
			return false, nil
		}
		t = &text{id: id}
		x.by[id], x.order = t, append(x.order, t)
	}
	t.vector, t.encoder, t.row, t.maker = vector, unique.Make(encoder), nil, nil
	x.version++
	x.saw(at)
	if by != nil {
		err = t.make(by) // now, record by record, rather than all at once for a table
	}
	return true, err
}

// remove forgets an item.
func (x *texts) remove(id string, at time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if t, ok := x.by[id]; ok {
		t.vector = nil // rows takes it out of order
		delete(x.by, id)
		x.version++
	}
	x.saw(at)
}

func (x *texts) saw(at time.Time) {
	if at.After(x.newest) {
		x.newest = at
	}
}

// described says that the catalogue knows more of an item than it did. It reports
// whether anything else is known of it.
func (x *texts) described(id string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.by[id]; !ok {
		return false
	}
	x.version++
	return true
}

// basis is what the rows of a model were made from.
type basis struct {
	texts   *texts
	version int64
}

func (x *texts) now() basis {
	x.mu.Lock()
	defer x.mu.Unlock()
	return basis{x, x.version}
}

// breath is after how many items rows lets others in: another tower makes all rows
// anew, which may take seconds.
const breath = 256

// rows makes the rows of the items that m has not learnt and that items describes. Of
// what the model cannot use, failed is told. The basis is that of the beginning: what
// changes meanwhile makes another. One call at a time, for no other shortens x.order.
func (x *texts) rows(m *Model, items *catalogue.Catalogue, failed func(encoder string, err error)) (by []*catalogue.Item, rows [][]float32, from basis) {
	x.mu.Lock()
	defer x.mu.Unlock()
	from = basis{x, x.version}
	x.order = slices.DeleteFunc(x.order, func(t *text) bool { return t.vector == nil })
	for i := 0; i < len(x.order); i++ {
		if i%breath == breath-1 {
			x.mu.Unlock()
			x.mu.Lock()
		}
		t := x.order[i]
		if t.vector == nil {
			continue // removed just now
		}
		if _, learnt := m.vocabulary.Row(t.id); learnt {
			continue
		}
		if t.item == nil {
			t.item, _ = items.Get(t.id)
		}
		if t.item == nil || t.item.Entry() == nil || t.item.Entry().Deleted {
			continue
		}
		if err := t.make(m.tower); err != nil {
			failed(t.encoder.Value(), err)
		}
		if t.row != nil {
			by, rows = append(by, t.item), append(rows, t.row)
		}
	}
	return by, rows, from
}
