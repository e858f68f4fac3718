package online

import (
	"slices"

	"seralm/models/vocab"
)

// histories holds the newest items of each user, at most cap users: when a new
// one arrives at a full table, the user idle for longest is forgotten.
//
// Users sit in a dense slice, so that replay can draw one uniformly, and in a
// doubly linked list from most to least recently active. Both orders are part of
// the learner's state: they decide what is drawn and who is forgotten.
type histories struct {
	length  int // items kept per user
	limit   int // users kept
	index   map[string]int32
	users   []userHistory
	newest  int32 // head of the list, -1 when empty
	oldest  int32 // its tail
	evicted int64
}

type userHistory struct {
	user         string
	rows         []int32 // oldest first
	newer, older int32   // neighbours in the activity list, -1 at its ends
}

func newHistories(length, limit int) *histories {
	return &histories{length: length, limit: limit, index: map[string]int32{}, newest: -1, oldest: -1}
}

// rows returns the user's items, oldest first; the slice must not be changed.
func (h *histories) rows(user string) []int32 {
	if i, ok := h.index[user]; ok {
		return h.users[i].rows
	}
	return nil
}

// unknow makes the items of some rows unknown ones in all histories.
func (h *histories) unknow(which []bool) {
	for i := range h.users {
		for t, row := range h.users[i].rows {
			if which[row] {
				h.users[i].rows[t] = vocab.Unknown
			}
		}
	}
}

// put replaces the user's items by the newest of rows and marks the user as the
// most recently active one.
func (h *histories) put(user string, rows []int32) {
	i, ok := h.index[user]
	if ok {
		h.unlink(i)
	} else {
		if len(h.users) >= h.limit {
			h.forget(h.oldest)
		}
		i = int32(len(h.users))
		h.users = append(h.users, userHistory{user: user})
		h.index[user] = i
	}
	if n := len(rows); n > h.length {
		rows = rows[n-h.length:]
	}
	u := &h.users[i]
	u.rows = append(u.rows[:0:0], rows...)
	h.linkNewest(i)
}

func (h *histories) linkNewest(i int32) {
	u := &h.users[i]
	u.newer, u.older = -1, h.newest
	if h.newest >= 0 {
		h.users[h.newest].newer = i
	} else {
		h.oldest = i
	}
	h.newest = i
}

func (h *histories) unlink(i int32) {
	u := h.users[i]
	if u.newer >= 0 {
		h.users[u.newer].older = u.older
	} else {
		h.newest = u.older
	}
	if u.older >= 0 {
		h.users[u.older].newer = u.newer
	} else {
		h.oldest = u.newer
	}
}

// forget removes user i; the last user of the slice takes the free place.
func (h *histories) forget(i int32) {
	h.unlink(i)
	delete(h.index, h.users[i].user)
	h.evicted++
	last := int32(len(h.users) - 1)
	if i != last {
		u := h.users[last]
		h.users[i] = u
		h.index[u.user] = i
		if u.newer >= 0 {
			h.users[u.newer].older = i
		} else {
			h.newest = i
		}
		if u.older >= 0 {
			h.users[u.older].newer = i
		} else {
			h.oldest = i
		}
	}
	h.users[last] = userHistory{}
	h.users = h.users[:last]
}

// activity returns the users' places from most to least recently active.
func (h *histories) activity() []int32 {
	order := make([]int32, 0, len(h.users))
	for i := h.newest; i >= 0; i = h.users[i].older {
		order = append(order, i)
	}
	return order
}

// relink rebuilds the activity list from activity()'s order.
func (h *histories) relink(order []int32) {
	h.newest, h.oldest = -1, -1
	for _, i := range slices.Backward(order) {
		h.linkNewest(i)
	}
}
