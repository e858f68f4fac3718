// Package catalogue holds what is known about every item in memory: its title,
// its categories, and whether it may be recommended. It is read from the
// compacted items topic and rebuilt from it at every start.
//
// It imports stream (the topic and its records) and config. It must never write,
// and it keeps no item text: that is what knowledge is made of, not answers. It
// keeps where in the topic the text is.
//
// Memory is bounded: at most Limit items, each with a title of at most MaxTitle
// bytes and MaxCategories categories; about 350 bytes an item, typically.
package catalogue

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"seralm/stream"
)

// Bounds of what is kept of one item; longer titles are cut, further categories
// dropped.
const (
	MaxTitle      = 512
	MaxCategories = 64
)

// Entry is what is known of one item. It is never changed, only replaced.
type Entry struct {
	Title      string
	Categories []string
	Hidden     bool // known, never recommended
	Deleted    bool // as Hidden, and not to be shown either
	Time       time.Time
	Partition  int32 // of the event that said so
	Offset     int64

	folded string // the title for searching
}

// Recommendable reports whether the item may appear in an answer.
func (e *Entry) Recommendable() bool { return !e.Hidden && !e.Deleted }

// In reports whether the item has one of the categories.
func (e *Entry) In(categories []string) bool {
	for _, c := range e.Categories {
		for _, want := range categories {
			if strings.EqualFold(c, want) {
				return true
			}
		}
	}
	return false
}

// Item is the place of one item id. It stays the same for the catalogue's life,
// so that a model can hold one per row and see every later change without a
// look-up by id.
type Item struct {
	ID    string
	entry atomic.Pointer[Entry]
}

// Entry returns what is known of the item; nil if no event ever described it.
func (i *Item) Entry() *Entry { return i.entry.Load() }

// Title returns the item's title, or "" if it is not known.
func (i *Item) Title() string {
	if e := i.Entry(); e != nil {
		return e.Title
	}
	return ""
}

// Catalogue is all items. It is safe for concurrent use.
type Catalogue struct {
	limit int

	mu        sync.RWMutex
	items     map[string]*Item
	order     []*Item // in the order they were first heard of; append only
	described int     // items with an entry, deletions included: what limit bounds
	live      int     // described and not deleted
	refused   int     // item events beyond the limit
	reached   map[int32]int64
}

// New returns an empty catalogue of at most limit items.
func New(limit int) *Catalogue {
	return &Catalogue{limit: limit, items: map[string]*Item{}, reached: map[int32]int64{}}
}

// Get returns an item that has been heard of, from an item event or a model.
func (c *Catalogue) Get(id string) (*Item, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	i, ok := c.items[id]
	return i, ok
}

// Bind returns the places of ids, made where they do not exist yet: a model may
// know items that no item event described. They do not count against the limit: the
// model bounds how many it knows at a time, and one that loses its row there keeps its
// place here, some hundred bytes, while the process lives.
func (c *Catalogue) Bind(ids []string) []*Item {
	bound := make([]*Item, len(ids))
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, id := range ids {
		bound[i] = c.place(id)
	}
	return bound
}

func (c *Catalogue) place(id string) *Item {
	i, ok := c.items[id]
	if !ok {
		i = &Item{ID: id}
		c.items[id] = i
		c.order = append(c.order, i)
	}
	return i
}

// Apply takes one item event. It returns false when the item was never described
// before and the catalogue is full.
//
// A deletion is remembered even for an item that was never described: a model
// that still knows the item may be loaded later.
func (c *Catalogue) Apply(ev stream.Event[stream.Item]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reached[ev.Partition] = ev.Offset
	var old *Entry
	if i, ok := c.items[ev.Body.Item]; ok {
		old = i.Entry()
	}
	if old == nil {
		if c.described >= c.limit {
			c.refused++
			return false
		}
		c.described++
	}
	if old != nil && !old.Deleted {
		c.live--
	}
	if !ev.Deleted {
		c.live++
	}
	c.place(ev.Body.Item).entry.Store(entry(ev))
	return true
}

// Reached reports whether the events at these offsets, by partition, have been
// applied.
func (c *Catalogue) Reached(offsets map[int32]int64) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for partition, offset := range offsets {
		if at, ok := c.reached[partition]; !ok || at < offset {
			return false
		}
	}
	return true
}

func entry(ev stream.Event[stream.Item]) *Entry {
	e := &Entry{Deleted: ev.Deleted, Time: ev.Time, Partition: ev.Partition, Offset: ev.Offset}
	if ev.Deleted {
		return e
	}
	e.Title, e.Hidden = cut(ev.Body.Title, MaxTitle), ev.Body.Hidden
	e.folded = strings.ToLower(e.Title)
	if e.folded == e.Title {
		e.folded = e.Title // share the memory
	}
	for _, category := range ev.Body.Categories[:min(len(ev.Body.Categories), MaxCategories)] {
		// A catalogue has few categories and many items: keep one copy of each.
		e.Categories = append(e.Categories, unique.Make(category).Value())
	}
	return e
}

// cut shortens s to at most n bytes without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// Size is how full the catalogue is.
type Size struct {
	Items   int // described by an event and not deleted
	Limit   int
	Refused int // item events dropped because the catalogue was full
}

// Size returns how full the catalogue is.
func (c *Catalogue) Size() Size {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return Size{Items: c.live, Limit: c.limit, Refused: c.refused}
}
