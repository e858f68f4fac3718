package replay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/producers/dataset"
)

func TestACursorThatIsNotOursIsRefusedAndNamed(t *testing.T) {
	data := open(t, dataset.Options{Limit: 100})
	right := cursor{Format: cursorFormat, Dataset: data.Name(), Fingerprint: data.Fingerprint(), Log: "log", Items: 5, Next: 50}
	change := func(fn func(*cursor)) []byte {
		c := right
		fn(&c)
		return c.encode()
	}
	for _, c := range []struct {
		name string
		data []byte
		want string // "" = accepted
	}{
		{"as it was written", right.encode(), ""},
		{"behind the limit of now", change(func(c *cursor) { c.Next = 5000 }), ""},
		{"of other filters", change(func(c *cursor) { c.Fingerprint = "other" }), "another data set ml-latest-small"},
		{"of another log", change(func(c *cursor) { c.Log = "other" }), "another data set or log"},
		{"behind the end of the data set", change(func(c *cursor) { c.Next = 100_837 }), "100837 of 100836"},
		{"a negative place", change(func(c *cursor) { c.Next = -1 }), "negative"},
		{"of a later version", change(func(c *cursor) { c.Format = 2 }), "its format is 2"},
		{"empty", nil, "damaged: it is not a cursor"},
		{"cut short", right.encode()[:40], "damaged: it is not a cursor"},
		{"a digit changed", []byte(strings.Replace(string(right.encode()), `"next":50`, `"next":90`, 1)), "its checksum does not fit"},
		{"something behind it", append(right.encode(), ' '), "its checksum does not fit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "ml-latest-small-log.json")
			require.NoError(t, os.WriteFile(path, c.data, 0o644))
			f, err := openCursor(dir, data, "log", false)
			if c.want == "" {
				require.NoError(t, err)
				require.NoError(t, f.close())
				return
			}
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, path)
			require.ErrorContains(t, err, "--restart")
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(c.data), string(after), "an error changes nothing")

			f, err = openCursor(dir, data, "log", true)
			require.NoError(t, err, "the remedy works")
			require.Zero(t, f.Next)
			require.NoError(t, f.close())
		})
	}
}

func TestACursorSurvives(t *testing.T) {
	data, dir := open(t, dataset.Options{Limit: 100}), t.TempDir()
	f, err := openCursor(dir, data, "log", false)
	require.NoError(t, err)
	_, err = openCursor(dir, data, "log", false)
	require.ErrorContains(t, err, "another process replays ml-latest-small to this log just now")
	require.NoError(t, f.saveItems(3))
	require.NoError(t, f.saveNext(20))
	require.NoError(t, os.WriteFile(f.path+".tmp", []byte("killed while writing"), 0o644))
	require.NoError(t, f.close())

	f, err = openCursor(dir, data, "log", false)
	require.NoError(t, err)
	require.Equal(t, 3, f.Items)
	require.Equal(t, 20, f.Next)
	require.NoError(t, f.close())
}

func TestAFolderThatCannotBeWrittenIsAnErrorBeforeAnythingIsSent(t *testing.T) {
	l := newLog(t)
	data := open(t, dataset.Options{Limit: 100})
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	r, err := Run(t.Context(), Options{Data: data, Kafka: l.cfg, Dir: filepath.Join(file, "replay"), Items: true})
	require.ErrorContains(t, err, file)
	require.ErrorContains(t, err, "set data_dir")
	require.Zero(t, r.Events+r.Items+l.count(l.interactions())+l.count(l.items()))

	// A disk that is full, as far as a user with all rights can be made to see one.
	dir := t.TempDir()
	f, err := openCursor(dir, data, "log", false)
	require.NoError(t, err)
	require.NoError(t, f.close())
	require.NoError(t, os.Mkdir(f.path+".tmp", 0o755))
	_, err = openCursor(dir, data, "log", false)
	require.ErrorContains(t, err, "writing down where the replay is")
}

func FuzzDecodeCursor(f *testing.F) {
	c := cursor{Format: cursorFormat, Dataset: "a", Fingerprint: "f", Log: "l", Items: 1, ItemsDone: true, Next: 2}
	f.Add(c.encode())
	f.Add(cursor{Format: 2}.encode())
	f.Add([]byte(`{"format":1,"next":-1}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeCursor(data)
		if err == nil {
			require.Equal(t, string(data), string(c.encode()))
			require.GreaterOrEqual(t, min(c.Items, c.Next), 0)
		}
	})
}
