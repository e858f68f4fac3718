package dataset

import (
	"strconv"
	"strings"
)

// header is where a table's columns are; -1 = there is no such column.
type header struct {
	user, item, time, value, position int
	names                             []string // of all columns; empty without a header
	width                             int      // how many columns a row must have
}

func (h header) name(column int) string {
	if column < len(h.names) {
		return h.names[column]
	}
	switch column {
	case h.user:
		return "user"
	case h.item:
		return "item"
	case h.time:
		return "time"
	case h.value:
		return "value"
	case h.position:
		return "position"
	}
	return ""
}

// usual lists the names under which a column is looked for when the mapping does
// not name it: RecBole's, then those that logs have.
var usual = map[string][]string{
	"user":     {"user_id", "userid", "user"},
	"item":     {"item_id", "itemid", "item"},
	"time":     {"timestamp", "time"},
	"value":    {"rating", "stars", "value"},
	"position": {"position"},
}

// newHeader finds the columns of a table whose header is names, as read.
func newHeader(file string, names []string, c Columns, typed bool) (header, error) {
	h := header{names: names, width: len(names)}
	if typed {
		for i, n := range names {
			name, kind, ok := strings.Cut(n, ":")
			if !ok || name == "" || kind == "" {
				return h, &FormatError{File: file, Line: 1, Column: i + 1, What: quote(n) + " is not NAME:TYPE", Remedy: "a RecBole file begins with a header like user_id:token<tab>item_id:token<tab>timestamp:float"}
			}
			h.names[i] = name
		}
	}
	for _, want := range []struct {
		key      string
		ref      string
		at       *int
		required bool
	}{
		{"user", c.User, &h.user, true},
		{"item", c.Item, &h.item, true},
		{"time", c.Time, &h.time, false},
		{"value", c.Value, &h.value, false},
		{"position", c.Position, &h.position, false},
	} {
		*want.at = -1
		candidates := usual[want.key]
		if want.ref != "" {
			candidates = []string{want.ref}
		}
		for _, name := range candidates {
			if i := column(h.names, name, want.ref != ""); i >= 0 && *want.at < 0 {
				*want.at = i
			}
		}
		if *want.at >= 0 || (want.ref == "" && !want.required) {
			continue
		}
		what := "there is no column for the " + want.key
		if want.ref != "" {
			what = "there is no column " + quote(want.ref)
		}
		shown := quote(strings.Join(h.names, ", "))
		return h, &FormatError{File: file, Line: 1, What: what + "; the header has " + shown, Remedy: "say which column is which with a mapping: user=COLUMN,item=COLUMN,time=COLUMN,..."}
	}
	return h, h.distinct(file)
}

// column returns where a name is; guesses are made without regard to case.
func column(names []string, name string, exact bool) int {
	for i, n := range names {
		if n == name || !exact && strings.EqualFold(n, name) {
			return i
		}
	}
	return -1
}

// numberedHeader is that of a table without one.
func numberedHeader(file string, c Columns) (header, error) {
	h := header{}
	for ref, at := range map[*string]*int{&c.User: &h.user, &c.Item: &h.item, &c.Time: &h.time, &c.Value: &h.value, &c.Position: &h.position} {
		n, _ := strconv.Atoi(*ref)
		*at = n - 1
		h.width = max(h.width, n)
	}
	return h, h.distinct(file)
}

func (h header) distinct(file string) error {
	seen := map[int]bool{}
	for _, at := range []int{h.user, h.item, h.time, h.value, h.position} {
		if at >= 0 && seen[at] {
			return &FormatError{File: file, Column: at + 1, What: "the column is mapped twice", Remedy: "map each to one thing"}
		}
		seen[at] = true
	}
	return nil
}
