package dataset

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Format of a data set.
type Format string

const (
	MovieLensCSV  Format = "movielens-csv"  // ratings.csv, movies.csv: latest-small, 20M, 25M, 32M
	MovieLensDat  Format = "movielens-dat"  // ratings.dat, movies.dat: 1M, 10M; sequences.txt where there is one
	MovieLens100K Format = "movielens-100k" // u.data, u.item
	RecBole       Format = "recbole"        // NAME.inter, NAME.item: RecBole's atomic files
	CSV           Format = "csv"            // a table with commas: interactions.csv, items.jsonl or items.csv
	TSV           Format = "tsv"            // a table with tabs, nothing quoted
)

// Formats lists every format, in the order in which a folder is tried for them.
var Formats = []Format{MovieLensCSV, MovieLensDat, MovieLens100K, RecBole, CSV, TSV}

// Options say what to read and what of it to leave out.
type Options struct {
	// Path is the data set's folder, or its interactions file.
	Path string
	// Format is told by the names of the files when empty.
	Format Format
	// Name is the data set's; by default that of the folder, or of the file. It is
	// part of every event's identity (ce_source "dataset/NAME").
	Name string
	// Columns is for csv, tsv and RecBole files whose columns have other names than
	// expected.
	Columns Columns
	// Encoding is UTF-8 when empty, and found out for MovieLens' older sets.
	Encoding Encoding
	// Type of the interactions; by default "rating" where the set has values, else
	// "interaction".
	Type string

	// MinValue leaves out interactions with a lower value, or none; 0 = keep all.
	MinValue float64
	// MinUser and MinItem leave out the interactions of users and items that have
	// fewer of them; see filter for what is counted.
	MinUser, MinItem int
	// Limit keeps the first so many interactions of the stream; 0 = all.
	Limit int
}

// Columns says which column of a table is which: a name from its header or, in a
// table without a header, a number from 1. Empty ones are looked for under their
// usual names; time, value and position need not exist.
type Columns struct {
	User, Item, Time, Value string
	// Position is the place in the user's own sequence, from 0: the exact order,
	// whatever the times say.
	Position   string
	TimeFormat TimeFormat // Seconds when empty
}

// ParseColumns reads a mapping like "user=uid,item=sku,time=ts,format=ms,value=stars".
// Keys are user, item, time, value, position, and format for the time's.
func ParseColumns(s string) (Columns, error) {
	var c Columns
	if strings.TrimSpace(s) == "" {
		return c, nil
	}
	format := ""
	keys := map[string]*string{
		"user": &c.User, "item": &c.Item, "time": &c.Time, "value": &c.Value, "position": &c.Position, "format": &format,
	}
	for _, part := range strings.Split(s, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		target := keys[key]
		switch {
		case !ok || value == "":
			return c, fmt.Errorf("column mapping: %q is not KEY=COLUMN", part)
		case target == nil:
			return c, fmt.Errorf("column mapping: there is no key %q; there are user, item, time, value, position and format", key)
		case *target != "":
			return c, fmt.Errorf("column mapping: %s is given twice", key)
		}
		*target = value
	}
	c.TimeFormat = TimeFormat(format)
	return c, c.validate()
}

func (c Columns) validate() error {
	known := []TimeFormat{"", Seconds, Milliseconds, Microseconds, Nanoseconds, RFC3339, DateTime, Date}
	if !slices.Contains(known, c.TimeFormat) {
		return fmt.Errorf("column mapping: the time's format is %q; it can be s, ms, us, ns, rfc3339, datetime or date", c.TimeFormat)
	}
	numbers, names := 0, 0
	for _, ref := range []string{c.User, c.Item, c.Time, c.Value, c.Position} {
		if n, ok := atoi([]byte(ref)); ok && n > 0 {
			numbers++
		} else if ref != "" {
			names++
		}
	}
	if numbers > 0 && names > 0 {
		return fmt.Errorf("column mapping: name all columns (the table has a header), or number all from 1 (it has none)")
	}
	if numbers > 0 && (c.User == "" || c.Item == "") {
		return fmt.Errorf("column mapping: a table without a header needs the numbers of user and item")
	}
	return nil
}

// numbered reports whether columns are given by number, for a table without a header.
func (c Columns) numbered() bool {
	n, ok := atoi([]byte(c.User))
	return ok && n > 0
}

func (o Options) validate() error {
	switch {
	case o.Path == "":
		return fmt.Errorf("no data set is named: give its folder or its interactions file")
	case o.Format != "" && !slices.Contains(Formats, o.Format):
		return fmt.Errorf("there is no data set format %q; there are %s", o.Format, joined(Formats))
	case o.Encoding != "" && o.Encoding != UTF8 && o.Encoding != Latin1:
		return fmt.Errorf("there is no encoding %q; there are utf-8 and latin-1", o.Encoding)
	case o.MinUser < 0 || o.MinItem < 0 || o.Limit < 0:
		return fmt.Errorf("minimum counts and the limit cannot be negative: %d, %d, %d", o.MinUser, o.MinItem, o.Limit)
	}
	return o.Columns.validate()
}

// name returns the data set's name; folder and file names can hold what a name may
// not, which Open finds with the first event.
func (o Options) name() string {
	if o.Name != "" {
		return o.Name
	}
	path := o.Path
	if abs, err := filepath.Abs(path); err == nil { // "." has a name too
		path = abs
	}
	base := filepath.Base(path)
	for _, ext := range []string{".gz", ".csv", ".tsv", ".inter", ".dat", ".data"} {
		base = strings.TrimSuffix(base, ext)
	}
	return base
}

func joined[T ~string](all []T) string {
	s := make([]string, len(all))
	for i, f := range all {
		s[i] = string(f)
	}
	return strings.Join(s, ", ")
}
