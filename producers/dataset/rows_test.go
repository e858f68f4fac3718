package dataset

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func readRows(text string, d dialect) (all [][]string, lines []int, err error) {
	r := newRows("f", strings.NewReader(text), d)
	for {
		fields, err := r.next()
		if errors.Is(err, io.EOF) {
			return all, lines, nil
		}
		if err != nil {
			return all, lines, err
		}
		row := make([]string, len(fields))
		for i, f := range fields {
			row[i] = string(f)
		}
		all, lines = append(all, row), append(lines, r.line)
	}
}

func TestRows(t *testing.T) {
	comma := dialect{separator: ",", quoted: true, encoding: UTF8}
	for _, c := range []struct {
		name, text string
		d          dialect
		want       [][]string
		lines      []int
	}{
		{"line ends of every kind, blank lines, none at the end", "a,b\r\n\n\r\nc,d\ne,f", comma, [][]string{{"a", "b"}, {"c", "d"}, {"e", "f"}}, []int{1, 4, 5}},
		{"empty fields", ",\n,,\n", comma, [][]string{{"", ""}, {"", "", ""}}, []int{1, 2}},
		{"quotes, doubled quotes, a field over lines", "\"a,\"\"x\"\"\",b\n\"c\r\n\nd\",e\nf,\"\"\n", comma, [][]string{{`a,"x"`, "b"}, {"c\n\nd", "e"}, {"f", ""}}, []int{1, 2, 5}},
		{"a byte order mark", "\xef\xbb\xbfa,b\n", comma, [][]string{{"a", "b"}}, []int{1}},
		{"a long separator", "1::a:b::c\n", dialect{separator: "::", encoding: UTF8}, [][]string{{"1", "a:b", "c"}}, []int{1}},
		{"quotes mean nothing in a tab table", "\"a\tb\"\n", dialect{separator: "\t", encoding: UTF8}, [][]string{{`"a`, `b"`}}, []int{1}},
		{"latin-1", "Mis\xe9rables\n", dialect{separator: "|", encoding: Latin1}, [][]string{{"Misérables"}}, []int{1}},
		{"latin-1 or UTF-8, line by line", "Mis\xe9rables\nMisérables\n", dialect{separator: "|", encoding: mixed}, [][]string{{"Misérables"}, {"Misérables"}}, []int{1, 2}},
		{"a line longer than the buffer", strings.Repeat("x", 200_000) + ",y\nz,w\n", comma, [][]string{{strings.Repeat("x", 200_000), "y"}, {"z", "w"}}, []int{1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows, lines, err := readRows(c.text, c.d)
			require.NoError(t, err)
			require.Equal(t, c.want, rows)
			require.Equal(t, c.lines, lines)
		})
	}
}

// FuzzRows: what the standard library reads as CSV, we read the same, and what it
// refuses, we refuse.
func FuzzRows(f *testing.F) {
	for _, s := range []string{
		"a,b\r\nc,d\n", "\"a\"\"b\",c\n", "\"a\nb\",c", "\"a", "a\"b,c\n", "\"a\"b\n", ",\n,\n", "\r\n\n", "a\r", "\"\r\n\"\n",
		"1::2::3\n", "\xff\xfe", "\xe9,a\n",
	} {
		f.Add(s, byte(0))
		f.Add(s, byte(1))
	}
	f.Fuzz(func(t *testing.T, text string, kind byte) {
		if kind%2 == 1 {
			for _, d := range []dialect{{separator: "::", encoding: mixed}, {separator: "\t", encoding: Latin1}, {separator: " ", encoding: UTF8}} {
				rows, _, err := readRows(text, d)
				for _, row := range rows {
					require.NotEmpty(t, row)
				}
				require.True(t, err == nil || d.encoding == UTF8 || strings.Contains(err.Error(), "UTF-16"), "%v", err)
			}
			return
		}
		got, _, err := readRows(text, dialect{separator: ",", quoted: true, encoding: UTF8})
		if !utf8.ValidString(text) || strings.HasPrefix(text, "\xef\xbb\xbf") {
			return
		}
		std := csv.NewReader(strings.NewReader(text))
		std.FieldsPerRecord = -1
		want, wantErr := std.ReadAll()
		if wantErr != nil {
			require.Error(t, err, "the standard library says %v", wantErr)
			return
		}
		require.NoError(t, err)
		require.Len(t, got, len(want))
		for i := range want {
			require.Equal(t, want[i], got[i])
		}
	})
}

// FuzzDecompress: whatever a file holds, opening it ends in text or in an error.
func FuzzDecompress(f *testing.F) {
	whole := compress(f, "a,b\nc,d\n")
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte("plain"))
	f.Add([]byte{0x1f, 0x8b})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decompressed(bytes.NewReader(data), "f")
		if err != nil {
			return
		}
		rows := newRows("f", io.LimitReader(r, 1<<20), dialect{separator: ",", encoding: Latin1})
		for err == nil {
			_, err = rows.next()
		}
		var format *FormatError
		require.True(t, errors.Is(err, io.EOF) || errors.As(err, &format), "%v", err)
	})
}
