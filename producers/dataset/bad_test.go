package dataset

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// One damaged file per error message: each names file, line, column and remedy.
func TestDamagedFiles(t *testing.T) {
	const (
		head  = "userId,movieId,rating,timestamp\n"
		films = "movieId,title,genres\n2,T,X\n"
	)
	ratings := func(rows string) map[string]string {
		return map[string]string{"ratings.csv": head + rows, "movies.csv": films}
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"a line cut short", ratings("1,2,3.5,1000\n1,2"), "ratings.csv:3: there are 2 columns where 4 belong (if it is the last line, the file is truncated: get it again; else correct the line or the format)"},
		{"too many columns", ratings("1,2,3.5,1000,9\n"), "ratings.csv:2: there are 5 columns where 4 belong"},
		{"a rating that is no number", ratings("1,2,good,1000\n"), `ratings.csv:2: column 3 (rating): "good" is not a number (correct it, or leave`},
		{"NaN", ratings("1,2,NaN,1000\n"), "ratings.csv:2: column 3 (rating): the value is NaN (correct it, or leave the field empty where there is none)"},
		{"infinity", ratings("1,2,-Inf,1000\n"), `column 3 (rating): the value "-Inf" is larger than 1e+09`},
		{"an absurd value", ratings("1,2,1e300,1000\n"), `the value "1e300" is larger than 1e+09`},
		{"a time that is no number", ratings("1,2,3,yesterday\n"), `column 4 (timestamp): "yesterday" is not a number (a time is Unix seconds unless`},
		{"a time in milliseconds", ratings("1,2,3,1430431319000\n"), `"1430431319000" is not a time between 1970 and 2100 in "s" (in "ms" it is 2015-04-30: set the time's format to that)`},
		{"a clock far from any", ratings("1,2,3,999999999999999999\n"), `(in "ns" it is 2001-09-09`},
		{"a time before 1970", ratings("1,2,3,-5\n"), `"-5" is not a time between 1970 and 2100`},
		{"a time that is missing", ratings("1,2,3,\n"), "column 4 (timestamp): it is empty (give every row a time, or add a position column that says the order)"},
		{"no user", ratings(",2,3,1000\n"), "ratings.csv:2: column 1 (userId): it is empty"},
		{"a control character", ratings("1,2\x00,3,1000\n"), "column 2 (movieId): it holds a control character"},
		{"a name too long", ratings(strings.Repeat("u", 600) + ",2,3,1000\n"), "column 1 (userId): it is longer than 512 bytes"},
		{"no rows", ratings(""), "ratings.csv: there are no interactions in it (is this the right file, and whole?)"},
		{"nothing at all", map[string]string{"ratings.csv": "", "movies.csv": films}, "ratings.csv: the file is empty"},
		{"another header", map[string]string{"ratings.csv": "a,b\n1,2\n", "movies.csv": films}, `ratings.csv:1: there is no column "userId"; the header has "a, b"`},
		{"not UTF-8", ratings("\xe9,2,3,1000\n"), `ratings.csv:2: the text is not valid UTF-8: "\xe9,2,3,1000" (if it is Western European, set the encoding to latin-1`},
		{"UTF-16", map[string]string{"ratings.csv": "\xff\xfeu\x00\n", "movies.csv": films}, "ratings.csv:1: the text is UTF-16 (turn it into UTF-8"},
		{"a quote never closed", ratings("\"1,2,3,1000\n1,2,3,1000\n"), "ratings.csv:2: column 1: a quote is opened and never closed"},
		{"a quote out of place", ratings("1,a\"b,3,1000\n"), "ratings.csv:2: column 2: there is a quote inside a field that is not quoted"},
		{"text after a quote", ratings("1,\"a\"b,3,1000\n"), "ratings.csv:2: column 2: there is text after the closing quote"},
		{"a line without end", ratings(strings.Repeat("x", MaxLine+1)), "ratings.csv:2: the line is longer than 1048576 bytes"},
		{"a quoted field without end", ratings("\"" + strings.Repeat("x\n", MaxLine/2+1)), "ratings.csv:2: column 1: a quoted field is longer than 1048576 bytes"},
		{"an atomic file without types", map[string]string{"a.inter": "user_id\titem_id\n1\t2\n"}, `a.inter:1: column 1: "user_id" is not NAME:TYPE (a RecBole file begins with a header like`},
		{"a position that is none", map[string]string{"interactions.csv": "user_id,item_id,position\n1,2,-1\n"}, `interactions.csv:2: column 3 (position): "-1" is not a position`},
		{"fields by number", map[string]string{"ratings.dat": "1::2::x::4\n"}, `ratings.dat:1: column 3 (value): "x" is not a number`},
		{"a sequence of another edition", map[string]string{"ratings.dat": "1::2::3::4\n", "sequences.txt": "1 2 2\n"}, "sequences.txt:1: column 3: the user has no such interaction in ratings.dat, or not so many"},
		{"a sequence of an unknown user", map[string]string{"ratings.dat": "1::2::3::4\n", "sequences.txt": "9 2\n"}, "sequences.txt:1: column 1: the user is not in ratings.dat"},
		{"a sequence cut short", map[string]string{"ratings.dat": "1::2::3::4\n1::5::3::4\n", "sequences.txt": "1 2\n"}, "sequences.txt: it orders 1 of the 2 interactions in ratings.dat"},
		{"a film cut short", map[string]string{"ratings.csv": head + "1,2,3,4\n", "movies.csv": "movieId,title,genres\n2,T"}, "movies.csv:2: there are 2 columns where 3 belong"},
		{"a film without an id", map[string]string{"ratings.csv": head + "1,2,3,4\n", "movies.csv": "movieId,title,genres\n,T,X\n"}, "movies.csv:2: invalid item: it is empty"},
		{"a catalogue without ids", map[string]string{"interactions.csv": "user,item\n1,2\n", "items.csv": "sku,title\n2,T\n"}, `items.csv:1: there is no column item_id; the header has "sku, title"`},
		{"an empty catalogue", map[string]string{"interactions.csv": "user,item\n1,2\n", "items.csv": ""}, "items.csv: the file is empty"},
		{"an item that is no JSON", map[string]string{"interactions.csv": "user,item\n1,2\n", "items.jsonl": "{\"item_id\":\"2\"}\n{\"item"}, "items.jsonl:2: it is not an item: "},
		{"a genre flag", map[string]string{"u.data": "1\t2\t3\t4\n", "u.item": "2|T||||x" + strings.Repeat("|0", 18) + "\n"}, `u.item:1: column 6: the genre flag is "x", neither 0 nor 1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(t.Context(), Options{Path: write(t, c.files)})
			require.ErrorContains(t, err, c.want)
			var format *FormatError
			require.ErrorAs(t, err, &format)
			require.NotEmpty(t, format.Remedy)
		})
	}
}

func TestATruncatedDownloadIsToldFromADamagedOne(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(small, "ratings.csv.gz"))
	require.NoError(t, err)
	films, err := os.ReadFile(filepath.Join(small, "movies.csv"))
	require.NoError(t, err)
	open := func(ratings []byte) error {
		dir := write(t, map[string]string{"movies.csv": string(films)})
		require.NoError(t, os.WriteFile(filepath.Join(dir, "ratings.csv.gz"), ratings, 0o644))
		_, err := Open(t.Context(), Options{Path: dir})
		return err
	}
	require.NoError(t, open(whole))

	for _, n := range []int{5, len(whole) / 2, len(whole) - 1} {
		err = open(whole[:n])
		require.ErrorContains(t, err, "the gzip file ends in the middle", n)
		require.ErrorContains(t, err, "it is truncated: get it again, and check with gzip -t")
	}
	flipped := append([]byte(nil), whole...)
	flipped[len(flipped)-6] ^= 1 // of the checksum
	require.ErrorContains(t, open(flipped), "the gzip file is damaged")
	flipped = append([]byte(nil), whole...)
	flipped[len(flipped)/2] ^= 0xff
	var format *FormatError
	require.ErrorAs(t, open(flipped), &format)
}

func TestOpenEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, Options{Path: small})
	require.ErrorIs(t, err, ctx.Err())
}
