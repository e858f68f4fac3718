package pregenerator

import (
	"fmt"
	"slices"
	"sync"
	"time"
	"unique"

	"seralm/stream"
)

// ledger knows of every item what is written and what is due. The followers of the
// two topics tell it what the log holds, the workers take from it what to do.
type ledger struct {
	limit   int
	encoder string

	mu       sync.Mutex
	serves   serves
	entries  map[string]*entry
	queue    queue
	taken    int  // texts that are being written
	jobs     int  // vectors and removals that are handed out
	complete bool // both topics were read to their end, and all that was due is queued or handed out
	open     bool // and the vectors that were due then are made: now the order of texts can be told

	work chan struct{} // told that there may be work for the language model, or none left at all
}

// serves says which texts of a language model are good: those of the model as it is, and
// of the policies that it was replaced by, up to the one that is served now. Texts of
// others are written again.
type serves struct {
	base     stream.ModelVersion
	policies []stream.ModelVersion
	undo     stream.ModelVersion // whose texts are being put back, not written again
}

func (s serves) has(v stream.ModelVersion) bool {
	if v == s.base || v == s.undo {
		return true
	}
	return slices.ContainsFunc(s.policies, func(p stream.ModelVersion) bool { return v.Name == p.Name && v.Step <= p.Step })
}

// serve sets what is served from now on.
func (l *ledger) serve(s serves) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serves = s
	for _, e := range l.entries {
		if e.known.origin != "" {
			e.known.policy = s.has(e.known.version.Value())
			l.settle(e) // what changes is at most whether a text is due
		}
	}
}

func newLedger(limit int, policy stream.ModelVersion, encoder string) *ledger {
	return &ledger{limit: limit, serves: serves{base: policy}, encoder: encoder, entries: map[string]*entry{}, work: make(chan struct{}, 1)}
}

// wake tells the writer of texts to look again.
func (l *ledger) wake() {
	select {
	case l.work <- struct{}{}:
	default:
	}
}

// entry returns the item's entry, or a new one while there is room; else nil.
func (l *ledger) entry(id string) *entry {
	e := l.entries[id]
	if e == nil && len(l.entries) < l.limit {
		e = &entry{id: id, position: -1}
		l.entries[id] = e
	}
	return e
}

// settle puts the item where what is due for it says, and returns that. What is due
// but a text has to be handed out.
func (l *ledger) settle(e *entry) due {
	d := e.due(l.complete)
	switch {
	case d == text && e.position < 0 && !e.taken:
		e.waiting = time.Now()
		l.queue.add(e)
	case d != text && e.position >= 0:
		l.queue.remove(e)
	case e.position >= 0:
		l.queue.moved(e) // its time may have changed
	}
	if d == nothing && !e.announced && !e.taken && e.known.origin == "" {
		delete(l.entries, e.id)
	}
	l.wake()
	return d
}

// item takes an event of the items topic and says what is due, if there is room for
// the item.
func (l *ledger) item(ev stream.Event[stream.Item], written time.Time, promptHash string, says bool) (due, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(ev.Body.Item)
	if e == nil {
		return nothing, false
	}
	e.announced, e.deleted, e.hidden, e.mute = !ev.Deleted, ev.Deleted, ev.Body.Hidden, !says
	e.at, e.prompt = place{ev.Partition, ev.Offset}, digest(promptHash)
	e.written, e.time = written.UnixMilli(), ev.Time.UnixMilli()
	return l.settle(e), true
}

// learn takes a record of the knowledge topic and says what is due.
func (l *ledger) learn(ev stream.Event[stream.Knowledge], written time.Time) (due, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(ev.Body.Item)
	if e == nil {
		return nothing, fmt.Errorf("there is knowledge of more than %d items: raise knowledge.max_items (about 250 bytes of memory each)", l.limit)
	}
	at := place{ev.Partition, ev.Offset}
	if e.known.at.partition == at.partition && at.offset <= e.known.at.offset && e.known.written != 0 {
		return nothing, nil // it was in the ledger when it was published
	}
	l.know(e, ev.Body, ev.Deleted, at, written)
	return l.settle(e), nil
}

// know notes what the newest record of the item's knowledge says.
func (l *ledger) know(e *entry, k stream.Knowledge, removed bool, at place, written time.Time) {
	e.known = known{at: at, written: written.UnixMilli()}
	if removed {
		return
	}
	e.known.origin, e.known.prompt, e.known.text = k.Origin, digest(k.PromptHash), k.Text != ""
	e.known.version = unique.Make(k.Policy)
	e.known.policy, e.known.encoder = l.serves.has(k.Policy), k.Encoder == l.encoder
}

// sweep ends the time in which the topics are read for what they hold already, and
// returns the items that have something but a text due. Each is handed out.
func (l *ledger) sweep() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.complete = true
	var out []string
	for id, e := range l.entries {
		if d := l.settle(e); d != nothing && d != text {
			out = append(out, id)
		}
	}
	l.jobs += len(out)
	l.open = l.jobs == 0
	return out
}

// ready reports whether items wait for a text that may be written now, and whether
// nothing at all is left to do. Vectors come first: they take a thousandth of a text's
// time, and a catalogue that is announced at once would wait behind its first texts.
func (l *ledger) ready() (ready, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	idle := l.open && l.jobs == 0
	return idle && len(l.queue) > 0, idle && len(l.queue)+l.taken == 0
}

// take hands out up to n items for the language model, as copies.
func (l *ledger) take(n int, popular []string) []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var first []*entry
	for _, id := range popular {
		if e := l.entries[id]; e != nil && e.position >= 0 {
			first = append(first, e)
		}
	}
	var taken []entry
	for _, e := range l.queue.take(n, first) {
		e.taken = true
		taken = append(taken, *e)
	}
	l.taken += len(taken)
	return taken
}

// release takes back what take handed out. Items that were not published wait again,
// but for those that were refused.
func (l *ledger) release(taken []entry, refused map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken -= len(taken)
	for _, t := range taken {
		e := l.entries[t.id] // taken entries are not deleted
		e.taken = false
		if refused[t.id] {
			e.refused = t.prompt
		}
		l.settle(e)
	}
}

// look returns a copy of an item's entry and what is due for it.
func (l *ledger) look(id string) (entry, due) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[id]
	if e == nil {
		return entry{id: id}, nothing
	}
	return *e, e.due(l.complete)
}

// handed counts jobs that were handed out (n > 0) or are done (n < 0).
func (l *ledger) handed(n int) {
	l.mu.Lock()
	l.jobs += n
	l.open = l.open || l.complete && l.jobs == 0
	l.mu.Unlock()
	l.wake()
}

// waits is how many items wait for a text or have one being written, and since when
// the first of them waits.
func (l *ledger) waits() (n int, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.queue {
		if since.IsZero() || e.waiting.Before(since) {
			since = e.waiting
		}
	}
	return len(l.queue) + l.taken, since
}

// isOpen reports whether all that waits is in the queue.
func (l *ledger) isOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// counts are of the items known of, and of the vectors that are handed out.
func (l *ledger) counts() (items, vectors int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries), l.jobs
}
