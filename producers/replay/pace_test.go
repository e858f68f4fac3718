package replay

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/producers/dataset"
)

// at makes a data set of one user's events at these seconds.
func at(t *testing.T, seconds ...string) *dataset.Dataset {
	t.Helper()
	dir := t.TempDir()
	rows := "user,item,timestamp\nu,i," + strings.Join(seconds, "\nu,i,") + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "interactions.csv"), []byte(rows), 0o644))
	return open(t, dataset.Options{Path: dir})
}

// when replays a data set's times and returns how long after the beginning each of
// its events was handed out.
func when(t *testing.T, p *pacer, from int) (out []time.Duration) {
	t.Helper()
	began := time.Now()
	for i := from; i < p.data.Len(); {
		to, err := p.take(t.Context(), i, min(i+chunkRecords, p.data.Len()))
		require.NoError(t, err)
		for ; i < to; i++ {
			out = append(out, time.Since(began))
		}
	}
	return out
}

func TestSpeedIsTheRatioOfTheTimes(t *testing.T) {
	data := at(t, "0", "10", "10", "13", "40")
	for _, c := range []struct {
		speed float64
		from  int
		want  []time.Duration
	}{
		{0, 0, []time.Duration{0, 0, 0, 0, 0}},
		{1, 0, []time.Duration{0, 10 * time.Second, 10 * time.Second, 13 * time.Second, 40 * time.Second}},
		{0.5, 0, []time.Duration{0, 20 * time.Second, 20 * time.Second, 26 * time.Second, 80 * time.Second}},
		{100, 0, []time.Duration{0, 100 * time.Millisecond, 100 * time.Millisecond, 130 * time.Millisecond, 400 * time.Millisecond}},
		{1, 3, []time.Duration{0, 27 * time.Second}},                          // resumed: it begins at once
		{5000, 0, []time.Duration{0, paceTick, paceTick, paceTick, paceTick}}, // 8 ms in all: one wait
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPacer(data, c.speed, c.from)
			require.Equal(t, c.want, when(t, p, c.from), "speed %g", c.speed)
			require.Zero(t, p.cut)
		})
	}
}

func TestALongSilenceIsCut(t *testing.T) {
	data := at(t, "0", "30", "100000", "100030", "4102444799") // the last second of 2099
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(data, 1, 0)
		require.Equal(t, []time.Duration{0, 30 * time.Second, 90 * time.Second, 2 * time.Minute, 3 * time.Minute}, when(t, p, 0))
		require.Equal(t, 2, p.cut)
		require.Contains(t, Result{Events: 5, Gaps: p.cut}.String(), "2 gaps were longer than 1m0s at this speed")
	})
	synctest.Test(t, func(t *testing.T) { // so slow that no duration holds the gap
		require.Equal(t, 4*MaxGap, when(t, newPacer(data, 1e-12, 0), 0)[4])
	})
}

func TestAfterASlowBrokerItCatchesUp(t *testing.T) {
	data := at(t, "0", "1", "2", "3", "10")
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(data, 1, 0)
		began := time.Now()
		to, err := p.take(t.Context(), 0, 5)
		require.NoError(t, err)
		require.Equal(t, 1, to)
		time.Sleep(2500 * time.Millisecond) // the bubble's clock: nobody waits
		to, err = p.take(t.Context(), 1, 5)
		require.NoError(t, err)
		require.Equal(t, 3, to, "both that are due go at once")
		to, err = p.take(t.Context(), 3, 5)
		require.NoError(t, err)
		require.Equal(t, 4, to)
		require.Equal(t, 3*time.Second, time.Since(began), "and it is back in time")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = p.take(ctx, 4, 5)
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestProgressIsALineEveryFewSecondsWhereThereIsNoTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		var n atomic.Int64
		n.Store(1000) // of an earlier run
		stop := showProgress(&out, 9000, &n)
		time.Sleep(lineEach - time.Second)
		n.Store(3000)
		time.Sleep(2 * time.Second)
		stop()
		require.Equal(t, "replaying: 3,000 of 9,000 interactions (33%), 400 a second, 15s left\n", out.String())
	})
	showProgress(nil, 1, new(atomic.Int64))()
}

func TestABarShowsWhatIsLeft(t *testing.T) {
	var out strings.Builder
	var n atomic.Int64
	n.Store(1000)
	show, finish := bar(&out, 9000, &n)
	n.Store(5000)
	show()
	n.Store(9000)
	finish()
	require.Contains(t, out.String(), "(4000/8000")
	require.Contains(t, out.String(), "(8000/8000")
	require.True(t, strings.HasSuffix(out.String(), "\n"))
}

func TestTheReport(t *testing.T) {
	r := Result{
		Name: "set", Events: 1_234_567, Items: 12, SkippedEvents: 1000, SkippedItems: 3, Left: 5, Seconds: 2,
		Summary: dataset.Summary{BelowValue: 7, BelowCount: 8, BeyondEnd: 9},
	}
	require.Equal(t, `set: 1,234,567 interactions and 12 catalogue items written in 2s, 617,283 interactions a second
  1,000 interactions and 3 catalogue items were in the log before
  5 interactions are left: replay again to go on
  7 of the data set's interactions are below the minimum value, left out
  8 are of users or items with too few, left out
  9 are beyond the limit, left out`, r.String())
	require.Equal(t, "nothing was written\n  5 interactions are left: replay again to go on", Result{Left: 5}.String())
	require.Equal(t, "set: 0 interactions and 4 catalogue items written", Result{Name: "set", Items: 4}.String())
}
