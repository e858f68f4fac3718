// Package vocab maps item ids, which are strings outside, to dense rows of the
// item table, which is what models compute with.
//
// Row 0 is padding and row 1 the unknown item; real items begin at FirstItem. An
// id gets its row after a number of sightings, and keeps it. The package holds no
// locks and does no I/O.
package vocab

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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
	rows       map[string]int32
	ids        []string       // of row FirstItem+i
	pending    map[string]int // sightings of ids without a row
}

// New returns an empty vocabulary that admits an id at its n-th sighting.
func New(admitAfter int) *Vocabulary {
	return &Vocabulary{admitAfter: max(1, admitAfter), rows: map[string]int32{}, pending: map[string]int{}}
}

// FromIDs returns a vocabulary with the ids at rows FirstItem, FirstItem+1, ...
func FromIDs(ids []string) *Vocabulary {
	v := New(1)
	for _, id := range ids {
		v.admit(id)
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
// admitted.
func (v *Vocabulary) Observe(id string) int32 {
	if r, ok := v.rows[id]; ok {
		return r
	}
	if n := v.pending[id] + 1; n < v.admitAfter {
		if len(v.pending) >= maxPending {
			clear(v.pending)
		}
		v.pending[id] = n
		return Unknown
	}
	delete(v.pending, id)
	return v.admit(id)
}

func (v *Vocabulary) admit(id string) int32 {
	if r, ok := v.rows[id]; ok {
		return r
	}
	r := int32(FirstItem + len(v.ids))
	v.rows[id] = r
	v.ids = append(v.ids, id)
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

// IDs returns the ids in the order of their rows, from FirstItem. The slice must
// not be changed; it stays valid while the vocabulary grows.
func (v *Vocabulary) IDs() []string { return v.ids[:len(v.ids):len(v.ids)] }

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
}

// State returns the state; it shares no memory that later calls change.
func (v *Vocabulary) State() State {
	s := State{AdmitAfter: v.admitAfter, IDs: v.IDs(), Pending: make(map[string]int, len(v.pending))}
	for id, n := range v.pending {
		s.Pending[id] = n
	}
	return s
}

// FromState restores a vocabulary. It refuses a list with an id twice.
func FromState(s State) (*Vocabulary, error) {
	v := New(s.AdmitAfter)
	for i, id := range s.IDs {
		if r := v.admit(id); int(r) != FirstItem+i {
			return nil, fmt.Errorf("vocabulary: id %q stands at rows %d and %d", id, r, FirstItem+i)
		}
	}
	for id, n := range s.Pending {
		v.pending[id] = n
	}
	return v, nil
}
