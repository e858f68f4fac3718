//go:build data

package dataset

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPublicSets reads the sets that may not be committed. SERALM_DATA names the
// folder that holds theirs.
func TestPublicSets(t *testing.T) {
	root := os.Getenv("SERALM_DATA")
	require.NotEmpty(t, root, "set SERALM_DATA to the folder that holds ml-1m, ml-100k, ...")
	for name, c := range map[string]struct {
		options Options
		want    Summary
	}{
		"MovieLens-1M": {
			Options{Path: "ml-1m"},
			Summary{Format: MovieLensDat, Times: Original, Interactions: 1_000_209, Users: 6040, Items: 3706, Listed: 3883},
		},
		"MovieLens-1M, ratings of 3 and more": {
			Options{Path: "ml-1m", MinValue: 3},
			Summary{Format: MovieLensDat, Times: Original, Interactions: 836_478, Users: 6039, Items: 3628, Listed: 3883}, // RecBole counts its padding in both
		},
		"MovieLens-100K": {
			Options{Path: "ml-100k"},
			Summary{Format: MovieLens100K, Times: Original, Interactions: 100_000, Users: 943, Items: 1682, Listed: 1682},
		},
		"MovieLens-100K, RecBole's atomic files": {
			Options{Path: "ml-100k", Format: RecBole},
			Summary{Format: RecBole, Times: Original, Interactions: 100_000, Users: 943, Items: 1682, Listed: 1682},
		},
		"Amazon Books, most times missing": {
			Options{Path: "amazon-books"},
			Summary{Format: CSV, Times: Interpolated, Interactions: 136_956, Users: 14_585, Items: 6343, Listed: 6344, Filled: 136_956 - 39_443},
		},
		"Amazon Toys, an order only": {
			Options{Path: "amazon-toys"},
			Summary{Format: CSV, Times: Synthetic, Interactions: 167_597, Users: 19_412, Items: 11_924, Listed: 11_924, ByID: true},
		},
		"Amazon Beauty, an order only": {
			Options{Path: "amazon-beauty"},
			Summary{Format: CSV, Times: Synthetic, Interactions: 198_502, Users: 22_363, Items: 12_101, Listed: 12_101},
		},
		"Yelp, an order only": {
			Options{Path: "yelp"},
			Summary{Format: CSV, Times: Synthetic, Interactions: 316_354, Users: 30_431, Items: 20_033, Listed: 20_033},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.options.Path = filepath.Join(root, c.options.Path)
			d, err := Open(t.Context(), c.options)
			require.NoError(t, err)
			s := d.Summary()
			t.Logf("%+v", s)
			requireStream(t, d)
			c.want.Read = s.Interactions + s.BelowValue
			c.want.BelowValue = s.BelowValue
			c.want.First, c.want.Last, c.want.Bytes = s.First, s.Last, s.Bytes
			require.Equal(t, c.want, s)
		})
	}
}

// TestML1MKeepsItsExactOrder: sequences.txt is the truth that leave-one-out needs.
func TestML1MKeepsItsExactOrder(t *testing.T) {
	root := os.Getenv("SERALM_DATA")
	require.NotEmpty(t, root)
	d, err := Open(t.Context(), Options{Path: filepath.Join(root, "ml-1m")})
	require.NoError(t, err)
	got := map[string][]string{}
	for _, e := range d.Interactions(0) {
		got[e.Body.User] = append(got[e.Body.User], e.Body.Item)
	}
	f, err := openFile(filepath.Join(root, "ml-1m", "sequences.txt.gz"))
	require.NoError(t, err)
	defer f.Close()
	r := newRows("sequences", f, dialect{separator: " ", encoding: UTF8})
	users := 0
	for fields, err := r.next(); err == nil; fields, err = r.next() {
		users++
		require.Len(t, got[string(fields[0])], len(fields)-1)
		for i, item := range got[string(fields[0])] {
			require.Equal(t, string(fields[i+1]), item, "user %s, position %d", fields[0], i)
		}
	}
	require.Equal(t, 6040, users)
}

// TestBothFormsOf100KAgree: u.data and RecBole's atomic file hold the same lines.
func TestBothFormsOf100KAgree(t *testing.T) {
	root := os.Getenv("SERALM_DATA")
	require.NotEmpty(t, root)
	plainForm, err := Open(t.Context(), Options{Path: filepath.Join(root, "ml-100k")})
	require.NoError(t, err)
	recbole, err := Open(t.Context(), Options{Path: filepath.Join(root, "ml-100k"), Format: RecBole})
	require.NoError(t, err)
	for i, want := range plainForm.Interactions(0) {
		require.Equal(t, want.Body, recbole.At(i).Body)
	}
}
