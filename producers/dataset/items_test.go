package dataset

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/stream"
)

func TestCatalogues(t *testing.T) {
	flags := func(set ...int) string {
		f := strings.Split(strings.Repeat("0", 19), "")
		for _, i := range set {
			f[i] = "1"
		}
		return strings.Join(f, "|")
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []stream.Item
	}{
		{
			"movies.dat, latin-1",
			map[string]string{"ratings.dat": "1::2::3::4\n", "movies.dat": "2::Mis\xe9rables, Les (1995)::Drama|Musical\n3::B::Drama\n"},
			[]stream.Item{{Item: "2", Title: "Misérables, Les (1995)", Categories: []string{"Drama", "Musical"}}, {Item: "3", Title: "B", Categories: []string{"Drama"}}},
		},
		{
			"u.item with genre flags",
			map[string]string{"u.data": "1\t2\t3\t4\n", "u.item": "2|Caf\xe9|01-Jan-1995||http://x|" + flags(1, 18) + "\n3|unknown||||" + flags(0) + "\n"},
			[]stream.Item{{Item: "2", Title: "Café", Categories: []string{"Action", "Western"}}, {Item: "3", Title: "unknown"}},
		},
		{
			"RecBole's atomic file",
			map[string]string{"a.inter": interFile, "a.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n2\tToy Story\t1995\tAnimation Children's\n"},
			[]stream.Item{{Item: "2", Title: "Toy Story", Categories: []string{"Animation", "Children's"}}},
		},
		{
			"JSON lines: attributes and key words stand in",
			map[string]string{"interactions.csv": "user,item\n1,2\n", "items.jsonl.gz": `{"item_id": "2", "title": " A ", "categories": ["x", " "], "text": "t", "year": 1}` + "\n" + `{"item_id": "3", "text_id": "nail lacquer", "attributes": ["OPI"]}` + "\n"},
			[]stream.Item{{Item: "2", Title: "A", Categories: []string{"x"}, Text: "t"}, {Item: "3", Text: "nail lacquer", Categories: []string{"OPI"}}},
		},
		{
			"a table without genres",
			map[string]string{"ratings.csv": csvRatings, "movies.csv": "movieId,title,genres\n2,\"A \"\"B\"\", C\",(no genres listed)\n"},
			[]stream.Item{{Item: "2", Title: `A "B", C`}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Open(t.Context(), Options{Path: write(t, c.files)})
			require.NoError(t, err)
			var got []stream.Item
			for item, err := range d.Items() {
				require.NoError(t, err)
				require.Equal(t, d.Summary().First, item.Body.Time)
				item.Body.Time = c.want[0].Time
				got = append(got, item.Body)
			}
			require.Equal(t, c.want, got)
			require.Equal(t, len(c.want), d.Summary().Listed)
			require.Zero(t, d.Summary().Unlisted)
		})
	}
}

func TestItemsThatNoCatalogueLists(t *testing.T) {
	d, err := Open(t.Context(), Options{Path: write(t, map[string]string{
		"interactions.csv": "user,item\n1,a\n1,b\n2,b\n", "items.csv": "item_id,title\na,A\nz,Z\na,A again\n",
	})})
	require.NoError(t, err)
	require.Equal(t, 2, d.Summary().Listed)
	require.Equal(t, 1, d.Summary().Unlisted)
}
