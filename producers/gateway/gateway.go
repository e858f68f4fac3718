package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/stream"
)

// Deps is what a gateway is made of.
type Deps struct {
	Config  config.Config
	Kafka   *kgo.Client // writes events; who made it closes it, after the last request
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Items knows what an item is now; nil refuses PATCH. *serving.Server is one.
	Items Items
}

// Items knows items as the log has them.
type Items interface {
	// Current returns an item, and whether there is one. The answer is not older
	// than the records at the offsets of after, by partition.
	Current(ctx context.Context, id string, after map[int32]int64) (stream.Item, bool, error)
}

// Gateway answers the routes that take events. It is safe for concurrent use, and
// has nothing to close: a request that was answered has left nothing behind, so
// ending the HTTP server gracefully loses nothing that was accepted.
type Gateway struct {
	cfg                 config.Config
	interactions, items string // topics
	kafka               *kgo.Client
	wait                time.Duration // for the log, at most
	buffer              buffer
	health              health
	events              *prometheus.CounterVec
	mux                 *http.ServeMux

	current  Items
	patching chan struct{} // held by the one PATCH in progress
	mu       sync.Mutex
	wrote    map[int32]int64 // the newest record of the items topic that we wrote, by partition
}

// New returns a gateway and registers its metrics.
func New(d Deps) *Gateway {
	names := stream.NamesOf(d.Config.Kafka.TopicPrefix)
	g := &Gateway{
		cfg: d.Config, kafka: d.Kafka, current: d.Items,
		interactions: names.Interactions(), items: names.Items(),
		wait:     d.Config.HTTP.ReadTimeout / 2,
		buffer:   buffer{maxRecords: d.Config.Gateway.MaxBuffered, maxBytes: maxBufferedBytes},
		health:   health{log: d.Log},
		patching: make(chan struct{}, 1),
		wrote:    map[int32]int64{},
		mux:      http.NewServeMux(),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seralm_gateway_events_total",
			Help: "Events by result: accepted, refused (invalid), unconfirmed (the log did not answer), busy (too many waited for it).",
		}, []string{"result"}),
	}
	d.Metrics.MustRegister(g.events, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "seralm_gateway_buffered_records", Help: "Events that wait for the log.",
	}, func() float64 { return float64(g.buffer.held()) }))
	g.mux.HandleFunc("POST /v1/interactions", g.postInteractions)
	g.mux.HandleFunc("POST /v1/items", g.postItems)
	g.mux.HandleFunc("PATCH /v1/items/{item}", g.patchItem)
	g.mux.HandleFunc("DELETE /v1/items/{item}", g.deleteItem)
	return g
}

// ServeHTTP answers serving.GatewayRoutes.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.mux.ServeHTTP(w, r) }

func (g *Gateway) postInteractions(w http.ResponseWriter, r *http.Request) {
	g.post(w, r, interactions, g.interaction)
}

func (g *Gateway) postItems(w http.ResponseWriter, r *http.Request) {
	g.post(w, r, items, g.item)
}

func (g *Gateway) post(w http.ResponseWriter, r *http.Request, k kind, decode func([]byte, time.Time) event) {
	bodies, batch, err := g.readEvents(w, r, k)
	if err != nil {
		refuse(w, err)
		return
	}
	// Without a time of their own, all events of a request happened now; the log
	// keeps their order.
	now := time.Now()
	events := make([]event, len(bodies))
	for i, body := range bodies {
		events[i] = decode(body, now)
	}
	ctx, cancel := g.deadline()
	defer cancel()
	g.take(ctx, w, events, batch)
}

// deadline bounds what one request waits for. It is not the request's own context:
// what a client has sent whole is written, whether or not it stays for the answer.
func (g *Gateway) deadline() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), g.wait)
}
