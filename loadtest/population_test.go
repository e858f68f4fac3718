package loadtest

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParsePopulation(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return "@" + path
	}
	for spec, want := range map[string][]string{
		"3":                              {"1", "2", "3"},
		"7-9":                            {"7", "8", "9"},
		file("ids", "ann\n\n bob \r\nc"): {"ann", "bob", "c"},
	} {
		got, err := ParsePopulation(spec)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for spec, want := range map[string]string{
		"":                                     "write a number",
		"ann":                                  "write a number",
		"9-7":                                  "the range must rise",
		"0":                                    "the range must rise",
		"1-99999999":                           "at most 10000000 ids",
		"@" + filepath.Join(dir, "nothing"):    "no such file",
		file("empty", "\n"):                    "names nobody",
		file("long", strings.Repeat("x", 600)): "is an id of 600 bytes",
	} {
		_, err := ParsePopulation(spec)
		require.ErrorContains(t, err, want, spec)
	}
}

func TestZipfFollowsItsLaw(t *testing.T) {
	const n, draws = 100, 200_000
	for _, s := range []float64{0, 0.8, 1, 1.5} {
		z, r := newZipf(n, s), rand.New(rand.NewPCG(1, 2))
		var seen [n]float64
		for range draws {
			seen[z.draw(r)]++
		}
		total := float64(n)
		if s > 0 {
			total = z.cumulative[n-1]
		}
		require.InDelta(t, 1/total, seen[0]/draws, 0.005, "s=%g: the first", s)
		if s > 0 {
			require.InDelta(t, (z.cumulative[9]-z.cumulative[8])/total, seen[9]/draws, 0.005, "s=%g: the tenth", s)
		}
	}
}
