package rollout

import (
	"github.com/prometheus/client_golang/prometheus"

	"seralm/stream"
)

type gateMetrics struct {
	decisions *prometheus.CounterVec
	events    prometheus.Gauge
	change    *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *gateMetrics {
	m := &gateMetrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seralm_rollout_decisions_total", Help: "Decisions of the gate: promote, or hold.",
		}, []string{"action"}),
		events: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "seralm_rollout_heldout_events", Help: "Held-out interactions that the gate has to judge the open roll-out by.",
		}),
		change: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "seralm_rollout_change_nats",
			Help: "Change of held-out log p(y|x,s) by the last roll-out that was judged: the mean, and the low and high end of its 95 % interval, warm and cold.",
		}, []string{"view", "bound"}),
	}
	m.decisions.WithLabelValues(string(stream.ActionPromote))
	m.decisions.WithLabelValues(string(stream.ActionHold))
	m.judged(stream.Evidence{})
	reg.MustRegister(m.decisions, m.events, m.change)
	return m
}

func (m *gateMetrics) judged(e stream.Evidence) {
	for view, c := range map[string]stream.Comparison{"warm": e.Warm, "cold": e.Cold} {
		m.change.WithLabelValues(view, "mean").Set(c.Change)
		m.change.WithLabelValues(view, "low").Set(c.Low)
		m.change.WithLabelValues(view, "high").Set(c.High)
	}
}
