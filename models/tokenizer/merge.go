package tokenizer

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

// pair is two neighbouring tokens.
type pair struct{ left, right int32 }

// merge says what a pair becomes, and how early: the lowest rank goes first, and
// of equal ranks the leftmost.
type merge struct{ rank, id int32 }

// merger applies byte-pair merges to words, remembering short ones.
type merger struct {
	merges  map[pair]merge
	scratch sync.Pool // of *scratch
	seed    maphash.Seed
	// words is a direct-mapped cache: a word has one slot, and the latest word
	// there stays. So memory is bounded and readers never wait.
	words [1 << 13]atomic.Pointer[cachedWord]
}

const (
	maxCachedWord = 32
	// maxKeptScratch bounds what a single very long word leaves behind.
	maxKeptScratch = 1 << 14
)

type cachedWord struct {
	word string
	ids  []int32
}

// scratch is the state of one word: its symbols as a doubly linked list over
// positions, and a heap of the merges that looked possible when they were added.
type scratch struct {
	symbols    []int32 // -1 where a symbol was merged into the one before it
	prev, next []int32 // positions, -1 at the ends
	heap       []candidate
}

type candidate struct {
	merge
	at int32 // position of the left symbol
	pair
}

func newMerger(merges map[pair]merge) *merger {
	m := &merger{merges: merges, seed: maphash.MakeSeed()}
	m.scratch.New = func() any { return new(scratch) }
	return m
}

// encode appends the tokens of word to dst. symbols appends the word's initial
// symbols to its argument.
func (m *merger) encode(dst []int32, word string, symbols func(dst []int32, word string) []int32) []int32 {
	var slot *atomic.Pointer[cachedWord]
	if len(word) <= maxCachedWord {
		slot = &m.words[maphash.String(m.seed, word)%uint64(len(m.words))]
		if c := slot.Load(); c != nil && c.word == word {
			return append(dst, c.ids...)
		}
	}
	s := m.scratch.Get().(*scratch)
	s.symbols = symbols(s.symbols[:0], word)
	n := len(dst)
	dst = m.apply(dst, s)
	if cap(s.symbols) <= maxKeptScratch {
		m.scratch.Put(s)
	}
	if slot != nil {
		// Cloned: a word is a piece of a text, and would keep all of it alive.
		slot.Store(&cachedWord{word: strings.Clone(word), ids: append([]int32(nil), dst[n:]...)})
	}
	return dst
}

// apply merges s.symbols until no pair is left and appends the result to dst.
func (m *merger) apply(dst []int32, s *scratch) []int32 {
	n := int32(len(s.symbols))
	s.prev, s.next, s.heap = s.prev[:0], s.next[:0], s.heap[:0]
	for i := range n {
		s.prev, s.next = append(s.prev, i-1), append(s.next, i+1)
	}
	for i := range n - 1 {
		m.consider(s, i, i+1, n)
	}
	for len(s.heap) > 0 {
		c := s.pop()
		right := s.next[c.at]
		// An earlier merge may have taken either symbol since; position c.at then
		// holds another symbol, or none.
		if s.symbols[c.at] != c.left || right == n || s.symbols[right] != c.right {
			continue
		}
		s.symbols[c.at], s.symbols[right] = c.id, -1
		after := s.next[right]
		s.next[c.at] = after
		if after < n {
			s.prev[after] = c.at
		}
		m.consider(s, s.prev[c.at], c.at, n)
		m.consider(s, c.at, after, n)
	}
	for _, id := range s.symbols {
		if id >= 0 {
			dst = append(dst, id)
		}
	}
	return dst
}

func (m *merger) consider(s *scratch, left, right, n int32) {
	if left < 0 || right >= n {
		return
	}
	p := pair{s.symbols[left], s.symbols[right]}
	if found, ok := m.merges[p]; ok {
		s.push(candidate{found, left, p})
	}
}

// A binary heap by hand: container/heap costs an interface call and an allocation
// for each of the few million merges of a large text.

func (c candidate) before(d candidate) bool {
	return c.rank < d.rank || c.rank == d.rank && c.at < d.at
}

func (s *scratch) push(c candidate) {
	h := append(s.heap, c)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !c.before(h[up]) {
			break
		}
		h[i], i = h[up], up
	}
	h[i] = c
	s.heap = h
}

func (s *scratch) pop() candidate {
	h := s.heap
	top, last := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	i := 0
	for {
		down := 2*i + 1
		if down >= len(h) {
			break
		}
		if down+1 < len(h) && h[down+1].before(h[down]) {
			down++
		}
		if !h[down].before(last) {
			break
		}
		h[i], i = h[down], down
	}
	if len(h) > 0 {
		h[i] = last
	}
	s.heap = h
	return top
}
