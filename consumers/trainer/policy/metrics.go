package policy

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	step, reward, deviation, kl, norm, lag prometheus.Gauge
	effective, truncated, clipped          prometheus.Gauge
	samples                                *prometheus.CounterVec
	staleness, tokens                      prometheus.Histogram
	badSteps, snapshots, idle              prometheus.Counter
	stepTime, checkpoint                   prometheus.Histogram
}

// What becomes of a sample, as counted.
const (
	resultLearnt = "learnt"
	resultStale  = "stale"
	resultBad    = "bad"
	resultLost   = "lost"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "seralm_policy_" + name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "seralm_policy_" + name, Help: help})
	}
	histogram := func(name, help string, start float64, n int) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "seralm_policy_" + name, Help: help, Buckets: prometheus.ExponentialBuckets(start, 2, n)})
	}
	m := &metrics{
		step:      gauge("step", "Iterations made since the policy began."),
		reward:    gauge("reward", "Mean reward of the last iteration's texts: p(y|x,s), or nats of the whole objective for each draw of the item (alignment.reward)."),
		deviation: gauge("reward_deviation", "Running deviation of rewards within a sample, which scales the advantages; 0 with alignment.reward instance."),
		kl:        gauge("kl_nats", "Nats per text between the policy and the model that it began as, on the last iteration's texts."),
		norm:      gauge("gradient_norm", "Norm of the last iteration's gradient, before it was clipped."),
		lag:       gauge("lag_records", "Samples in the log that are not learnt yet."),
		effective: gauge("effective_share", "Effective sample size of the importance weights over their number: 1 when all are equal."),
		truncated: gauge("truncated_share", "Share of the importance weights that were truncated."),
		clipped:   gauge("clipped_share", "Share of the advantages that were clipped."),
		samples: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seralm_policy_samples_total",
			Help: "Samples by what became of them: learnt, stale (of a policy older than alignment.max_staleness), bad (dead-lettered), or lost to retention.",
		}, []string{"result"}),
		staleness:  histogram("staleness_steps", "Iterations that the policy had made since a sample's.", 1, 12),
		tokens:     histogram("text_tokens", "Length of a learnt text in tokens.", 4, 9),
		badSteps:   counter("bad_steps_total", "Iterations whose update was not finite and was skipped."),
		snapshots:  counter("snapshots_total", "Snapshots published."),
		idle:       counter("idle_seconds_total", "Time spent waiting for samples: its rate is the idle share."),
		stepTime:   histogram("step_seconds", "Time of one iteration, its transaction included, without the wait for its samples.", 0.01, 16),
		checkpoint: histogram("checkpoint_seconds", "Time to write a checkpoint durably.", 0.002, 14),
	}
	for _, r := range []string{resultLearnt, resultStale, resultBad, resultLost} {
		m.samples.WithLabelValues(r)
	}
	reg.MustRegister(m.step, m.reward, m.deviation, m.kl, m.norm, m.lag, m.effective, m.truncated, m.clipped,
		m.samples, m.staleness, m.tokens, m.badSteps, m.snapshots, m.idle, m.stepTime, m.checkpoint)
	return m
}

// iteration notes what one did.
func (m *metrics) iteration(r Result) {
	m.step.Set(float64(r.Step))
	m.samples.WithLabelValues(resultLearnt).Add(float64(len(r.Learnt)))
	m.samples.WithLabelValues(resultStale).Add(float64(r.Stale))
	for _, age := range r.Staleness {
		m.staleness.Observe(float64(age))
	}
	if r.Numeric != nil {
		m.badSteps.Inc()
	}
	if len(r.Learnt) == 0 {
		return
	}
	for _, s := range r.Learnt {
		for _, c := range s.Candidates {
			m.tokens.Observe(float64(len(c.Tokens)))
		}
	}
	m.reward.Set(r.Stats.Reward)
	m.deviation.Set(r.Stats.Deviation)
	m.kl.Set(r.Stats.KL)
	m.effective.Set(r.Stats.Effective)
	m.truncated.Set(r.Stats.Truncated)
	m.clipped.Set(r.Stats.Clipped)
	m.norm.Set(r.Update.Norm)
}
