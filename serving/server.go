package serving

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"seralm/config"
	"seralm/serving/catalogue"
	"seralm/serving/scorer"
	"seralm/stream"
)

// Views are the materialised views that look-ups read; *feature.Store is them.
type Views interface {
	Histories
	Popularity
}

// Deps is what a server is made of. Who makes them closes them, after Run has
// returned.
type Deps struct {
	Config  config.Config
	Log     *slog.Logger
	Metrics Metrics
	Kafka   *kgo.Client // writes impressions, asks for the log's end
	Views   Views
	Build   scorer.Build // usually scorer.ONNX
	// Gateway takes the events (POST /v1/interactions, ...); nil leaves its routes
	// out.
	Gateway http.Handler
	Version string
	Users   []string // users that the page suggests
}

// Metrics is a registry: what is registered is shown at /metrics.
type Metrics interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Server answers look-ups.
type Server struct {
	cfg     config.Config
	log     *slog.Logger
	limits  limits
	version string
	users   []string

	views       Views
	items       *catalogue.Catalogue
	itemsRead   atomic.Bool // the items topic has been read to its end
	itemsWhole  atomic.Bool // and is not being read again from its start
	itemsBad    prometheus.Counter
	scorer      *scorer.Scorer
	popular     *popular
	lookups     *lookups
	impressions *impressions
	lag         *lag
	searches    chan struct{}
	handler     http.Handler
}

// New puts a server together. It does nothing until Run.
func New(d Deps) *Server {
	names := stream.NamesOf(d.Config.Kafka.TopicPrefix)
	s := &Server{
		cfg: d.Config, log: d.Log, version: d.Version, users: append([]string{}, d.Users...),
		limits:   limits{d.Config.Serving.DefaultN, d.Config.Serving.MaxN},
		views:    d.Views,
		items:    catalogue.New(d.Config.Serving.Catalogue),
		popular:  &popular{views: d.Views, n: d.Config.Histories.Popular, log: d.Log},
		lag:      newLag(names.Interactions(), d.Kafka, d.Log),
		searches: make(chan struct{}, 1),
		itemsBad: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "seralm_serving_items_refused_total", Help: "Item events that were invalid or found the catalogue full.",
		}),
	}
	d.Metrics.MustRegister(s.itemsBad, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "seralm_serving_catalogue_items", Help: "Items described in memory.",
	}, func() float64 { return float64(s.items.Size().Items) }))
	s.scorer = scorer.New(d.Config, d.Build, s.items, d.Metrics, d.Log)
	s.lookups = newLookups(d.Config, d.Views, s.scorer, s.items, s.popular, d.Metrics, d.Log)
	s.impressions = newImpressions(names, d.Kafka, d.Config.HTTP.DrainTimeout, d.Metrics, d.Log)
	s.handler = s.routes(d.Gateway, promhttp.HandlerFor(d.Metrics, promhttp.HandlerOpts{}))
	return s
}

// Handler answers every route of openapi.yaml. It may be called from the first
// moment: /readyz tells when the answers are what they should be.
func (s *Server) Handler() http.Handler { return s.handler }

// Run keeps the server's knowledge fresh until ctx ends, then writes the
// impressions that wait and closes the model. End the HTTP server first.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.again(ctx, "items", s.followItems) })
	group.Go(func() error { return s.again(ctx, "snapshots", s.scorer.Run) })
	group.Go(func() error { return s.again(ctx, "knowledge", s.scorer.FollowKnowledge) })
	group.Go(func() error { return s.popular.run(ctx) })
	group.Go(func() error { return s.lag.run(ctx) })
	group.Go(func() error { return s.impressions.run(ctx) })
	err := group.Wait()
	s.scorer.Close()
	return err
}

// retryEvery is how long a follower that failed waits before it reads its topic
// from the start again.
const retryEvery = 2 * time.Second

// again runs a follower until ctx ends. Its failure must not end the process:
// look-ups go on with what is known.
func (s *Server) again(ctx context.Context, what string, follow func(context.Context) error) error {
	for {
		err := follow(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it ended because it was asked to
		}
		s.log.Error("follower failed, starting it again", "topic", what, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryEvery):
		}
	}
}

func (s *Server) followItems(ctx context.Context) error {
	topic := stream.NamesOf(s.cfg.Kafka.TopicPrefix).Items()
	s.itemsWhole.Store(false)
	err := stream.Follow(ctx, s.cfg.Kafka, topic, func(rec *kgo.Record) error {
		ev, err := stream.DecodeItem(rec)
		if err != nil {
			// Who wrote it is told by its own errors; here it is only not shown.
			s.itemsBad.Inc()
			return nil //nolint:nilerr // one bad record does not end the follower
		}
		if !s.items.Apply(ev) {
			s.itemsBad.Inc()
		} else if !ev.Deleted {
			s.scorer.Described(ev.Body.Item)
		}
		return nil
	}, func() {
		s.scorer.Refresh()
		s.itemsRead.Store(true)
		s.itemsWhole.Store(true)
	})
	if err != nil {
		return fmt.Errorf("following topic %q: %w", topic, err)
	}
	return nil
}
