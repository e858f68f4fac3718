package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"

	"seralm/stream"
)

// MaxRows bounds the interactions file, and with it memory: at 32 bytes a row.
const MaxRows = 100_000_000

// event is one interaction: 32 bytes.
type event struct {
	time  int64   // ms since 1970; noTime where the file has none
	value float64 // NaN where the file has none
	line  uint32
	user  uint32 // index of names, in order of first appearance
	item  uint32
	seq   uint32 // place in the user's sequence: the file's while loading, then from 1
}

const noTime = math.MinInt64

// names are distinct ids in order of first appearance.
type names struct {
	ids  []string
	rows map[string]uint32
}

// add returns the index of an id and whether it is new.
func (n *names) add(id []byte) (uint32, bool) {
	if i, ok := n.rows[string(id)]; ok {
		return i, false
	}
	s, i := string(id), uint32(len(n.ids))
	n.ids = append(n.ids, s)
	n.rows[s] = i
	return i, true
}

// table is an interactions file in memory, in the file's order.
type table struct {
	file         string // its name without folder and .gz: part of event ids
	events       []event
	users, items names
	timed        bool  // there is a time column
	valued       bool  // there is a value column
	positioned   bool  // there is a position column
	idBytes      int64 // of the distinct ids
}

// loadTable reads and checks the whole interactions file.
func loadTable(ctx context.Context, l layout) (*table, error) {
	f, err := openFile(l.interactions)
	if err != nil {
		return nil, fmt.Errorf("opening the data set: %w", err)
	}
	defer f.Close()
	return readTable(ctx, l, f)
}

func readTable(ctx context.Context, l layout, in io.Reader) (*table, error) {
	r := newRows(l.interactions, in, l.dialect)
	h, err := readHeader(r, l)
	if err != nil {
		return nil, err
	}
	t := &table{
		file:  plain(filepath.Base(l.interactions)),
		users: names{rows: map[string]uint32{}}, items: names{rows: map[string]uint32{}},
		timed: h.time >= 0, valued: h.value >= 0, positioned: h.position >= 0,
	}
	for {
		fields, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := t.add(r, h, fields, l.columns.TimeFormat); err != nil {
			return nil, err
		}
		if len(t.events)&0xffff == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if len(t.events) == 0 {
		return nil, &FormatError{File: l.interactions, What: "there are no interactions in it", Remedy: "is this the right file, and whole?"}
	}
	return t, nil
}

func readHeader(r *rows, l layout) (header, error) {
	if l.columns.numbered() {
		return numberedHeader(r.file, l.columns)
	}
	fields, err := r.next()
	if errors.Is(err, io.EOF) {
		return header{}, &FormatError{File: r.file, What: "the file is empty", Remedy: "is this the right file, and whole?"}
	}
	if err != nil {
		return header{}, err
	}
	head := make([]string, len(fields))
	for i, f := range fields {
		head[i] = string(f)
	}
	return newHeader(r.file, head, l.columns, l.typed)
}

// add appends one row.
func (t *table) add(r *rows, h header, fields [][]byte, format TimeFormat) error {
	if len(h.names) > 0 && len(fields) != h.width || len(fields) < h.width {
		return &FormatError{File: r.file, Line: r.line, What: fmt.Sprintf("there are %d columns where %d belong", len(fields), h.width), Remedy: "if it is the last line, the file is truncated: get it again; else correct the line or the format"}
	}
	at := func(column int, f *fault) error {
		return &FormatError{File: r.file, Line: r.line, Column: column + 1, Name: h.name(column), What: f.what, Remedy: f.remedy}
	}
	if len(t.events) == MaxRows {
		return &FormatError{File: r.file, Line: r.line, What: fmt.Sprintf("there are more than %d rows", MaxRows), Remedy: "split the file by time and replay the parts one after another"}
	}
	e := event{time: noTime, value: math.NaN(), line: uint32(r.line), seq: uint32(len(t.events))}
	var f *fault
	if h.time >= 0 {
		switch {
		case len(fields[h.time]) > 0:
			if e.time, f = parseTime(fields[h.time], format); f != nil {
				return at(h.time, f)
			}
		case h.position < 0:
			return at(h.time, &fault{"it is empty", "give every row a time, or add a position column that says the order"})
		}
	}
	if h.value >= 0 {
		if e.value, f = parseValue(fields[h.value]); f != nil {
			return at(h.value, f)
		}
	}
	if h.position >= 0 {
		if e.seq, f = parsePosition(fields[h.position]); f != nil {
			return at(h.position, f)
		}
	}
	var newUser, newItem bool
	e.user, newUser = t.users.add(fields[h.user])
	e.item, newItem = t.items.add(fields[h.item])
	if newUser {
		t.idBytes += int64(len(fields[h.user]))
	}
	if newItem {
		t.idBytes += int64(len(fields[h.item]))
	}
	if newUser || newItem {
		if column, f := checkNames(h, t.users.ids[e.user], t.items.ids[e.item]); f != nil {
			return at(column, f)
		}
	}
	t.events = append(t.events, e)
	return nil
}

// checkNames holds ids against the rules of the stream, so that what was read can
// also be sent.
func checkNames(h header, user, item string) (int, *fault) {
	err := stream.Interaction{User: user, Item: item, Type: "any"}.Validate()
	var invalid *stream.InvalidError
	if !errors.As(err, &invalid) {
		return 0, nil
	}
	column := h.user
	if invalid.Field == "item" {
		column = h.item
	}
	return column, &fault{invalid.Reason, "correct the line, or the format and columns"}
}
