package replay

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/producers/dataset"
	"seralm/stream"
)

// titles reads the catalogue back, as a reader of a compacted topic sees it.
func (l *log) titles() map[string]string {
	titles := map[string]string{}
	l.read(l.items(), func(rec *kgo.Record) {
		item, err := stream.DecodeItem(rec)
		require.NoError(l.t, err)
		titles[item.Body.Item] = item.Body.Title
	})
	return titles
}

func TestEveryEventArrivesOnceInItsUsersOrder(t *testing.T) {
	l, dir := newLog(t), t.TempDir()
	data := open(t, dataset.Options{})
	o := Options{Data: data, Kafka: l.cfg, Dir: dir, Items: true}
	r, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, Result{Name: "ml-latest-small", Events: 100_836, Items: 9742, Seconds: r.Seconds, Summary: data.Summary()}, r)
	require.Zero(t, l.requireStream(data))
	require.Equal(t, 9742, l.count(l.items()))
	titles := l.titles()
	require.Len(t, titles, 9742)
	require.Equal(t, "Toy Story (1995)", titles["1"])

	// Again: there is nothing to do.
	r, err = Run(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, Result{Name: "ml-latest-small", SkippedEvents: 100_836, SkippedItems: 9742, Summary: data.Summary()}, r)
	require.Contains(t, r.String(), "in the log already; nothing was written (--restart")
	require.Equal(t, 100_836, l.count(l.interactions()))
	require.Equal(t, 9742, l.count(l.items()))

	// From its start, by request: the same events under the same ids.
	o.Restart = true
	r, err = Run(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, 100_836, r.Events)
	require.Equal(t, 9742, r.Items)
	require.Equal(t, 100_836, l.requireStream(data), "each a second time")
}

func TestALimitThatIsRaisedGoesOn(t *testing.T) {
	l, dir := newLog(t), t.TempDir()
	r, err := Run(t.Context(), Options{Data: open(t, dataset.Options{Limit: 700}), Kafka: l.cfg, Dir: dir})
	require.NoError(t, err)
	require.Equal(t, 700, r.Events)
	require.Zero(t, r.Items)

	longer := open(t, dataset.Options{Limit: 3000})
	r, err = Run(t.Context(), Options{Data: longer, Kafka: l.cfg, Dir: dir, Items: true})
	require.NoError(t, err)
	require.Equal(t, 2300, r.Events)
	require.Equal(t, 700, r.SkippedEvents)
	require.Equal(t, 9742, r.Items, "left out the first time")
	require.Zero(t, l.requireStream(longer))

	r, err = Run(t.Context(), Options{Data: open(t, dataset.Options{Limit: 700}), Kafka: l.cfg, Dir: dir})
	require.NoError(t, err)
	require.Zero(t, r.Events+r.Left)
	require.Equal(t, 700, r.SkippedEvents)
}

func TestATopicMadeAnewGetsEverything(t *testing.T) {
	l, dir := newLog(t), t.TempDir()
	data := open(t, dataset.Options{Limit: 1000})
	o := Options{Data: data, Kafka: l.cfg, Dir: dir}
	_, err := Run(t.Context(), o)
	require.NoError(t, err)
	other := newLog(t) // topics of other ids
	o.Kafka = other.cfg
	r, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, 1000, r.Events)
	require.Zero(t, other.requireStream(data))

	o.Kafka = l.cfg // and the first log's cursor is still there
	r, err = Run(t.Context(), o)
	require.NoError(t, err)
	require.Zero(t, r.Events)
}

func TestCancelledItFlushesAndGoesOnWithoutRepeating(t *testing.T) {
	l, dir := newLog(t), t.TempDir()
	data := open(t, dataset.Options{})
	o := Options{Data: data, Kafka: l.cfg, Dir: dir, Items: true, Speed: childSpeed}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := make(chan Result)
	go func() {
		r, err := Run(ctx, o)
		require.ErrorIs(t, err, context.Canceled)
		first <- r
	}()
	l.awaitCount(l.interactions(), 5000)
	cancel()
	r := <-first
	require.Positive(t, r.Left)
	require.Equal(t, data.Len(), r.Events+r.Left)
	require.Equal(t, r.Events, l.count(l.interactions()), "all that was sent is counted")
	require.Contains(t, r.String(), "are left: replay again to go on")

	o.Speed = 0
	again, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, r.Events, again.SkippedEvents)
	require.Equal(t, r.Left, again.Events)
	require.Zero(t, l.requireStream(data))
}

func TestADamagedDataSetIsAnErrorBeforeAnythingIsWritten(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(small, "ratings.csv.gz"))
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ratings.csv.gz"), whole[:len(whole)-25], 0o644))
	_, err = dataset.Open(t.Context(), dataset.Options{Path: dir, Format: dataset.MovieLensCSV})
	require.ErrorContains(t, err, "truncated", "there is no data set to replay")

	// The catalogue is read twice: checked, then sent.
	l := newLog(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ratings.csv.gz"), whole, 0o644))
	movies := filepath.Join(dir, "movies.csv")
	require.NoError(t, os.WriteFile(movies, []byte("movieId,title,genres\n1,Toy Story,Comedy\n"), 0o644))
	data := open(t, dataset.Options{Path: dir, Format: dataset.MovieLensCSV})
	require.NoError(t, os.Remove(movies))
	r, err := Run(t.Context(), Options{Data: data, Kafka: l.cfg, Dir: t.TempDir(), Items: true})
	require.ErrorContains(t, err, "movies.csv")
	require.Zero(t, r.Events+r.Items)
	require.Zero(t, l.count(l.interactions()))
}

func TestWhatCannotBeReplayed(t *testing.T) {
	l := newLog(t)
	data := open(t, dataset.Options{Limit: 10})
	for _, speed := range []float64{-1, math.NaN(), math.Inf(1)} {
		_, err := Run(t.Context(), Options{Data: data, Kafka: l.cfg, Dir: t.TempDir(), Speed: speed})
		require.ErrorContains(t, err, "1 is real time")
	}
	cfg := l.cfg
	cfg.TopicPrefix += "none-"
	r, err := Run(t.Context(), Options{Data: data, Kafka: cfg, Dir: t.TempDir()})
	require.ErrorContains(t, err, "there is no topic "+cfg.TopicPrefix+"interactions")
	require.ErrorContains(t, err, "seralm topics create")
	require.Contains(t, r.String(), "nothing was written")

	cfg.Brokers = []string{"127.0.0.1:1"}
	_, err = run(t.Context(), Options{Data: data, Kafka: cfg, Dir: t.TempDir()}, limits{patience: 300 * time.Millisecond})
	require.ErrorContains(t, err, "127.0.0.1:1")
	require.ErrorContains(t, err, "is the broker up?")
}
