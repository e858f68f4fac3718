package serving

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/feature"
	"seralm/serving/internal/specimen"
	"seralm/stream"
)

func TestTheCatalogueFollowsTheItemsTopic(t *testing.T) {
	p := newPlant(t, func(d *Deps) { d.Config.Serving.Catalogue = 5 })
	p.write(
		p.item("m1", &stream.Item{Title: "Heat", Categories: []string{"Crime"}}),
		p.item("m2", &stream.Item{Title: "Ronin"}),
		p.item("m3", &stream.Item{Title: "Casino", Hidden: true}),
		p.item("m4", &stream.Item{Title: "Ran"}),
		p.item("m4", nil),
		&kgo.Record{Topic: p.names.Items(), Key: []byte("m5"), Value: []byte("poison")},
		p.item("m5", &stream.Item{Title: "Alien"}),
	)
	describes := func(id, title string) func() bool {
		return func() bool { i, ok := p.items.Get(id); return ok && i.Title() == title }
	}
	p.eventually(describes("m5", "Alien"), "what follows the poison is read")
	for id, status := range map[string]int{"m1": 200, "m2": 200, "m3": 200, "m4": 404, "m5": 200} {
		p.eventually(func() bool { return p.ask("GET", "/v1/items/"+id, "").Code == status }, id)
	}
	require.Equal(t, 1.0, testutil.ToFloat64(p.itemsBad))
	heat := decode[itemAnswer](t, p.ask("GET", "/v1/items/m1", ""))
	require.Equal(t, "Heat", heat.Title)
	require.Equal(t, []string{"Crime"}, heat.Categories)

	p.write(p.item("m1", &stream.Item{Title: "Heat (1995)"}), p.item("m6", &stream.Item{Title: "one too many"}))
	p.eventually(describes("m1", "Heat (1995)"), "a change")
	p.eventually(func() bool { return testutil.ToFloat64(p.itemsBad) == 2 }, "the catalogue is full")
	p.eventually(p.itemsRead.Load, "the topic's end was reached")
}

func TestReadinessFollowsTheLog(t *testing.T) {
	p := newPlant(t)
	p.eventually(func() bool { return p.scorer.State().CaughtUp && p.itemsRead.Load() }, "the topics are read")
	w := p.ask("GET", "/readyz", "")
	require.Equal(t, 503, w.Code)
	require.Equal(t, []missing{{"snapshot", `no snapshot of model "recommender" has been published yet; is a trainer running?`}}, decode[readiness](t, w).Missing)

	s := specimen.SASRec(specimen.Small, 20, 1)
	p.publish(s)
	p.inUse(1)
	require.Equal(t, 200, p.ask("GET", "/readyz", "").Code)

	old := specimen.SASRec(specimen.Small, 20, 2)
	old.Created = time.Now().Add(-time.Hour)
	p.publish(old)
	p.inUse(2)
	require.Equal(t, 200, p.ask("GET", "/readyz", "").Code, "an old model that has learnt everything is fresh")

	rec, err := stream.NewRecord(p.names.Interactions(), "ann", "1", "test", time.Now(), stream.Interaction{User: "ann", Item: "i3", Type: "click"})
	require.NoError(t, err)
	p.write(rec)
	lag := func() *lagStatus { return decode[status](t, p.ask("GET", "/v1/status", "")).Lag }
	p.eventually(func() bool { return *lag() == lagStatus{Events: 1} }, "an event waits to be learnt")
	require.Equal(t, 200, p.ask("GET", "/readyz", "").Code, "a trainer that stands still takes no server out of service")
	got := decode[status](t, p.ask("GET", "/v1/status", ""))
	require.Len(t, got.Progress, 2)

	learnt := specimen.SASRec(specimen.Small, 20, 3)
	learnt.Offsets = map[int32]int64{rec.Partition: rec.Offset + 1}
	p.publish(learnt)
	p.inUse(3)
	require.Equal(t, &lagStatus{Events: 0}, lag())
	require.Equal(t, 200, p.ask("GET", "/readyz", "").Code)
}

