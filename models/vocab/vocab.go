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
	// stands in it. While there never was a limit nobody asks, and places is nil.
	seen   list.List
	places []*list.Element // of row FirstItem+i; the values are rows
}

// New returns an empty vocabulary that admits an id at its n-th sighting, all of them
// until SetLimit says otherwise.
func New(admitAfter int) *Vocabulary {
	return &Vocabulary{admitAfter: max(1, admitAfter), rows: map[string]int32{}, pending: map[string]int{}}
}

// SetLimit bounds how many ids have a row; 0 = all. Rows that are there stay: below them
// none is added. The order of sightings begins with the first limit; until then ids are
// as old as their rows.
func (v *Vocabulary) SetLimit(n int) {
	v.limit = n
	if n > 0 && v.places == nil {
		v.remember()
	}
}

// remember begins the order of sightings.
func (v *Vocabulary) remember() {
	v.places = make([]*list.Element, len(v.ids))
	for i := range v.ids {
		v.places[i] = v.seen.PushFront(int32(FirstItem + i))
	}
}

// SetAdmitAfter changes how many sightings give an id a row, from the next one on.
func (v *Vocabulary) SetAdmitAfter(n int) { v.admitAfter = max(1, n) }

// FromIDs returns a vocabulary with the ids at rows FirstItem, FirstItem+1, ...
func FromIDs(ids []string) *Vocabulary {
	v := New(1)
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
		if v.places != nil {
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
	if v.places != nil {
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
	Seen       []int32        `json:"seen,omitempty"` // rows, seen last first; of one that had a limit
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

// FromState restores a vocabulary, whose limit is for the caller to set. It refuses a list
// with an id twice, and an order that is not of these rows.
func FromState(s State) (*Vocabulary, error) {
	v := New(s.AdmitAfter)
	for i, id := range s.IDs {
		if r, ok := v.rows[id]; ok {
			return nil, fmt.Errorf("vocabulary: id %q stands at rows %d and %d", id, r, FirstItem+i)
		}
		v.append(id)
	}
	maps.Copy(v.pending, s.Pending)
	if s.Seen == nil {
		return v, nil
	}
	v.remember()
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
