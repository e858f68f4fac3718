package dataset

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// layout is where a data set's files are and how they are written.
type layout struct {
	format       Format
	interactions string // path
	items        string // path, or empty
	sequences    string // path of each user's items in exact order, or empty
	dialect      dialect
	typed        bool // the header says NAME:TYPE, as RecBole's
	// columns by name (there is a header) or number (there is none), and what to
	// call a numbered one in an error.
	columns Columns
}

// locate finds a data set's files, and its format where that is not given.
func locate(o Options) (layout, error) {
	if err := o.validate(); err != nil {
		return layout{}, err
	}
	info, err := os.Stat(o.Path)
	if err != nil {
		return layout{}, fmt.Errorf("opening the data set: %w", err)
	}
	dir := folder{path: o.Path}
	var given string // the interactions file, where Path names it
	if !info.IsDir() {
		dir.path, given = filepath.Split(o.Path)
		dir.path = filepath.Clean(dir.path)
	}
	if err := dir.list(); err != nil {
		return layout{}, fmt.Errorf("opening the data set: %w", err)
	}
	formats := Formats
	if o.Format != "" {
		formats = []Format{o.Format}
	}
	for _, f := range formats {
		l, ok, err := dir.as(f, given, o.Format != "")
		if err != nil {
			return layout{}, err
		}
		if ok {
			return l.configure(o)
		}
	}
	return layout{}, dir.unknown(o.Format, given)
}

// folder is a data set's folder; files are found by their name without ".gz".
type folder struct {
	path  string
	files []string
}

func (d *folder) list() error {
	entries, err := os.ReadDir(d.path)
	for _, e := range entries {
		if !e.IsDir() {
			d.files = append(d.files, e.Name())
		}
	}
	return err
}

func plain(name string) string { return strings.TrimSuffix(name, ".gz") }

// find returns the path of a file, or "".
func (d *folder) find(name string) string {
	for _, f := range d.files {
		if plain(f) == name {
			return filepath.Join(d.path, f)
		}
	}
	return ""
}

// withExt returns the files with one extension.
func (d *folder) withExt(ext string) []string {
	var out []string
	for _, f := range d.files {
		if strings.HasSuffix(plain(f), ext) {
			out = append(out, f)
		}
	}
	return out
}

// as returns the layout of the folder in one format, if it has that. given is the
// interactions file where the caller named it; forced says that the format was named.
func (d *folder) as(f Format, given string, forced bool) (layout, bool, error) {
	l := layout{format: f, dialect: dialect{encoding: UTF8}}
	interactions := func(name string) bool {
		switch {
		case given == "":
			l.interactions = d.find(name)
		case forced, plain(given) == name:
			l.interactions = filepath.Join(d.path, given)
		}
		return l.interactions != ""
	}
	switch f {
	case MovieLensCSV:
		l.dialect.separator, l.dialect.quoted = ",", true
		l.columns = Columns{User: "userId", Item: "movieId", Value: "rating", Time: "timestamp"}
		l.items = d.find("movies.csv")
		// Other sets have a ratings.csv too, with other columns.
		return l, interactions("ratings.csv") && (forced || l.items != ""), nil
	case MovieLensDat:
		l.dialect = dialect{separator: "::", encoding: mixed}
		l.columns = Columns{User: "1", Item: "2", Value: "3", Time: "4"}
		l.items, l.sequences = d.find("movies.dat"), d.find("sequences.txt")
		return l, interactions("ratings.dat"), nil
	case MovieLens100K:
		l.dialect = dialect{separator: "\t", encoding: mixed}
		l.columns = Columns{User: "1", Item: "2", Value: "3", Time: "4"}
		l.items = d.find("u.item")
		return l, interactions("u.data"), nil
	case RecBole:
		l.dialect.separator, l.typed = "\t", true
		name := given
		if name == "" {
			all := d.withExt(".inter")
			if len(all) > 1 {
				return l, false, fmt.Errorf("%s holds %d files *.inter: %s; name one of them", d.path, len(all), strings.Join(all, ", "))
			}
			if len(all) == 0 {
				return l, false, nil
			}
			name = all[0]
		}
		stem, ok := strings.CutSuffix(plain(name), ".inter")
		l.items = d.find(stem + ".item")
		return l, interactions(plain(name)) && (ok || forced), nil
	case CSV, TSV:
		ext := "." + string(f)
		l.dialect.separator, l.dialect.quoted = ",", true
		if f == TSV {
			l.dialect.separator, l.dialect.quoted = "\t", false
		}
		if given != "" {
			// A lone table says nothing of which file beside it might hold its items.
			return l, (forced || strings.HasSuffix(plain(given), ext)) && interactions(plain(given)), nil
		}
		for _, items := range []string{"items.jsonl", "items.csv", "items.tsv"} {
			if l.items == "" {
				l.items = d.find(items)
			}
		}
		return l, interactions("interactions" + ext), nil
	}
	panic("BUG: no layout for the format " + string(f))
}

// configure applies what the options say about the files.
func (l layout) configure(o Options) (layout, error) {
	if o.Encoding != "" {
		l.dialect.encoding = o.Encoding
	}
	if o.Columns == (Columns{}) {
		return l, nil
	}
	if !slices.Contains([]Format{CSV, TSV, RecBole}, l.format) {
		return l, fmt.Errorf("the format %s has columns of its own; a mapping is for csv, tsv and recbole", l.format)
	}
	if l.typed && o.Columns.numbered() {
		return l, fmt.Errorf("a RecBole file has a header: name the columns instead of numbering them")
	}
	l.columns = o.Columns
	return l, nil
}

// unknown is the error for a folder or file that is no data set of any format.
func (d *folder) unknown(format Format, given string) error {
	if given != "" {
		return fmt.Errorf("the name of %s tells no data set format: set it to one of %s", filepath.Join(d.path, given), joined(Formats))
	}
	held := strings.Join(d.files[:min(len(d.files), 8)], ", ")
	if len(d.files) > 8 {
		held += ", ..."
	}
	if held == "" {
		held = "no file"
	}
	want := map[Format]string{
		MovieLensCSV: "ratings.csv", MovieLensDat: "ratings.dat", MovieLens100K: "u.data",
		RecBole: "NAME.inter", CSV: "interactions.csv", TSV: "interactions.tsv",
	}
	if format != "" {
		return fmt.Errorf("%s holds %s, and no %s (or .gz), which the format %s needs: name the interactions file itself", d.path, held, want[format], format)
	}
	return fmt.Errorf("%s is no data set: it holds %s, and none of ratings.csv with movies.csv, ratings.dat, u.data, NAME.inter, interactions.csv or interactions.tsv (or .gz); name the interactions file itself", d.path, held)
}
