package online

import "github.com/cespare/xxhash/v2"

// window remembers the last cap event keys. An event redelivered within the
// window is learnt once. Keys are 64-bit hashes: at a window of 200,000 a new
// event is mistaken for a repeated one with probability 1e-14.
type window struct {
	ring []uint64
	next int // place of the next key; the ring is full once it has wrapped
	seen map[uint64]struct{}
}

func newWindow(capacity int) *window {
	return &window{ring: make([]uint64, 0, capacity), seen: make(map[uint64]struct{}, capacity)}
}

// EventKey is the idempotency key of an event: CloudEvents make (source, id)
// unique.
func EventKey(source, id string) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(source)
	_, _ = d.Write([]byte{0})
	_, _ = d.WriteString(id)
	return d.Sum64()
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
