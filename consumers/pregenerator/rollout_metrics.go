package pregenerator

import (
	"github.com/prometheus/client_golang/prometheus"

	"seralm/stream"
)

// rolloutMetrics tell where the newest roll-out is.
type rolloutMetrics struct {
	phase *prometheus.GaugeVec
	step  *prometheus.GaugeVec
	items *prometheus.GaugeVec
}

var rolloutPhases = []stream.RolloutPhase{
	stream.RolloutWriting, stream.RolloutJudging, stream.RolloutHeld, stream.RolloutPromoting,
	stream.RolloutPromoted, stream.RolloutWithdrawing, stream.RolloutWithdrawn,
}

func newRolloutMetrics(reg prometheus.Registerer) *rolloutMetrics {
	m := &rolloutMetrics{
		phase: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "seralm_rollout_phase", Help: "1 for the phase that the newest roll-out is in, 0 for the others.",
		}, []string{"phase"}),
		step: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "seralm_rollout_policy_step",
			Help: "Iterations of the policy: of the newest roll-out, and of the one that writes the texts of new items (served; 0 = none has learnt anything).",
		}, []string{"which"}),
		items: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "seralm_rollout_items",
			Help: "Items of the newest roll-out: with a draft, moved (promoted or put back), or stale (the item had changed).",
		}, []string{"result"}),
	}
	m.show(stream.Rollout{}, 0)
	reg.MustRegister(m.phase, m.step, m.items)
	return m
}

func (m *rolloutMetrics) show(st stream.Rollout, drafts int) {
	for _, p := range rolloutPhases {
		is := 0.0
		if p == st.Phase {
			is = 1
		}
		m.phase.WithLabelValues(string(p)).Set(is)
	}
	served := int64(0)
	if st.Served != nil {
		served = st.Served.Policy.Step
	}
	m.step.WithLabelValues("newest").Set(float64(st.Policy.Step))
	m.step.WithLabelValues("served").Set(float64(served))
	m.items.WithLabelValues("draft").Set(float64(drafts))
	m.items.WithLabelValues("moved").Set(float64(st.Moved))
	m.items.WithLabelValues("stale").Set(float64(st.Stale))
}
