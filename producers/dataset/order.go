package dataset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Times says where the times of a stream come from.
type Times string

const (
	// Original times are the file's.
	Original Times = "original"
	// Interpolated: some events have no time, and got one between their neighbours'.
	Interpolated Times = "interpolated"
	// Synthetic: the set knows an order only. With positions, day p of the stream
	// holds every user's event at position p, users in the file's order; without, the
	// file is the stream, one event a second.
	Synthetic Times = "synthetic"
)

// epoch is where synthetic time begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

const (
	day    = int64(24 * time.Hour / time.Millisecond)
	minute = int64(time.Minute / time.Millisecond)
	second = int64(time.Second / time.Millisecond)
)

// order puts the events of a table in stream order and gives each a time.
//
// Across users, events go by time; ties go by the file's order. Within a user, the
// exact order wins where the set knows one (a position column, sequences.txt): more
// than half of MovieLens-1M's events share a second with the one before, and sorting
// by time would shuffle them. Times that run against an exact order are raised.
func (t *table) order(s *Summary, exact bool) {
	s.Times = Original
	switch {
	case t.positioned || exact:
		t.bySequence(s)
	case !t.timed:
		s.Times = Synthetic
		for i := range t.events {
			t.events[i].time = epoch + int64(i)*second
		}
	default:
		slices.SortFunc(t.events, func(a, b event) int {
			return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.line, b.line))
		})
	}
	t.countDuplicates(s)
}

func (t *table) bySequence(s *Summary) {
	slices.SortFunc(t.events, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.seq, b.seq), cmp.Compare(a.line, b.line))
	})
	// Users without any time begin where the others do.
	first := int64(noTime)
	for _, e := range t.events {
		if e.time != noTime && (first == noTime || e.time < first) {
			first = e.time
		}
	}
	if first == noTime {
		s.Times = Synthetic
	}
	for from := 0; from < len(t.events); {
		to := from + 1
		for to < len(t.events) && t.events[to].user == t.events[from].user {
			to++
		}
		one := t.events[from:to]
		countGaps(one, s)
		if s.Times == Synthetic {
			t.synthesise(one)
		} else {
			fillTimes(one, first, s)
		}
		from = to
	}
	if s.Filled > 0 {
		s.Times = Interpolated
	}
	// Within a user times never fall now, so this keeps every user's order.
	slices.SortFunc(t.events, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.user, b.user), cmp.Compare(a.seq, b.seq), cmp.Compare(a.line, b.line))
	})
}

// countGaps looks at the positions of one user: they should be 0, 1, 2, ...
func countGaps(one []event, s *Summary) {
	next := uint32(0)
	for i, e := range one {
		switch {
		case i > 0 && e.seq == one[i-1].seq:
			s.SamePosition++
		case e.seq != next:
			s.Gaps++
		}
		next = e.seq + 1
	}
}

// synthesise gives one user's events a day each by position; within the day, the
// users come in the file's order.
func (t *table) synthesise(one []event) {
	share := int64(one[0].user) * day / int64(len(t.users.ids))
	for i := range one {
		one[i].time = min(epoch+int64(one[i].seq)*day+share, maxTime)
	}
}

// fillTimes makes the times of one user, in exact order, complete and never falling.
// Between two known times the missing are spread evenly; before the first and after
// the last they are a minute apart.
func fillTimes(one []event, first int64, s *Summary) {
	known := -1
	for i := range one {
		if one[i].time == noTime {
			continue
		}
		if known >= 0 && one[i].time < one[known].time {
			one[i].time = one[known].time
			s.Raised++
		}
		for j := known + 1; j < i; j++ {
			s.Filled++
			if known < 0 {
				one[j].time = max(0, one[i].time-int64(i-j)*minute)
				continue
			}
			span, steps := one[i].time-one[known].time, int64(i-known)
			done := int64(j - known)
			one[j].time = one[known].time + span/steps*done + span%steps*done/steps // no product overflows
		}
		known = i
	}
	for j := known + 1; j < len(one); j++ {
		s.Filled++
		if j == 0 {
			one[j].time = first
			continue
		}
		one[j].time = min(one[j-1].time+minute, maxTime)
	}
}

// countDuplicates counts events that equal another in user, item, value and
// original time. They stay: a log may well hold the same click twice.
func (t *table) countDuplicates(s *Summary) {
	if s.Times != Original {
		return
	}
	type what struct {
		user, item uint32
		value      float64
	}
	seen := map[what]bool{}
	for from := 0; from < len(t.events); {
		to := from + 1
		for to < len(t.events) && t.events[to].time == t.events[from].time {
			to++
		}
		if to-from > 1 {
			clear(seen)
			for _, e := range t.events[from:to] {
				w := what{e.user, e.item, e.value}
				if e.value != e.value {
					w.value = 2 * MaxValue // no value: NaN is not a key that can be found again
				}
				if seen[w] {
					s.Duplicates++
				}
				seen[w] = true
			}
		}
		from = to
	}
}

// applySequences takes the exact order from a file of lines "USER ITEM ...".
// It must hold the same events as the table.
func (t *table) applySequences(ctx context.Context, path string) error {
	f, err := openFile(path)
	if err != nil {
		return fmt.Errorf("opening the data set: %w", err)
	}
	defer f.Close()
	return t.readSequences(ctx, path, f)
}

func (t *table) readSequences(ctx context.Context, path string, in io.Reader) error {
	// By user, item, then time and line, the occurrences of an item in a user's
	// sequence are taken in their own order.
	slices.SortFunc(t.events, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.item, b.item), cmp.Compare(a.time, b.time), cmp.Compare(a.line, b.line))
	})
	start := make([]int, len(t.users.ids)+1)
	for _, e := range t.events {
		start[e.user+1]++
	}
	for u := range t.users.ids {
		start[u+1] += start[u]
	}
	const unplaced = ^uint32(0)
	for i := range t.events {
		t.events[i].seq = unplaced
	}
	r := newRows(path, in, dialect{separator: " ", encoding: UTF8})
	placed := 0
	for {
		fields, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		user, ok := t.users.rows[string(fields[0])]
		if !ok {
			return r.mismatch(0, "the user is not in "+t.file)
		}
		one := t.events[start[user]:start[user+1]]
		for p, id := range fields[1:] {
			i := -1
			if item, ok := t.items.rows[string(id)]; ok {
				i, _ = slices.BinarySearchFunc(one, item, func(e event, item uint32) int {
					if e.item == item && e.seq != unplaced {
						return -1 // an earlier occurrence, already placed
					}
					return cmp.Compare(e.item, item)
				})
				if i == len(one) || one[i].item != item {
					i = -1
				}
			}
			if i < 0 {
				return r.mismatch(p+1, "the user has no such interaction in "+t.file+", or not so many")
			}
			one[i].seq = uint32(p)
			placed++
		}
	}
	if placed != len(t.events) {
		return &FormatError{File: path, What: fmt.Sprintf("it orders %d of the %d interactions in %s", placed, len(t.events), t.file), Remedy: "it is truncated or of another edition: get it again, or remove it to go by time alone"}
	}
	return nil
}

func (r *rows) mismatch(column int, what string) error {
	return &FormatError{File: r.file, Line: r.line, Column: column + 1, What: what, Remedy: "it is damaged or of another edition: get it again, or remove it to go by time alone"}
}
