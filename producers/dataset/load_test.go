package dataset

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/stream"
)

// layouts of every format, without files.
func layouts(t testing.TB) []layout {
	var out []layout
	for _, f := range Formats {
		d := folder{path: "d", files: []string{
			"ratings.csv", "movies.csv", "ratings.dat", "movies.dat", "sequences.txt", "u.data", "u.item",
			"a.inter", "a.item", "interactions.csv", "interactions.tsv", "items.csv",
		}}
		l, ok, err := d.as(f, "", true)
		require.NoError(t, err)
		require.True(t, ok)
		out = append(out, l)
	}
	return out
}

// FuzzTable: whatever an interactions file of any format holds, it ends in an error
// that says where, or in a stream that keeps its promises and can be sent.
func FuzzTable(f *testing.F) {
	for i, text := range []string{
		csvRatings, "1::2::3::4\n1::3::3::4\n", "1\t2\t3\t4\n", interFile,
		"user_id,item_id,position,timestamp\n1,a,0,\n1,b,1,5\n1,c,5,\n", "user\titem\tvalue\n\"1\t2\t\n",
	} {
		f.Add(byte(i), text, 0.0, 0)
		f.Add(byte(i), text[:len(text)-3], 3.0, 2)
	}
	all := layouts(f)
	f.Fuzz(func(t *testing.T, format byte, text string, minValue float64, minUser int) {
		l := all[int(format)%len(all)]
		table, err := readTable(t.Context(), l, strings.NewReader(text))
		d := &Dataset{layout: l, name: "n", kind: "k", table: table}
		if err == nil {
			table.order(&d.summary, false)
			err = table.filter(Options{MinValue: minValue, MinUser: minUser}, &d.summary)
		}
		if err != nil {
			var where *FormatError
			require.ErrorAs(t, err, &where)
			require.NotEmpty(t, where.File)
			require.NotEmpty(t, where.Remedy)
			return
		}
		d.summarise()
		requireStream(t, d)
		for _, e := range d.Interactions(0) {
			_, err := stream.NewRecord("any", e.Body.User, e.ID, e.Source, e.Time, e.Body)
			require.NoError(t, err)
		}
	})
}

// FuzzSequences: an order file is refused or places every event once.
func FuzzSequences(f *testing.F) {
	f.Add("1::a::5::10\n1::b::5::10\n2::c::5::10\n1::a::5::10\n", "1 a b a\n2 c\n")
	f.Add("1::a::5::10\n", "1 a a\n")
	f.Add("1::a::5::10\n", "1 a")
	f.Fuzz(func(t *testing.T, ratings, sequences string) {
		table, err := readTable(t.Context(), layouts(t)[1], strings.NewReader(ratings))
		if err != nil {
			return
		}
		if err := table.readSequences(t.Context(), "sequences.txt", strings.NewReader(sequences)); err != nil {
			var where *FormatError
			require.ErrorAs(t, err, &where)
			return
		}
		type place struct{ user, seq uint32 }
		seen := map[place]bool{}
		for _, e := range table.events {
			require.False(t, seen[place{e.user, e.seq}])
			seen[place{e.user, e.seq}] = true
		}
	})
}

// FuzzItems: a catalogue of any format ends in an error or in items that can be sent.
func FuzzItems(f *testing.F) {
	for i, text := range []string{
		"movieId,title,genres\n1,\"T, x\",A|B\n", "1::T::A|B\n", "1|T||||" + strings.Repeat("0|", 18) + "1\n",
		"item_id:token\tmovie_title:token_seq\tclass:token_seq\n1\tT x\tA B\n", "item_id,title\n1,T\n", "item\tname\n1\tT\n",
	} {
		f.Add(byte(i), text)
	}
	f.Add(byte(255), `{"item_id":"1","title":"T","categories":["a",""],"text_id":"w"}`)
	all := layouts(f)
	f.Fuzz(func(t *testing.T, format byte, text string) {
		l := all[int(format)%len(all)]
		if format > 127 {
			l.items = "d/items.jsonl"
		}
		for item, err := range readItems(l, strings.NewReader(text)) {
			if err != nil {
				var where *FormatError
				require.ErrorAs(t, err, &where)
				return
			}
			require.NoError(t, item.Body.Validate())
		}
	})
}
