package knowledge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"

	"seralm/config"
	"seralm/feature"
	"seralm/stream"
)

// complainEach keeps an outage from filling the log with itself.
const complainEach = 30 * time.Second

// View fills the view of one store.
type View struct {
	cfg   config.Config
	store *feature.Store
	log   *slog.Logger
	topic string
	reg   prometheus.Registerer

	records *prometheus.CounterVec
	lag     prometheus.Gauge

	complained time.Time
}

// New returns a consumer that has not started. It writes to store, which must be the
// one that cfg.Redis names.
func New(cfg config.Config, store *feature.Store, reg prometheus.Registerer, log *slog.Logger) *View {
	v := &View{
		cfg: cfg, store: store, reg: reg, log: log.With("role", "knowledge"), topic: stream.NamesOf(cfg.Kafka.TopicPrefix).Knowledge(),
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seralm_knowledge_view_records_total",
			Help: "Records of the knowledge topic by what became of them: applied, or old (the view held them, or newer ones).",
		}, []string{"result"}),
		lag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "seralm_knowledge_view_lag_records",
			Help: "Offsets of the knowledge topic that the view does not hold yet.",
		}),
	}
	v.records.WithLabelValues("applied")
	v.records.WithLabelValues("old")
	reg.MustRegister(v.records, v.lag)
	return v
}

// Run applies knowledge until ctx ends, which is a clean end (nil). Other errors are
// final: the view is of another log or ahead of it, there are too many dead letters,
// or a right is missing.
func (v *View) Run(ctx context.Context) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 50*time.Millisecond, 5*time.Second
	for {
		began := time.Now()
		err := v.session(ctx)
		var behind *feature.BehindError
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it ended because it was asked to
		case final(err):
			return fmt.Errorf("making the view of the knowledge: %w", err)
		case errors.As(err, &behind):
			v.log.Warn("the view lost what it held; reading it again", "partition", behind.Partition, "from", behind.Next)
		case time.Since(v.complained) > complainEach:
			v.complained = time.Now()
			v.log.Warn("the view of the knowledge waits", "error", err)
		}
		if time.Since(began) > 2*wait.MaxInterval {
			wait.Reset()
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// finalError is trouble that trying again does not end.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

func final(err error) bool {
	var is finalError
	var lost *stream.LostError
	var other *feature.OtherLogError
	return errors.As(err, &is) || errors.As(err, &lost) || errors.As(err, &other) || errors.Is(err, stream.ErrTooManyDeadLetters)
}
