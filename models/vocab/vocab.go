// Package vocab maps item ids, which are strings outside, to dense rows of the
// item table, which is what models compute with.
//
// Row 0 is padding and row 1 the unknown item; real items begin at FirstItem. An
// id gets its row after a number of sightings, and keeps it while there is room: at a
// limit, a new one gets the row of the id that was not seen for longest. The package
// holds no locks and does no I/O.
package vocab

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

// Reserved rows of the item table.
const (
	Padding   = 0
	Unknown   = 1
	FirstItem = 2
)

// maxPending bounds the ids that wait for admission. When it is reached the
// waiting ids are forgotten at once: a bound that evicts one by one would need an
// order, and whoever comes often enough is soon back.
const maxPending = 1 << 20

// Vocabulary maps ids to rows. The zero value is not usable; see New.
type Vocabulary struct {
	admitAfter int
	limit      int
	rows       map[string]int32
	ids        []string       // of row FirstItem+i
	pending    map[string]int // sightings of ids without a row

	// The order in which ids with a row were seen, the newest first, and where each row
	// stands in it. Without a limit nobody asks, and both are empty.
	seen   list.List
	places []*list.Element // of row FirstItem+i; the values are rows
}

// New returns an empty vocabulary that admits an id at its n-th sighting, and holds at
// most limit of them; 0 = all.
func New(admitAfter, limit int) *Vocabulary {
	return &Vocabulary{admitAfter: max(1, admitAfter), limit: limit, rows: map[string]int32{}, pending: map[string]int{}}
}

// FromIDs returns a vocabulary with the ids at rows FirstItem, FirstItem+1, ...
func FromIDs(ids []string) *Vocabulary {
	v := New(1, 0)
	for _, id := range ids {
		v.append(id)
	}
	return v
}

// Row returns the id's row; (Unknown, false) if it has none.
func (v *Vocabulary) Row(id string) (int32, bool) {
	if r, ok := v.rows[id]; ok {
		return r, true
	}
	return Unknown, false
}

// Observe counts a sighting of the id and returns its row, Unknown before it is
// admitted, and the id that lost that row to it, if one did.
func (v *Vocabulary) Observe(id string) (row int32, lost string) {
	if r, ok := v.rows[id]; ok {
		if v.limit > 0 {
			v.seen.MoveToFront(v.places[r-FirstItem])
		}
		return r, ""
	}
	if n := v.pending[id] + 1; n < v.admitAfter {
		if len(v.pending) >= maxPending {
			clear(v.pending)
		}
		v.pending[id] = n
		return Unknown, ""
	}
	delete(v.pending, id)
	if v.limit == 0 || len(v.ids) < v.limit {
		return v.append(id), ""
	}
	oldest := v.seen.Back()
	v.seen.MoveToFront(oldest)
	row = oldest.Value.(int32)
	lost = v.ids[row-FirstItem]
	delete(v.rows, lost)
	v.rows[id], v.ids[row-FirstItem] = row, id
	return row, lost
}

// append gives an id that has none the next row.
func (v *Vocabulary) append(id string) int32 {
	r := int32(FirstItem + len(v.ids))
	v.rows[id] = r
	v.ids = append(v.ids, id)
	if v.limit > 0 {
		v.places = append(v.places, v.seen.PushFront(r))
	}
	return r
}

// ID returns the id at a row, "" for the reserved rows and beyond the table.
func (v *Vocabulary) ID(row int32) string {
	if i := int(row) - FirstItem; i >= 0 && i < len(v.ids) {
		return v.ids[i]
	}
	return ""
}

// Rows is the height of the item table: the reserved rows and the items.
func (v *Vocabulary) Rows() int { return FirstItem + len(v.ids) }

// IDs returns the ids in the order of their rows, from FirstItem.
func (v *Vocabulary) IDs() []string { return slices.Clone(v.ids) }

// Hash identifies the mapping: the hex SHA-256 of the ids in order.
func (v *Vocabulary) Hash() string { return Hash(v.ids) }

// Hash is the hex SHA-256 of ids in order, each preceded by its length, so that
// no two different lists share a text.
func Hash(ids []string) string {
	h := sha256.New()
	for _, id := range ids {
		fmt.Fprintf(h, "%d:%s", len(id), id)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// State is everything a Vocabulary holds, for a checkpoint.
type State struct {
	AdmitAfter int            `json:"admit_after"`
	IDs        []string       `json:"ids"`
	Pending    map[string]int `json:"pending"`
	Seen       []int32        `json:"seen,omitempty"` // rows, seen last first; of one with a limit
}

// State returns the state; it shares no memory that later calls change.
func (v *Vocabulary) State() State {
	s := State{AdmitAfter: v.admitAfter, IDs: v.IDs(), Pending: make(map[string]int, len(v.pending))}
	maps.Copy(s.Pending, v.pending)
	for e := v.seen.Front(); e != nil; e = e.Next() {
		s.Seen = append(s.Seen, e.Value.(int32))
	}
	return s
}

// FromState restores a vocabulary, with another limit if need be; below the rows that
// there are, no more are added. It refuses a list with an id twice, and an order that is
// not of these rows. A state without one, of a vocabulary without limit, has its ids in
// the order in which they came.
func FromState(s State, limit int) (*Vocabulary, error) {
	v := New(s.AdmitAfter, limit)
	for i, id := range s.IDs {
		if r, ok := v.rows[id]; ok {
			return nil, fmt.Errorf("vocabulary: id %q stands at rows %d and %d", id, r, FirstItem+i)
		}
		v.append(id)
	}
	maps.Copy(v.pending, s.Pending)
	if limit == 0 || s.Seen == nil {
		return v, nil
	}
	met := make([]bool, len(s.IDs))
	for _, r := range s.Seen {
		if i := int(r) - FirstItem; i >= 0 && i < len(met) && !met[i] {
			met[i] = true
			v.seen.MoveToBack(v.places[i])
			continue
		}
		return nil, fmt.Errorf("vocabulary: the order of its %d ids names row %d twice, or it is none of them", len(s.IDs), r)
	}
	if len(s.Seen) != len(s.IDs) {
		return nil, fmt.Errorf("vocabulary: the order of its %d ids has %d", len(s.IDs), len(s.Seen))
	}
	return v, nil
}
