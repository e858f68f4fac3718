package generator

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	samples, tokens, idle     prometheus.Counter
	refused                   *prometheus.CounterVec
	length                    prometheus.Histogram
	reward, spread            prometheus.Gauge
	perSecond, policyStep     prometheus.Gauge
	recommenderStep, capacity prometheus.Gauge
	lag                       prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "seralm_generator_" + name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "seralm_generator_" + name, Help: help})
	}
	m := &metrics{
		samples: counter("samples_total", "Samples written: instances with their judged texts."),
		tokens:  counter("tokens_total", "Tokens sampled."),
		idle:    counter("idle_seconds_total", "Time spent waiting for the policy's trainer or for a first snapshot: its rate is the idle share."),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seralm_generator_refused_total",
			Help: "Texts and instances that nothing can be learnt from, by what is wrong with them.",
		}, []string{"reason"}),
		length: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "seralm_generator_text_tokens", Help: "Length of a sampled text in tokens.", Buckets: prometheus.ExponentialBuckets(4, 2, 9),
		}),
		reward:          gauge("reward", "Mean reward of the last sample's texts: p(y|x,s), or nats of the whole objective for each draw of the item (alignment.reward)."),
		spread:          gauge("reward_spread", "Standard deviation of the rewards of the last sample's texts."),
		perSecond:       gauge("tokens_per_second", "Tokens sampled a second while texts were written last."),
		policyStep:      gauge("policy_step", "Iterations that the policy in use had learnt."),
		recommenderStep: gauge("recommender_step", "Steps that the recommender in use had learnt."),
		capacity:        gauge("capacity_samples", "Samples that may begin before the policy must have learnt more."),
		lag:             gauge("lag_records", "Interactions in the log that have not been looked at."),
	}
	reg.MustRegister(m.samples, m.tokens, m.idle, m.refused, m.length, m.reward, m.spread, m.perSecond, m.policyStep, m.recommenderStep, m.capacity, m.lag)
	return m
}

func (m *metrics) text(tokens int) {
	m.tokens.Add(float64(tokens))
	m.length.Observe(float64(tokens))
}

func (m *metrics) judged(rewards []float64) {
	n, mean, square := float64(len(rewards)), 0.0, 0.0
	for _, r := range rewards {
		mean += r / n
	}
	for _, r := range rewards {
		square += (r - mean) * (r - mean) / n
	}
	m.reward.Set(mean)
	m.spread.Set(math.Sqrt(square))
}

// wrote notes how fast a group's texts came.
func (m *metrics) wrote(tokens int, took time.Duration) {
	if s := took.Seconds(); s > 0 {
		m.perSecond.Set(float64(tokens) / s)
	}
}
