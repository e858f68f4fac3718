package serving

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/stream"
)

// impressionQueue is how many answers may wait to be written. At a thousand
// answers a second it covers a pause of eight seconds.
const impressionQueue = 8192

// impressionsWaiting is how many the client may hold: a tenth of what it has room for,
// which the events of the gateway beside need.
const impressionsWaiting = 10_000

const impressionSource = "seralm/serving"

// impressions writes what was shown to the log, beside the look-ups: when the log
// is slow, answers are not written rather than late.
type impressions struct {
	topic   string
	client  *kgo.Client
	queue   chan stream.Impression
	drain   time.Duration
	log     *slog.Logger
	waiting atomic.Int64 // records that the client holds
	dropped prometheus.Counter
}

func newImpressions(names stream.Names, client *kgo.Client, drain time.Duration, reg prometheus.Registerer, log *slog.Logger) *impressions {
	i := &impressions{
		topic: names.Impressions(), client: client, drain: drain, log: log,
		queue: make(chan stream.Impression, impressionQueue),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "seralm_impressions_dropped_total", Help: "Answers that were given but could not be written to the log.",
		}),
	}
	reg.MustRegister(i.dropped)
	return i
}

// offer queues an answer, or drops it.
func (i *impressions) offer(a *answer, now time.Time) {
	if len(a.Items) == 0 {
		return // nothing was shown
	}
	shown := stream.Impression{
		RecommendationID: a.ID, User: a.User, Source: a.Source, Time: now,
		Items: make([]string, len(a.Items)), Scores: make([]float32, len(a.Items)),
	}
	if a.User == "" {
		shown.User = a.ID // whoever it was, no other answer was given to them
	}
	if a.Model != nil {
		shown.Model, shown.Epoch, shown.Step = a.Model.Name, a.Model.Epoch, a.Model.Step
	}
	for n, item := range a.Items {
		shown.Items[n], shown.Scores[n] = item.Item, item.Score
	}
	select {
	case i.queue <- shown:
	default:
		i.dropped.Inc()
	}
}

// run writes the queue until ctx ends, then what is left of it.
func (i *impressions) run(ctx context.Context) error {
	for {
		select {
		case shown := <-i.queue:
			i.write(shown)
		case <-ctx.Done():
			i.flush()
			return nil
		}
	}
}

func (i *impressions) flush() {
	for {
		select {
		case shown := <-i.queue:
			i.write(shown)
			continue
		default:
		}
		break
	}
	ctx, cancel := context.WithTimeout(context.Background(), i.drain)
	defer cancel()
	if err := i.client.Flush(ctx); err != nil {
		i.log.Warn("some impressions were not written before the end", "error", err)
	}
}

// write hands one impression to the client, which must not wait: its buffer is
// bounded, and full when the log is away.
func (i *impressions) write(shown stream.Impression) {
	rec, err := stream.NewRecord(i.topic, shown.User, shown.RecommendationID, impressionSource, shown.Time, shown)
	if err != nil { // an item id that the log would refuse, learnt from somewhere else
		i.dropped.Inc()
		return
	}
	if i.waiting.Load() >= impressionsWaiting {
		i.dropped.Inc()
		return
	}
	i.waiting.Add(1)
	// The record outlives any request; its own bounds are the client's.
	i.client.TryProduce(context.Background(), rec, func(_ *kgo.Record, err error) {
		i.waiting.Add(-1)
		if err != nil {
			i.dropped.Inc()
		}
	})
}
