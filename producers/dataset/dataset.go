package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"
	"math"
	"strconv"
	"time"
	"unsafe"

	"seralm/stream"
)

// Dataset is a data set in stream order. It does not change after Open, and may be
// read by many goroutines.
type Dataset struct {
	layout      layout
	name        string
	kind        string // type of the interactions
	table       *table
	summary     Summary
	fingerprint string
}

// Summary says what was read, what was made of it and what was left out.
type Summary struct {
	Format Format
	Read   int // rows of the interactions file

	// What the stream holds.
	Interactions, Users, Items int
	Listed                     int       // distinct items of the catalogue
	Unlisted                   int       // items that interactions name and the catalogue does not
	First, Last                time.Time // of the interactions

	// What was left out.
	BelowValue int // interactions below the minimum value
	BelowCount int // interactions of users and items with too few
	BeyondEnd  int // interactions after the limit

	// What is odd, and stays.
	Times        Times // where times come from
	Filled       int   // events that had no time among others that had
	Raised       int   // times that ran against the exact order, set to their predecessor's
	Duplicates   int   // interactions equal to another in user, item, value and time
	SamePosition int   // interactions at a position that their user has already used
	Gaps         int   // jumps in users' positions
	ByID         bool  // every user's items stand in the order of their ids, which is no order of time

	Bytes int64 // memory held, roughly
}

// Open reads and checks a whole data set. Errors about a file's contents are
// *FormatError.
func Open(ctx context.Context, o Options) (*Dataset, error) {
	l, err := locate(o)
	if err != nil {
		return nil, err
	}
	t, err := loadTable(ctx, l)
	if err != nil {
		return nil, err
	}
	d := &Dataset{layout: l, name: o.name(), kind: o.Type, table: t}
	d.summary = Summary{Format: l.format, Read: len(t.events)}
	if l.sequences != "" {
		if err := t.applySequences(ctx, l.sequences); err != nil {
			return nil, err
		}
	}
	t.order(&d.summary, l.sequences != "")
	if err := t.filter(o, &d.summary); err != nil {
		return nil, err
	}
	if d.kind == "" {
		d.kind = "interaction"
		if t.valued {
			d.kind = "rating"
		}
	}
	if err := d.checkIdentity(); err != nil {
		return nil, err
	}
	d.fingerprint = d.hash()
	if o.Limit > 0 && o.Limit < len(t.events) {
		d.summary.BeyondEnd = len(t.events) - o.Limit
		t.events = t.events[:o.Limit]
	}
	d.summarise()
	return d, d.checkItems(ctx)
}

// Name is the data set's name.
func (d *Dataset) Name() string { return d.name }

// Source is the ce_source of the data set's events.
func (d *Dataset) Source() string { return "dataset/" + d.name }

// Summary says what was read.
func (d *Dataset) Summary() Summary { return d.summary }

// Fingerprint is a hash of the stream: of every interaction in order with its
// identity, whatever the limit. Two replays with the same one are the same stream.
func (d *Dataset) Fingerprint() string { return d.fingerprint }

// Len returns the number of interactions.
func (d *Dataset) Len() int { return len(d.table.events) }

// Time returns the time of interaction i in the stream.
func (d *Dataset) Time(i int) time.Time { return time.UnixMilli(d.table.events[i].time).UTC() }

// User returns a dense number for the user of interaction i, below Users().
func (d *Dataset) User(i int) int { return int(d.table.events[i].user) }

// Users returns a bound of User, which is larger than Summary.Users where users
// were left out.
func (d *Dataset) Users() int { return len(d.table.users.ids) }

// At returns interaction i of the stream. Its Seq counts the user's interactions
// from 1; its ID is made of the file's name and line.
func (d *Dataset) At(i int) stream.Event[stream.Interaction] {
	e := d.table.events[i]
	body := stream.Interaction{
		User: d.table.users.ids[e.user], Item: d.table.items.ids[e.item],
		Type: d.kind, Time: time.UnixMilli(e.time).UTC(), Seq: uint64(e.seq),
	}
	if !math.IsNaN(e.value) {
		body.Value = &e.value
	}
	return stream.Event[stream.Interaction]{
		ID: d.table.file + ":" + strconv.FormatUint(uint64(e.line), 10), Source: d.Source(), Time: body.Time, Body: body,
	}
}

// Interactions yields the stream from interaction from on, with each one's index.
func (d *Dataset) Interactions(from int) iter.Seq2[int, stream.Event[stream.Interaction]] {
	return func(yield func(int, stream.Event[stream.Interaction]) bool) {
		for i := from; i < d.Len(); i++ {
			if !yield(i, d.At(i)) {
				return
			}
		}
	}
}

// checkIdentity makes sure that source, type and ids are such as the stream takes.
func (d *Dataset) checkIdentity() error {
	e := d.At(0)
	if _, err := stream.NewRecord("any", e.Body.User, e.ID, e.Source, e.Time, e.Body); err != nil {
		return fmt.Errorf("the data set's name %s, its type of interaction %s or its file's name: %w (set another name or type)", quote(d.name), quote(d.kind), err)
	}
	return nil
}

func (d *Dataset) hash() string {
	h := sha256.New()
	frame := func(s string) { // with its length, so that no two lists read the same
		h.Write(binary.AppendUvarint(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	for _, s := range []string{d.Source(), d.kind, d.table.file} {
		frame(s)
	}
	for _, ids := range [][]string{d.table.users.ids, d.table.items.ids} {
		h.Write(binary.AppendUvarint(nil, uint64(len(ids))))
		for _, id := range ids {
			frame(id)
		}
	}
	buf := make([]byte, 0, 1<<16)
	for _, e := range d.table.events {
		buf = binary.LittleEndian.AppendUint64(buf, uint64(e.time))
		buf = binary.LittleEndian.AppendUint64(buf, math.Float64bits(e.value))
		for _, n := range [...]uint32{e.line, e.user, e.item, e.seq} {
			buf = binary.LittleEndian.AppendUint32(buf, n)
		}
		if len(buf) > cap(buf)-64 {
			h.Write(buf)
			buf = buf[:0]
		}
	}
	h.Write(buf)
	return hex.EncodeToString(h.Sum(nil))
}

func (d *Dataset) summarise() {
	t, s := d.table, &d.summary
	users, items := t.counts()
	for _, n := range users {
		if n > 0 {
			s.Users++
		}
	}
	for _, n := range items {
		if n > 0 {
			s.Items++
		}
	}
	s.Interactions = len(t.events)
	s.ByID = t.byID()
	s.First, s.Last = d.Time(0), d.Time(len(t.events)-1)
	const perName = 64 // string headers, and the map's entry
	s.Bytes = int64(cap(t.events))*int64(unsafe.Sizeof(event{})) + t.idBytes + perName*int64(len(t.users.ids)+len(t.items.ids))
}

// someSteps is how many steps from an item to the next tell an order by id from chance.
const someSteps = 100

// byID says that no user takes an item whose id, as text, is before that of the item before.
func (t *table) byID() bool {
	last, steps := map[uint32]uint32{}, 0
	for _, e := range t.events {
		if before, ok := last[e.user]; ok && before != e.item {
			if t.items.ids[e.item] < t.items.ids[before] {
				return false
			}
			steps++
		}
		last[e.user] = e.item
	}
	return steps >= someSteps
}
