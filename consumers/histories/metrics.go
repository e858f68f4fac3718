package histories

import (
	"context"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"seralm/feature"
)

// lagEach is how often the log is asked for its end.
const lagEach = time.Second

type metrics struct {
	lag     prometheus.Gauge
	visible prometheus.Histogram
	once    prometheus.Counter
	again   prometheus.Counter
	old     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "seralm_histories_events_total",
		Help: "Interactions by what became of them: applied, duplicate (its source and id were seen before), or old (the view held it, as after an answer of Redis that was lost).",
	}, []string{"result"})
	m := &metrics{
		lag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "seralm_histories_lag_records",
			Help: "Interactions in the partitions of this instance that the views do not hold yet.",
		}),
		visible: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "seralm_histories_visible_seconds",
			Help:    "Time from when an event was produced until look-ups see it.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 17), // 1 ms to 65 s
		}),
		once:  events.WithLabelValues("applied"),
		again: events.WithLabelValues("duplicate"),
		old:   events.WithLabelValues("old"),
	}
	reg.MustRegister(m.lag, m.visible, events)
	return m
}

func (m *metrics) applied(verdicts []feature.Verdict, produced []time.Time, now time.Time) {
	for i, v := range verdicts {
		switch v {
		case feature.Applied:
			m.once.Inc()
			m.visible.Observe(now.Sub(produced[i]).Seconds())
		case feature.Duplicate:
			m.again.Inc()
		case feature.Old:
			m.old.Inc()
		}
	}
}

// watchLag measures the lag apart from the loop: it has to grow while that waits.
func (c *Consumer) watchLag(ctx context.Context) {
	tick := time.NewTicker(lagEach)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
		listed, err := c.admin.ListCommittedOffsets(ctx, c.topic)
		cancel()
		if err != nil {
			continue // brokers that do not answer are told of by everything else
		}
		lag := int64(0)
		c.mu.Lock()
		next := maps.Clone(c.awaited)
		for partition, p := range c.parts {
			next[partition] = p.next
		}
		c.mu.Unlock()
		for partition, at := range next {
			if o, ok := listed.Lookup(c.topic, partition); ok && o.Err == nil {
				lag += max(0, o.Offset-at)
			}
		}
		c.metrics.lag.Set(float64(lag))
	}
}
