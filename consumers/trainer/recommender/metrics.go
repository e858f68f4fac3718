package recommender

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	step, loss, lag      prometheus.Gauge
	items                prometheus.Gauge
	expired              prometheus.Counter
	samplesLag           prometheus.Gauge
	events, duplicates   prometheus.Counter
	badSteps, snapshots  prometheus.Counter
	stepTime, checkpoint prometheus.Histogram
	snapshotBytes        prometheus.Gauge
	known, samples       *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		step:          prometheus.NewGauge(prometheus.GaugeOpts{Name: "seralm_trainer_step", Help: "Micro-batches learnt since the model began."}),
		loss:          prometheus.NewGauge(prometheus.GaugeOpts{Name: "seralm_trainer_loss", Help: "Mean -log p per target of the last step, nats, before its update. With recommender.negatives, of the sampled softmax: lower than of all items."}),
		lag:           prometheus.NewGauge(prometheus.GaugeOpts{Name: "seralm_trainer_lag_records", Help: "Interactions in the log that are not learnt yet."}),
		samplesLag:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "seralm_trainer_samples_lag_records", Help: "Offsets of the samples topic that are not learnt yet: samples, and the marks of their transactions."}),
		items:         prometheus.NewGauge(prometheus.GaugeOpts{Name: "seralm_trainer_items", Help: "Items that have a row of the item table."}),
		expired:       prometheus.NewCounter(prometheus.CounterOpts{Name: "seralm_trainer_items_expired_total", Help: "Items that lost their row to a new one: trainer.max_items was reached, and they were not seen for longest."}),
		events:        prometheus.NewCounter(prometheus.CounterOpts{Name: "seralm_trainer_events_total", Help: "Interactions learnt."}),
		duplicates:    prometheus.NewCounter(prometheus.CounterOpts{Name: "seralm_trainer_duplicates_total", Help: "Interactions met again within the event-id window."}),
		badSteps:      prometheus.NewCounter(prometheus.CounterOpts{Name: "seralm_trainer_bad_steps_total", Help: "Steps whose update was not finite and was skipped."}),
		snapshots:     prometheus.NewCounter(prometheus.CounterOpts{Name: "seralm_trainer_snapshots_total", Help: "Snapshots published."}),
		snapshotBytes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "seralm_trainer_snapshot_bytes", Help: "Size of the last published snapshot."}),
		stepTime:      prometheus.NewHistogram(prometheus.HistogramOpts{Name: "seralm_trainer_step_seconds", Help: "Time of one step, its transaction included.", Buckets: prometheus.ExponentialBuckets(0.002, 2, 14)}),
		checkpoint:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "seralm_trainer_checkpoint_seconds", Help: "Time to write a checkpoint durably.", Buckets: prometheus.ExponentialBuckets(0.002, 2, 14)}),
		known: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seralm_trainer_knowledge_total",
			Help: "Knowledge vectors by what became of them: told (the model reads them), or refused (of another length than recommender.knowledge_dim, or no record of knowledge).",
		}, []string{"result"}),
	}
	m.samples = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "seralm_trainer_samples_total",
		Help: "Samples by what became of them: learnt (Equation 9), or left out: stale (of a policy older than alignment.max_staleness), of another encoder, of another dimension than recommender.knowledge_dim, about an unknown_item, ahead of its interaction for good, invalid, or lost to retention.",
	}, []string{"result"})
	for _, result := range []string{sampleLearnt, sampleStale, sampleEncoder, sampleDimension, sampleUnknown, sampleAhead, sampleInvalid, sampleLost} {
		m.samples.WithLabelValues(result)
	}
	m.known.WithLabelValues(told)
	m.known.WithLabelValues(refused)
	reg.MustRegister(m.step, m.loss, m.lag, m.items, m.expired, m.events, m.duplicates, m.badSteps, m.snapshots, m.snapshotBytes, m.known, m.samples, m.samplesLag, m.stepTime, m.checkpoint)
	return m
}
