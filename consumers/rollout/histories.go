package rollout

import (
	"container/list"

	"github.com/cespare/xxhash/v2"

	"seralm/models/vocab"
	"seralm/stream"
)

// histories turns a user's interactions, in their order, into instances. It holds the
// newest items of each user, at most so many users: the one idle for longest is forgotten
// first; and the newest event keys, so that what was sent twice counts once. It is
// arithmetic alone: models/online, which does the same for a trainer, links libtorch.
type histories struct {
	length, limit int
	items         *vocab.Vocabulary
	users         map[string]*list.Element
	active        *list.List // of *history, the most recently active first
	seen          map[uint64]struct{}
	keys          []uint64 // of seen, in a ring
	next          int
}

type history struct {
	user string
	rows []int32
}

func newHistories(length, users, window int) *histories {
	return &histories{
		length: length, limit: users, items: vocab.New(1), users: map[string]*list.Element{}, active: list.New(),
		seen: map[uint64]struct{}{}, keys: make([]uint64, 0, window),
	}
}

// take adds an interaction and returns the instance that it is; false for a user's first
// one, and for one that was seen before.
func (h *histories) take(ev stream.Event[stream.Interaction]) (remembered, bool) {
	if !h.fresh(xxhash.Sum64String(ev.Source + "\x00" + ev.ID)) {
		return remembered{}, false
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
	in := remembered{user: u.user, history: u.rows, target: h.items.Observe(ev.Body.Item), time: ev.Time}
	// A new slice: the instance keeps the old one.
	u.rows = append(append(make([]int32, 0, h.length), u.rows[max(0, len(u.rows)+1-h.length):]...), in.target)
	return in, len(in.history) > 0
}

// fresh reports whether an event's key is new, and remembers it.
func (h *histories) fresh(key uint64) bool {
	if _, there := h.seen[key]; there {
		return false
	}
	h.seen[key] = struct{}{}
	if len(h.keys) < cap(h.keys) {
		h.keys = append(h.keys, key)
		return true
	}
	delete(h.seen, h.keys[h.next])
	h.keys[h.next] = key
	h.next = (h.next + 1) % len(h.keys)
	return true
}
