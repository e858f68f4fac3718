package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/segmentio/encoding/json"

	"seralm/stream"
)

// Items yields the catalogue, read anew from its file; all of it, whichever items
// the filters left. Its time is that of the first interaction: it is known before
// the stream begins. A set without a catalogue yields nothing.
func (d *Dataset) Items() iter.Seq2[stream.Event[stream.Item], error] {
	return func(yield func(stream.Event[stream.Item], error) bool) {
		if d.layout.items == "" {
			return
		}
		f, err := openFile(d.layout.items)
		if err != nil {
			yield(stream.Event[stream.Item]{}, fmt.Errorf("opening the catalogue: %w", err))
			return
		}
		defer f.Close()
		for item, err := range readItems(d.layout, f) {
			item.Source, item.Time, item.Body.Time = d.Source(), d.summary.First, d.summary.First
			if !yield(item, err) || err != nil {
				return
			}
		}
	}
}

// checkItems reads the catalogue once, so that a damaged one is found before
// anything is sent.
func (d *Dataset) checkItems(ctx context.Context) error {
	known := make([]bool, len(d.table.items.ids))
	others := map[string]struct{}{}
	for item, err := range d.Items() {
		if err != nil {
			return err
		}
		if i, ok := d.table.items.rows[item.Body.Item]; ok {
			if !known[i] {
				d.summary.Listed++
			}
			known[i] = true
		} else {
			others[item.Body.Item] = struct{}{}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	d.summary.Listed += len(others)
	for _, e := range d.table.events {
		if !known[e.item] {
			known[e.item] = true
			d.summary.Unlisted++
		}
	}
	return nil
}

// itemParser makes an item of a row.
type itemParser func(fields [][]byte) (stream.Item, *fault)

func readItems(l layout, in io.Reader) iter.Seq2[stream.Event[stream.Item], error] {
	return func(yield func(stream.Event[stream.Item], error) bool) {
		fail := func(err error) { yield(stream.Event[stream.Item]{}, err) }
		r := newRows(l.items, in, l.dialect)
		parse, err := itemReader(l, r)
		if err != nil {
			fail(err)
			return
		}
		prefix := plain(filepath.Base(l.items)) + ":"
		for {
			fields, err := r.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				fail(err)
				return
			}
			item, f := parse(fields)
			if f == nil {
				var invalid *stream.InvalidError
				if errors.As(item.Validate(), &invalid) {
					f = &fault{invalid.Error(), "correct or remove the line"}
				}
			}
			if f != nil {
				fail(&FormatError{File: l.items, Line: r.line, What: f.what, Remedy: f.remedy})
				return
			}
			if !yield(stream.Event[stream.Item]{ID: prefix + strconv.Itoa(r.line), Body: item}, nil) {
				return
			}
		}
	}
}

// itemReader sets r up for the catalogue of a layout, and reads its header if any.
func itemReader(l layout, r *rows) (itemParser, error) {
	switch {
	case l.format == MovieLensDat:
		return movie, nil
	case l.format == MovieLens100K:
		r.separator = "|"
		return movie100K, nil
	case strings.HasSuffix(plain(l.items), ".jsonl"):
		r.separator, r.quoted = "\n", false // no line holds one: a line is one field
		return jsonItem, nil
	case strings.HasSuffix(plain(l.items), ".csv"):
		r.separator, r.quoted = ",", true
	default:
		r.separator, r.quoted = "\t", false
	}
	head, err := r.next()
	if errors.Is(err, io.EOF) {
		return nil, &FormatError{File: r.file, What: "the file is empty", Remedy: "is this the right file, and whole?"}
	}
	if err != nil {
		return nil, err
	}
	return catalogueTable(l, head)
}

// catalogueTable reads items from a table with a header.
func catalogueTable(l layout, head [][]byte) (itemParser, error) {
	names := make([]string, len(head))
	for i, f := range head {
		names[i] = string(f)
		if l.typed {
			names[i], _, _ = strings.Cut(names[i], ":")
		}
	}
	find := func(usual ...string) int {
		for _, u := range usual {
			if i := column(names, u, false); i >= 0 {
				return i
			}
		}
		return -1
	}
	id := find("item_id", "movieId", "itemId", "item", "id")
	title := find("title", "movie_title", "item_name", "name")
	categories := find("categories", "genres", "genre", "class", "category")
	if id < 0 {
		return nil, &FormatError{File: l.items, Line: 1, What: "there is no column item_id; the header has " + quote(strings.Join(names, ", ")), Remedy: "name the item's column item_id, and others title and categories"}
	}
	separator := "|"
	if l.typed {
		separator = " " // RecBole's seq_separator
	}
	return func(fields [][]byte) (stream.Item, *fault) {
		if len(fields) != len(names) {
			return stream.Item{}, wrongWidth(len(fields), len(names))
		}
		item := stream.Item{Item: string(fields[id])}
		if title >= 0 {
			item.Title = strings.TrimSpace(string(fields[title]))
		}
		if categories >= 0 {
			item.Categories = splitCategories(fields[categories], separator)
		}
		return item, nil
	}, nil
}

func wrongWidth(have, want int) *fault {
	return &fault{fmt.Sprintf("there are %d columns where %d belong", have, want), "if it is the last line, the file is truncated: get it again; else correct the line or the format"}
}

func splitCategories(field []byte, separator string) []string {
	if len(field) == 0 || string(field) == "(no genres listed)" {
		return nil
	}
	var out []string
	for _, c := range strings.Split(string(field), separator) {
		if c = strings.TrimSpace(c); c != "" {
			out = append(out, c)
		}
	}
	return out
}

// movie reads MovieID::Title::Genre|Genre.
func movie(fields [][]byte) (stream.Item, *fault) {
	if len(fields) != 3 {
		return stream.Item{}, wrongWidth(len(fields), 3)
	}
	return stream.Item{
		Item: string(fields[0]), Title: strings.TrimSpace(string(fields[1])), Categories: splitCategories(fields[2], "|"),
	}, nil
}

// genres100K are the flags at the end of a line of u.item; the first means none.
var genres100K = []string{
	"unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
	"Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
}

// movie100K reads id|title|released|video|url|19 flags.
func movie100K(fields [][]byte) (stream.Item, *fault) {
	const before = 5
	if want := before + len(genres100K); len(fields) != want {
		return stream.Item{}, wrongWidth(len(fields), want)
	}
	item := stream.Item{Item: string(fields[0]), Title: strings.TrimSpace(string(fields[1]))}
	for i, g := range genres100K {
		switch flag := fields[before+i]; {
		case len(flag) != 1 || flag[0] != '0' && flag[0] != '1':
			return item, &fault{fmt.Sprintf("column %d: the genre flag is %s, neither 0 nor 1", before+i+1, quote(flag)), "correct the line"}
		case flag[0] == '1' && i > 0:
			item.Categories = append(item.Categories, g)
		}
	}
	return item, nil
}

// jsonItem reads {"item_id", "title", "categories", "attributes", "text", "text_id"}:
// attributes stand in for categories, text_id (key words) for text. Other members
// are ignored: catalogues carry much that is not ours.
func jsonItem(fields [][]byte) (stream.Item, *fault) {
	var v struct {
		Item       string   `json:"item_id"`
		Title      string   `json:"title"`
		Categories []string `json:"categories"`
		Attributes []string `json:"attributes"`
		Text       string   `json:"text"`
		Words      string   `json:"text_id"`
	}
	line := bytes.TrimSpace(fields[0])
	if err := json.Unmarshal(line, &v); err != nil {
		return stream.Item{}, &fault{fmt.Sprintf("it is not an item: %.200s", err), "each line must be one JSON object like {\"item_id\": \"1\", \"title\": \"...\", \"categories\": [\"...\"]}"}
	}
	item := stream.Item{Item: v.Item, Title: strings.TrimSpace(v.Title), Text: v.Text}
	if len(v.Categories) == 0 {
		v.Categories = v.Attributes
	}
	for _, c := range v.Categories {
		if c = strings.TrimSpace(c); c != "" {
			item.Categories = append(item.Categories, c)
		}
	}
	if item.Text == "" {
		item.Text = v.Words
	}
	return item, nil
}
