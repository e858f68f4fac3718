// Package instances turns the interactions of a log into prediction problems (the
// paper's (x, y)), for consumers that do not learn a recommender themselves. It is plain
// arithmetic: models/online, which does the same for a trainer and keeps it in
// checkpoints, links libtorch.
//
// It imports stream and models/vocab. It must never read the log.
package instances

import (
	"container/list"

	"github.com/cespare/xxhash/v2"

	"seralm/models/vocab"
	"seralm/stream"
)

// Instance is what a user had taken, oldest first, and took next, in rows of Items.
type Instance struct {
	User string
	X    []int32
	Y    int32
}

// Histories holds the newest items of each user, at most so many users: the one idle for
// longest is forgotten first; and the newest event keys, so that what was sent twice
// counts once.
type Histories struct {
	Items *vocab.Vocabulary

	length, limit int
	users         map[string]*list.Element
	active        *list.List // of *history, the most recently active first
	seen          *window
}

type history struct {
	user string
	rows []int32
}

// New returns histories of so many items each, of so many users, that know no event.
func New(length, users, window int) *Histories {
	return &Histories{
		Items: vocab.New(1), length: length, limit: users, users: map[string]*list.Element{}, active: list.New(), seen: newWindow(window),
	}
}

// Take adds an interaction, in the order of its user's, and returns the instance that it
// is; false for a user's first one, and for one that was seen before.
func (h *Histories) Take(ev stream.Event[stream.Interaction]) (Instance, bool) {
	if !h.seen.add(xxhash.Sum64String(ev.Source + "\x00" + ev.ID)) {
		return Instance{}, false
	}
	e, ok := h.users[ev.Body.User]
	if ok {
		h.active.MoveToFront(e)
	} else {
		if h.active.Len() >= h.limit {
			delete(h.users, h.active.Remove(h.active.Back()).(*history).user)
		}
		e = h.active.PushFront(&history{user: ev.Body.User})
		h.users[ev.Body.User] = e
	}
	u := e.Value.(*history)
	y, _ := h.Items.Observe(ev.Body.Item)
	in := Instance{User: u.user, X: u.rows, Y: y}
	// A new slice: the instance keeps the old one.
	u.rows = append(append(make([]int32, 0, h.length), u.rows[max(0, len(u.rows)+1-h.length):]...), in.Y)
	return in, len(in.X) > 0
}

// window remembers the last event keys.
type window struct {
	ring []uint64
	next int
	seen map[uint64]struct{}
}

func newWindow(capacity int) *window {
	return &window{ring: make([]uint64, 0, capacity), seen: map[uint64]struct{}{}}
}

// add reports whether the key is new, and remembers it.
func (w *window) add(key uint64) bool {
	if _, ok := w.seen[key]; ok {
		return false
	}
	if len(w.ring) < cap(w.ring) {
		w.ring = append(w.ring, key)
	} else {
		delete(w.seen, w.ring[w.next])
		w.ring[w.next] = key
		w.next = (w.next + 1) % cap(w.ring)
	}
	w.seen[key] = struct{}{}
	return true
}
