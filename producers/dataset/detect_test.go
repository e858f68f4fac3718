package dataset

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	csvRatings = "userId,movieId,rating,timestamp\r\n1,2,3.5,1000\r\n"
	interFile  = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3.5\t1000\n"
)

func TestFormatsAreToldByTheirFiles(t *testing.T) {
	for _, c := range []struct {
		name    string
		files   map[string]string
		options Options // Path is within the folder
		want    Format
		listed  int
	}{
		{"ratings.csv beside movies.csv", map[string]string{"ratings.csv": csvRatings, "movies.csv": "movieId,title,genres\n2,\"A, B\",X|Y\n"}, Options{}, MovieLensCSV, 1},
		{"ratings.csv by itself is a table", map[string]string{"ratings.csv": "user,item,rating\n1,2,3.5\n"}, Options{Path: "ratings.csv"}, CSV, 0},
		{"compressed", map[string]string{"ratings.dat.gz": "1::2::3.5::1000\n", "movies.dat.gz": "2::T::X\n"}, Options{}, MovieLensDat, 1},
		{"u.data", map[string]string{"u.data": "1\t2\t3.5\t1000\n"}, Options{}, MovieLens100K, 0},
		{"u.data wins over an atomic file", map[string]string{"u.data": "1\t2\t3.5\t1000\n", "x.inter": interFile}, Options{}, MovieLens100K, 0},
		{"unless the format is said", map[string]string{"u.data": "1\t2\t3.5\t1000\n", "x.inter": interFile}, Options{Format: RecBole}, RecBole, 0},
		{"or the file is named", map[string]string{"u.data": "1\t2\t3.5\t1000\n", "x.inter.gz": interFile, "x.item": "item_id:token\n2\n"}, Options{Path: "x.inter.gz"}, RecBole, 1},
		{"an atomic file among several", map[string]string{"x.inter": interFile, "y.inter": interFile}, Options{Path: "y.inter"}, RecBole, 0},
		{"a table with a mapping", map[string]string{"log.csv": "who,what,when,stars\n1,2,1000,3.5\n"}, Options{Path: "log.csv", Columns: Columns{User: "who", Item: "what", Time: "when", Value: "stars"}}, CSV, 0},
		{"a table without a header", map[string]string{"log.tsv": "x\t2\t3.5\t1\t1000\n"}, Options{Path: "log.tsv", Columns: Columns{User: "4", Item: "2", Value: "3", Time: "5"}}, TSV, 0},
		{"a table of another name", map[string]string{"log.txt": "user,item,value\n1,2,3.5\n"}, Options{Path: "log.txt", Format: CSV}, CSV, 0},
		{"interactions.tsv with items.csv", map[string]string{"interactions.tsv": "user_id\titem_id\tvalue\n1\t2\t3.5\n", "items.csv": "item_id,title\n2,\"T\"\"s\"\n"}, Options{}, TSV, 1},
		{"ratings.dat named", map[string]string{"ratings.dat": "1::2::3.5::1000\n", "movies.dat": "2::T::X\n"}, Options{Path: "ratings.dat"}, MovieLensDat, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.options.Path = filepath.Join(write(t, c.files), c.options.Path)
			d, err := Open(t.Context(), c.options)
			require.NoError(t, err)
			require.Equal(t, c.want, d.Summary().Format)
			require.Equal(t, c.listed, d.Summary().Listed)
			require.Equal(t, []string{"1 2 1"}, compact(d))
			require.Equal(t, 3.5, *d.At(0).Body.Value)
		})
	}
}

func TestTheNameIsThatOfTheFolderOrFile(t *testing.T) {
	for path, want := range map[string]string{
		"/data/ml-1m": "ml-1m", "/data/ml-1m/": "ml-1m", "/data/log.csv.gz": "log", "/data/x.inter": "x",
	} {
		require.Equal(t, want, Options{Path: path}.name(), path)
	}
	require.Equal(t, "dataset", Options{Path: "."}.name())
	require.Equal(t, "n", Options{Path: "/data/ml-1m", Name: "n"}.name())
}

func TestWhatIsNoDataSet(t *testing.T) {
	empty := t.TempDir()
	odd := write(t, map[string]string{"a.txt": "x", "b.inter": interFile, "c.inter": interFile})
	table := write(t, map[string]string{"log.csv": "who,what\n1,2\n"})
	for _, c := range []struct {
		name    string
		options Options
		want    string
	}{
		{"nothing", Options{}, "no data set is named"},
		{"not there", Options{Path: empty + "/none"}, "no such file or directory"},
		{"an empty folder", Options{Path: empty}, "is no data set: it holds no file, and none of ratings.csv"},
		{"no such format", Options{Path: empty, Format: "parquet"}, `there is no data set format "parquet"; there are movielens-csv, `},
		{"not of the format", Options{Path: empty, Format: MovieLensDat}, "and no ratings.dat (or .gz), which the format movielens-dat needs"},
		{"several atomic files", Options{Path: odd}, "holds 2 files *.inter: b.inter, c.inter; name one of them"},
		{"a file that tells nothing", Options{Path: odd + "/a.txt"}, "tells no data set format: set it to one of"},
		{"unmapped columns", Options{Path: table + "/log.csv"}, `log.csv:1: there is no column for the user; the header has "who, what" (say which column is which`},
		{"a wrong mapping", Options{Path: table + "/log.csv", Columns: Columns{User: "who", Item: "sku"}}, `there is no column "sku"; the header has "who, what"`},
		{"a column mapped twice", Options{Path: table + "/log.csv", Columns: Columns{User: "who", Item: "who"}}, "column 1: the column is mapped twice"},
		{"a mapping where there is none", Options{Path: small, Columns: Columns{User: "a", Item: "b"}}, "the format movielens-csv has columns of its own"},
		{"numbers and names", Options{Path: table + "/log.csv", Columns: Columns{User: "1", Item: "what"}}, "name all columns"},
		{"numbers without an item", Options{Path: table + "/log.csv", Columns: Columns{User: "1"}}, "needs the numbers of user and item"},
		{"numbers for a typed header", Options{Path: odd + "/b.inter", Columns: Columns{User: "1", Item: "2"}}, "name the columns instead"},
		{"an encoding", Options{Path: small, Encoding: "ebcdic"}, "there are utf-8 and latin-1"},
		{"a negative limit", Options{Path: small, Limit: -1}, "cannot be negative"},
		{"a type that no event may have", Options{Path: small, Type: "a\nb"}, "set another name or type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(t.Context(), c.options)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestParseColumns(t *testing.T) {
	c, err := ParseColumns("user=uid, item=sku,time=ts,format=ms,value=stars,position=n")
	require.NoError(t, err)
	require.Equal(t, Columns{User: "uid", Item: "sku", Time: "ts", Value: "stars", Position: "n", TimeFormat: Milliseconds}, c)
	c, err = ParseColumns(" ")
	require.NoError(t, err)
	require.Zero(t, c)
	for in, want := range map[string]string{
		"user":            `"user" is not KEY=COLUMN`,
		"user=":           "is not KEY=COLUMN",
		"usr=a":           `there is no key "usr"`,
		"user=a,user=b":   "user is given twice",
		"user=1,item=b":   "name all columns",
		"time=t,format=x": `the time's format is "x"`,
	} {
		_, err := ParseColumns(in)
		require.ErrorContains(t, err, want, in)
	}
}

func FuzzParseColumns(f *testing.F) {
	f.Add("user=uid,item=sku,time=ts,format=ms")
	f.Add("user=1,item=2")
	f.Add("=,=")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseColumns(s); err == nil {
			require.NoError(t, c.validate())
		}
	})
}