func TestPopularItemsComeFromTheViews(t *testing.T) {
	p := newPlant(t)
	p.clicked("ann", "m1", "m2", "m1")
	p.clicked("bob", "m2", "m2", "m3")
	var a answer
	p.eventually(func() bool {
		a = decode[answer](t, p.ask("GET", "/v1/recommendations/nobody", ""))
		return a.Source == sourcePopular && len(a.Items) == 3 // they may be read between the two users' clicks, too
	}, "popular items")
	require.Equal(t, []answerItem{
		{Item: "m2", Score: 3, Source: sourcePopular}, {Item: "m1", Score: 2, Source: sourcePopular}, {Item: "m3", Score: 1, Source: sourcePopular},
	}, a.Items)
}

func TestAServerWithoutALogAnswersAndEnds(t *testing.T) {
	r := newRig(t, func(d *Deps) {
		d.Config.Kafka.Brokers = []string{"127.0.0.1:1"}
		d.Config.HTTP.DrainTimeout = 50 * time.Millisecond // for the impressions, which go nowhere
	})
	r.views.popular = []feature.Scored{{Item: "hit", Score: 3}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	require.Eventually(t, func() bool {
		return strings.Contains(r.ask("GET", "/v1/recommendations/ann", "").Body.String(), `"hit"`)
	}, patience, time.Millisecond)
	require.Equal(t, 503, r.ask("GET", "/readyz", "").Code)
	require.Equal(t, 200, r.ask("GET", "/healthz", "").Code)
	cancel()
	require.NoError(t, <-ended)
}

func TestAFollowerThatFailsIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := &recorder{}
		r := newRig(t, func(d *Deps) { d.Log = slog.New(logs) })
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		var calls []time.Duration
		require.NoError(t, r.again(ctx, "items", func(ctx context.Context) error {
			if calls = append(calls, time.Since(start)); len(calls) == 3 {
				cancel()
				return ctx.Err()
			}
			return errDown
		}))
		require.Equal(t, []time.Duration{0, retryEvery, 2 * retryEvery}, calls)
		require.Equal(t, []string{"follower failed, starting it again", "follower failed, starting it again"}, logs.messages)
	})
}

func TestPopularItemsAreReadAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := &recorder{}
		r := newRig(t, func(d *Deps) { d.Log = slog.New(logs) })
		r.views.err = errDown
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = r.popular.run(ctx) })
		time.Sleep(5 * popularEvery) // in the bubble's time
		synctest.Wait()
		require.Empty(t, r.popular.items())
		require.Len(t, logs.messages, 1, "one outage, one line")

		r.views.mu.Lock()
		r.views.err, r.views.popular = nil, []feature.Scored{{Item: "hit", Score: 1}}
		r.views.mu.Unlock()
		time.Sleep(popularEvery)
		synctest.Wait()
		require.Len(t, r.popular.items(), 1)
		cancel()
		running.Wait()
	})
}

func TestTheLagIsWhatTheModelHasNotLearnt(t *testing.T) {
	r := newRig(t)
	manifest := specimen.SASRec(specimen.Small, 20, 1).Manifest
	_, known := r.lag.unlearned(manifest)
	require.False(t, known, "before the log has answered")

	r.lag.ends.Store(&map[int32]int64{0: 10, 1: 5, 2: 7})
	manifest.Offsets = map[int32]int64{0: 4, 1: 6} // of partition 1 it has learnt more than was known; 2 is new
	events, known := r.lag.unlearned(manifest)
	require.True(t, known)
	require.EqualValues(t, 6+0+7, events)
}

// recorder keeps the messages of what is logged.
type recorder struct {
	mu       sync.Mutex
	messages []string
}

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) WithGroup(string) slog.Handler            { return r }
func (r *recorder) Handle(_ context.Context, rec slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, rec.Message)
	return nil
}

func TestTheMetricsOfAServerAreShown(t *testing.T) {
	r := newRig(t)
	body := r.ask("GET", "/metrics", "").Body.String()
	for _, name := range []string{
		"seralm_serving_lookups_total", "seralm_serving_lookup_seconds", "seralm_serving_history_errors_total", "seralm_serving_score_errors_total",
		"seralm_serving_overloads_total", "seralm_serving_items_refused_total", "seralm_serving_catalogue_items", "seralm_serving_swaps_total",
		"seralm_serving_snapshot_age_seconds", "seralm_serving_snapshot_step", "seralm_impressions_dropped_total",
	} {
		require.True(t, slices.ContainsFunc(strings.Split(body, "\n"), func(line string) bool { return strings.HasPrefix(line, "# TYPE "+name+" ") }), name)
	}
}
