package dataset

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const small = "../../testdata/ml-latest-small"

// requireStream checks what every stream promises: time never falls, each user's
// sequence numbers are 1, 2, 3, ... and no identity occurs twice.
func requireStream(t *testing.T, d *Dataset) {
	t.Helper()
	seq, ids := map[string]uint64{}, map[string]bool{}
	var last time.Time
	for _, e := range d.Interactions(0) {
		seq[e.Body.User]++
		if e.Time.Before(last) || e.Body.Seq != seq[e.Body.User] || ids[e.ID] {
			t.Fatalf("after %s: %+v", last, e)
		}
		last, ids[e.ID] = e.Time, true
	}
	require.Len(t, seq, d.Summary().Users)
}

func TestLatestSmallIsWhole(t *testing.T) {
	d, err := Open(t.Context(), Options{Path: small})
	require.NoError(t, err)
	s := d.Summary()
	require.Equal(t, Summary{
		Format: MovieLensCSV, Read: 100_836, Interactions: 100_836, Users: 610, Items: 9724, Listed: 9742,
		First: time.Unix(828124615, 0).UTC(), Last: time.Unix(1537799250, 0).UTC(), Times: Original, Bytes: s.Bytes,
	}, s)
	require.Less(t, s.Bytes, int64(8<<20))
	requireStream(t, d)

	first := d.At(0)
	require.Equal(t, "dataset/ml-latest-small", first.Source)
	require.Equal(t, "rating", first.Body.Type)

	titles := map[string]string{}
	var toyStory []string
	for item, err := range d.Items() {
		require.NoError(t, err)
		require.Equal(t, s.First, item.Time)
		titles[item.Body.Item] = item.Body.Title
		if item.Body.Item == "1" {
			require.Equal(t, "movies.csv:2", item.ID)
			toyStory = item.Body.Categories
		}
	}
	require.Len(t, titles, 9742)
	require.Equal(t, "Toy Story (1995)", titles["1"])
	require.Equal(t, "American President, The (1995)", titles["11"])
	require.Equal(t, []string{"Adventure", "Animation", "Children", "Comedy", "Fantasy"}, toyStory)
}

// Events that share a second stay in the order of the file's lines.
func TestTiesKeepTheFilesOrder(t *testing.T) {
	d, err := Open(t.Context(), Options{Path: small})
	require.NoError(t, err)
	line := map[uint32]uint32{}
	at := map[uint32]int64{}
	ties := 0
	for _, e := range d.table.events {
		if at[e.user] == e.time {
			if ties++; e.line < line[e.user] {
				t.Fatalf("line %d comes after line %d", e.line, line[e.user])
			}
		}
		line[e.user], at[e.user] = e.line, e.time
	}
	require.Greater(t, ties, 10_000, "there should be ties to keep")
}

func TestReadingTwiceGivesTheSameEvents(t *testing.T) {
	a, err := Open(t.Context(), Options{Path: small})
	require.NoError(t, err)
	b, err := Open(t.Context(), Options{Path: small, Limit: 1000})
	require.NoError(t, err)
	require.Equal(t, a.Fingerprint(), b.Fingerprint(), "a limit ends the same stream sooner")
	require.Equal(t, 1000, b.Len())
	require.Equal(t, 100_836-1000, b.Summary().BeyondEnd)
	for i, e := range b.Interactions(0) {
		require.Equal(t, a.At(i), e)
	}
	for _, o := range []Options{
		{Path: small, MinValue: 3}, {Path: small, Name: "other"}, {Path: small, Type: "click"}, {Path: small, MinUser: 21},
	} {
		c, err := Open(t.Context(), o)
		require.NoError(t, err)
		require.NotEqual(t, a.Fingerprint(), c.Fingerprint(), "%+v", o)
	}
}

func TestFilters(t *testing.T) {
	d, err := Open(t.Context(), Options{Path: small, MinValue: 4})
	require.NoError(t, err)
	requireStream(t, d)
	s := d.Summary()
	require.Equal(t, 48_580, s.Interactions)
	require.Equal(t, s.Read-s.Interactions, s.BelowValue)
	require.Equal(t, 9742, s.Listed, "the catalogue stays whole")

	// Counted once: a has 2 events and stays, although one of them falls with item y.
	dir := write(t, map[string]string{"interactions.csv": "user,item,timestamp\na,x,1\na,y,2\nb,x,3\nb,x,4\nc,x,5\n"})
	d, err = Open(t.Context(), Options{Path: dir, MinUser: 2, MinItem: 2})
	require.NoError(t, err)
	require.Equal(t, []string{"a x 1", "b x 1", "b x 2"}, compact(d))
	require.Equal(t, 2, d.Summary().BelowCount)

	_, err = Open(t.Context(), Options{Path: dir, MinUser: 9})
	require.ErrorContains(t, err, "no interaction is left")
	_, err = Open(t.Context(), Options{Path: dir, MinValue: 3})
	require.ErrorContains(t, err, "there is no value column")
}

// write makes a folder of files; a name that ends in .gz is compressed.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		data := []byte(text)
		if filepath.Ext(name) == ".gz" {
			data = compress(t, text)
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
	return dir
}

func compress(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.Bytes()
}
