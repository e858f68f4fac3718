package serving

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/feature"
	"seralm/models/snapshot"
	"seralm/serving/internal/specimen"
	"seralm/serving/scorer"
	"seralm/stream"
	"seralm/stream/streamtest"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// plant is a server on a log and real views. Its engines are the specimen's unless the
// test changes that.
type plant struct {
	*rig
	store  *feature.Store
	writer *feature.Writer
	next   int64 // offset of the next event put into the views
	client *kgo.Client
	names  stream.Names
	slots  *stream.Slots
	stop   func() // ends Run and waits for it; the test's end does, too
}

func newPlant(t *testing.T, change ...func(*Deps)) *plant {
	t.Helper()
	cfg := config.Default()
	cfg.DataDir = t.TempDir()
	cfg.Kafka.TopicPrefix, cfg.Kafka.Brokers = streamtest.Prefix(), streamtest.Brokers(t)
	p := &plant{names: stream.NamesOf(cfg.Kafka.TopicPrefix), slots: stream.NewSlots(cfg.Recommender.Name, cfg.Trainer.SnapshotKeep)}
	p.client = streamtest.Topics(t, cfg.Kafka)

	var err error
	p.store, err = feature.Open(t.Context(), cfg.Redis)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.store.Close()) })
	p.writer = p.store.Writer(cfg.Histories)
	_, err = p.writer.Start(t.Context(), "a topic", map[int32]int64{0: 0})
	require.NoError(t, err)

	registry := prometheus.NewRegistry()
	d := Deps{
		Config: cfg, Log: slog.New(slog.DiscardHandler), Metrics: registry, Kafka: p.client, Views: p.store,
		Build: func(s *snapshot.Snapshot) (scorer.Engine, error) {
			return engine{specimen.NewEngine(s.Architecture.Rows)}, nil
		},
	}
	for _, c := range change {
		c(&d)
	}
	p.rig = &rig{Server: New(d), t: t, metrics: registry}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	p.stop = func() {
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
			ended <- nil // for the next call
		case <-time.After(patience):
			t.Fatal("Run does not end")
		}
	}
	t.Cleanup(p.stop)
	go func() { ended <- p.Run(ctx) }()
	return p
}

// write puts records on the log.
func (p *plant) write(recs ...*kgo.Record) {
	p.t.Helper()
	require.NoError(p.t, p.client.ProduceSync(p.t.Context(), recs...).FirstErr())
}

// item is the record of an item event; a nil item deletes.
func (p *plant) item(id string, item *stream.Item) *kgo.Record {
	p.t.Helper()
	var body any
	if item != nil {
		item.Item = id
		body = *item
	}
	rec, err := stream.NewRecord(p.names.Items(), id, fmt.Sprint(time.Now().UnixNano()), "test", time.Now(), body)
	require.NoError(p.t, err)
	return rec
}

// publish writes a snapshot as the trainer does.
func (p *plant) publish(s *snapshot.Snapshot) {
	p.t.Helper()
	manifest, payload, err := snapshot.Encode(s)
	require.NoError(p.t, err)
	txn, err := stream.NewTxn(p.t.Context(), p.cfg.Kafka, p.cfg.Kafka.TopicPrefix+"trainer")
	require.NoError(p.t, err)
	defer txn.Close()
	require.NoError(p.t, txn.Begin())
	require.NoError(p.t, txn.Produce(p.t.Context(), p.slots.Records(p.names.Snapshots(), fmt.Sprint(s.Step), manifest, payload, 4000)...))
	require.NoError(p.t, txn.Commit(p.t.Context()))
}

// clicked puts interactions into the views, as the histories consumer does.
func (p *plant) clicked(user string, items ...string) {
	p.t.Helper()
	run := feature.Run{From: p.next, To: p.next + int64(len(items))}
	for _, item := range items {
		run.Events = append(run.Events, feature.HistoryEvent{User: user, Item: item, ID: fmt.Sprint(p.next), Offset: p.next, Time: time.Now()})
		p.next++
	}
	for _, out := range p.writer.Apply(p.t.Context(), run) {
		require.NoError(p.t, out.Err)
	}
}

// eventually waits until what is so.
func (p *plant) eventually(is func() bool, what string) {
	p.t.Helper()
	require.Eventually(p.t, is, patience, 2*time.Millisecond, what)
}

// inUse waits until look-ups use the snapshot of a step.
func (p *plant) inUse(step int64) {
	p.t.Helper()
	p.eventually(func() bool {
		m := p.scorer.Acquire()
		if m == nil {
			return false
		}
		defer m.Release()
		return m.Manifest.Step == step
	}, fmt.Sprint("step ", step, " is in use"))
}

// written reads the impressions topic until it has so many.
func (p *plant) written(n int) map[string]stream.Impression {
	p.t.Helper()
	out := map[string]stream.Impression{}
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	err := stream.Follow(ctx, p.cfg.Kafka, p.names.Impressions(), func(rec *kgo.Record) error {
		ev, err := stream.DecodeImpression(rec)
		require.NoError(p.t, err)
		require.Equal(p.t, ev.Body.RecommendationID, ev.ID, "an impression that is written twice is one")
		require.Equal(p.t, ev.Body.User, string(rec.Key), "the user's impressions are in order")
		require.NotContains(p.t, out, ev.Body.RecommendationID)
		if out[ev.Body.RecommendationID] = ev.Body; len(out) == n {
			cancel()
		}
		return nil
	}, func() {})
	require.ErrorIs(p.t, err, context.Canceled, "%d of %d impressions", len(out), n)
	return out
}
