package generator

import (
	"container/list"

	"github.com/cespare/xxhash/v2"

	"seralm/models/vocab"
	"seralm/stream"
)

// Instance is one prediction problem of the stream: what a user had taken, and took
// next (the paper's (x, y)), in rows of the sampler's own vocabulary.
type Instance struct {
	user string
	x    []int32
	y    int32
	at   place
}

// place is where a record is.
type place struct {
	partition int32
	offset    int64
}

// histories turns interactions into instances. It holds the newest items of each user,
// at most so many users: the one idle for longest is forgotten first.
type histories struct {
	length, limit int
	items         *vocab.Vocabulary
	users         map[string]*list.Element
	active        *list.List // of *history, the most recently active first
	seen          *window
}

type history struct {
	user string
	rows []int32
}

func newHistories(length, users, window int) *histories {
	return &histories{
		length: length, limit: users, items: vocab.New(1), users: map[string]*list.Element{}, active: list.New(), seen: newWindow(window),
	}
}

// take adds an interaction and returns the instance that it is; false for a user's
// first one, and for one that was seen before.
func (h *histories) take(ev stream.Event[stream.Interaction]) (Instance, bool) {
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
	in := Instance{user: u.user, x: u.rows, y: h.items.Observe(ev.Body.Item), at: place{ev.Partition, ev.Offset}}
	// A new slice: the instance keeps the old one.
	u.rows = append(append(make([]int32, 0, h.length), u.rows[max(0, len(u.rows)+1-h.length):]...), in.y)
	return in, len(in.x) > 0
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
