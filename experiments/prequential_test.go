package experiments

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/models/seqrec"
)

// drift is a stream of days in which everybody goes around a ring of items, another
// ring from the third day on.
func drift(days, eventsADay int) string {
	var b strings.Builder
	b.WriteString("user_id,item_id,timestamp\n")
	const users, ring = 5, 8
	for n := range days * eventsADay {
		day, u := n/eventsADay, n%users
		item := byte('a' + (n/users+u)%ring)
		if day >= 2 {
			item += ring
		}
		at := 86_400*(20_000+day) + 60*(n%eventsADay)
		fmt.Fprintf(&b, "u%d,%c,%d\n", u, item, at)
	}
	return b.String()
}

func contest(retrain time.Duration) Contest {
	return Contest{
		Recommenders: []string{"one", "two"}, Retrain: Retrain{Every: retrain, Epochs: 2},
		New: func(c config.Recommender) (seqrec.Recommender, error) { return seqrec.NewTransitions(), nil },
	}
}

// Who learns online follows a drift within the day; who is trained every night knows
// nothing on the first day, nor of the new items on the day that they come.
func TestTrainingAnewFollowsADriftADayLater(t *testing.T) {
	const aDay = 400
	cfg := config.Default()
	cfg.Trainer.BatchEvents, cfg.Evaluator.Window = 10, aDay-50 // without the first of a day
	d := open(t, drift(4, aDay), nil)
	var progress bytes.Buffer
	r, err := Prequential(t.Context(), cfg, d, contest(24*time.Hour), &progress, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"one", "two", "one every 24h", "two every 24h", "popularity", "transitions"}, r.Order)
	require.Equal(t, 6, strings.Count(progress.String(), "trained anew"), "three nights, two of them:\n%s", progress.String())
	hit := func(day int, arm string) float64 {
		p := r.Curve[day*len(r.Curve)/4-1]
		require.EqualValues(t, day*aDay, p.Events)
		require.EqualValues(t, cfg.Evaluator.Window, p.Arms[arm].Events)
		return p.Arms[arm].Hit10
	}
	for day, want := range map[int]float64{1: 0, 2: 1, 3: 0, 4: 1} {
		require.InDelta(t, want, hit(day, "one every 24h"), 0.01, "day %d", day)
		require.InDelta(t, 1, hit(day, "one"), 0.01, "day %d", day)
		require.Equal(t, hit(day, "one"), hit(day, "transitions"), "day %d", day)
	}

	// One picture of several files: what both hold is drawn once.
	dir := t.TempDir()
	three := Contest{Recommenders: []string{"three"}, New: contest(0).New}
	again, err := Prequential(t.Context(), cfg, d, three, nil, nil)
	require.NoError(t, err)
	write := func(name string, r PrequentialResult) string {
		raw, err := json.Marshal(r)
		require.NoError(t, err)
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		return path
	}
	paths := []string{write("0.json", r), write("1.json", again)}
	drawn := func(paths ...string) string {
		var svg bytes.Buffer
		require.NoError(t, Plot(&svg, "svg", "hit@10", paths...))
		return svg.String()
	}
	for _, arm := range append(r.Order, "three") {
		require.Equal(t, 1, strings.Count(drawn(paths...), ">"+r.Dataset+" "+arm+"<"), arm)
	}

	// What has another history of the same name, or another batch, has its file's name.
	cfg.Trainer.BatchEvents = 400
	var kept []PrequentialResult
	late, err := Prequential(t.Context(), cfg, d, three, nil, func(r PrequentialResult) error {
		kept = append(kept, r)
		return nil
	})
	require.NoError(t, err)
	paths = append(paths, write("late.json", late))
	require.Contains(t, drawn(paths...), ">"+r.Dataset+" three (late.json)<")
	require.Contains(t, drawn(paths...), ">"+r.Dataset+" transitions (0.json)<")
	var table bytes.Buffer
	require.NoError(t, Tables(&table, nil, paths...))
	require.Equal(t, 1, strings.Count(table.String(), "| three (late.json) |"))
	require.Equal(t, 1, strings.Count(table.String(), "| three (1.json) |"))
	require.Equal(t, 1, strings.Count(table.String(), "| one |"))

	// What was kept while it ran is drawn, and makes no table.
	require.Len(t, kept, len(late.Curve))
	require.False(t, late.Unfinished)
	require.Positive(t, kept[1].Counts.Ranked)
	require.Less(t, kept[1].Counts.Ranked, late.Counts.Ranked)
	path := write("so-far.json", kept[1])
	require.Contains(t, drawn(path), ">"+r.Dataset+" three<")
	require.ErrorContains(t, Tables(&table, nil, path), "so-far.json is unfinished")
}

func TestAContestThatMakesNoSense(t *testing.T) {
	d := open(t, drift(1, 50), nil)
	for says, c := range map[string]Contest{
		"1 or more": {Recommenders: []string{"one"}, Retrain: Retrain{Every: time.Hour}},
		"negative":  {Recommenders: []string{"one"}, Retrain: Retrain{Every: -time.Hour, Epochs: 1}},
		"twice":     {Recommenders: []string{"one", "one"}},
	} {
		c.New = contest(0).New
		_, err := Prequential(t.Context(), config.Default(), d, c, nil, nil)
		require.ErrorContains(t, err, says)
	}
	cfg := config.Default()
	cfg.Trainer.MaxItems = 7
	_, err := Prequential(t.Context(), cfg, d, contest(0), nil, nil)
	require.ErrorContains(t, err, "trainer.max_items is 7, and data set planted has 8 items")
}
