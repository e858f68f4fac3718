package experiments

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/config"
)

// A policy that is warmed up writes what it was taught, before any reward; and one that
// is interrupted, before or after the last of the ready texts, goes on to the bit.
func TestAWarmUpTeachesReadyTexts(t *testing.T) {
	d := described(t)
	ready := filepath.Join(t.TempDir(), "ready.json")
	require.NoError(t, os.WriteFile(ready, []byte(`{"a": "yes", "c": "yes", "d": "yes", "nobody's": "no"}`), 0o600))
	begin := func(dir string, iterations int) *Aligner {
		a := small(t, d, func(c *config.Config) { c.Alignment.Temperature, c.Alignment.LearningRate = 1, 0.03 })
		var err error
		a.WarmUp, err = ReadWarmUp(ready, iterations)
		require.NoError(t, err)
		return aligner(t, d, dir, a)
	}
	// A model so small learns the letters, not always their order.
	taught := func(path string) (n int) {
		for _, text := range texts(t, path) {
			if strings.Trim(text, "yes") == "" {
				n++
			}
		}
		return n
	}
	dir := t.TempDir()
	before, after := filepath.Join(dir, "before.json"), filepath.Join(dir, "after.json")
	require.NoError(t, begin(dir, 60).Write(t.Context(), Texts{Path: before, Bare: true}))
	require.Zero(t, taught(before))
	straight := begin(dir, 60)
	require.NoError(t, straight.Learn(t.Context(), 60))
	require.NoError(t, straight.Write(t.Context(), Texts{Path: after}))
	require.Greater(t, taught(after), 9, "of 12 items, three of which had a text")
	require.NoError(t, straight.Learn(t.Context(), 63))
	all := lines(t, dir)
	require.Len(t, all, 63)
	require.Zero(t, all[59].Reward, "nobody judges what is ready")
	require.NotZero(t, all[60].Reward)

	parts := t.TempDir()
	require.NoError(t, begin(parts, 60).Learn(t.Context(), 17))
	require.NoError(t, begin(parts, 60).Learn(t.Context(), 61))
	require.NoError(t, begin(parts, 60).Learn(t.Context(), 63))
	require.Equal(t, all, lines(t, parts))
}

func TestWarmUpsThatCannotBe(t *testing.T) {
	d, dir := described(t), t.TempDir()
	ready := filepath.Join(dir, "ready.json")
	require.NoError(t, os.WriteFile(ready, []byte(`{"nobody's": "no"}`), 0o600))
	a := small(t, d)
	var err error
	a.WarmUp, err = ReadWarmUp(ready, 3)
	require.NoError(t, err)
	_, err = NewAligner(d, a, filepath.Join(dir, "other"), nil)
	require.ErrorContains(t, err, "ready.json has texts of 1 items, none of which the data set describes")

	aligner(t, d, dir, small(t, d))
	require.NoError(t, os.WriteFile(ready, []byte(`{"a": "yes"}`), 0o600))
	a.WarmUp, err = ReadWarmUp(ready, 3)
	require.NoError(t, err)
	_, err = NewAligner(d, a, dir, nil)
	require.ErrorContains(t, err, "begun with other settings")
}
