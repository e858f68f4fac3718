package scorer

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/serving/catalogue"
	"seralm/serving/internal/specimen"
	"seralm/stream"
)

// onnxScorer is a scorer with real sessions.
func onnxScorer(t *testing.T, cfg config.Config) *Scorer {
	t.Helper()
	specimen.Runtime(t)
	s := New(cfg, ONNX, catalogue.New(10_000), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	t.Cleanup(s.Close)
	return s
}

func TestAGraphThatComputesSomethingElseIsRejected(t *testing.T) {
	s := onnxScorer(t, config.Default())
	require.NoError(t, s.Load(blob(t, specimen.Proven(t, specimen.SASRec(specimen.Small, 20, 1)))))

	lies := specimen.Proven(t, specimen.SASRec(specimen.Small, 20, 2))
	lies.Probe.Scores[1][0] += 0.01
	require.ErrorContains(t, s.Load(blob(t, lies)), "differ from the trainer's")
	m := s.Acquire()
	defer m.Release()
	require.EqualValues(t, 1, m.Manifest.Step)
}

// Two hundred swaps while look-ups go on and knowledge arrives: none fails, every old
// session and table is freed.
func TestTwoHundredSwapsUnderLoad(t *testing.T) {
	s := onnxScorer(t, config.Default())
	const rows = 200
	var blobs []*stream.Blob
	for step := range int64(8) {
		blobs = append(blobs, blob(t, specimen.WithTower(specimen.Proven(t, specimen.SASRec(specimen.Small, rows+int(step), step+1)), numbers)))
	}
	next := int64(0)
	swap := func() {
		b := blobs[next%int64(len(blobs))]
		next++
		m, err := snapshot.DecodeManifest(b.Manifest)
		require.NoError(t, err)
		m.Step = next // the same weights under a new version
		require.NoError(t, s.Load(restamped(t, b, m)))
	}
	swap()
	s.hold(newTexts(s.limit))
	const known = 50 // items; the first few are learnt by some of the snapshots
	for i := range known {
		s.items.Apply(stream.Event[stream.Item]{Body: stream.Item{Item: specimen.ID(rows + i)}})
	}

	var lookups, byText, failed atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var users sync.WaitGroup
	for seed := range uint64(2) {
		users.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 1))
			for ctx.Err() == nil {
				m := s.Acquire()
				scores := m.Buffer()
				history := make([]int32, 1+rng.IntN(20))
				for i := range history {
					history[i] = 2 + rng.Int32N(int32(m.Rows()-2))
				}
				if row, ok := m.Row(specimen.ID(rows + rng.IntN(known))); ok {
					history[0] = row
					byText.Add(1)
				}
				if err := m.Score(history, *scores); err != nil {
					failed.Add(1)
				}
				m.Recycle(scores)
				m.Release()
				lookups.Add(1)
				time.Sleep(100 * time.Microsecond) // the other tests share the cores
			}
		})
	}
	users.Go(func() {
		rng := rand.New(rand.NewPCG(9, 1))
		for ctx.Err() == nil {
			id := specimen.ID(rows + rng.IntN(known))
			vector := []float32{rng.Float32(), rng.Float32(), rng.Float32(), rng.Float32()}
			if rng.IntN(10) == 0 {
				vector = nil
			}
			s.learn(s.texts.Load(), record(t, "knowledge", id, "e", vector...))
			s.Refresh()
			time.Sleep(10 * time.Millisecond)
		}
	})
	for range 100 { // allocators settle
		swap()
	}
	before := residentKB(t)
	for range 200 {
		swap()
	}
	after := residentKB(t)
	stop()
	users.Wait()
	s.closing.Wait()
	t.Logf("%d look-ups during 300 swaps, %d with an item known by text, resident memory %d -> %d kB", lookups.Load(), byText.Load(), before, after)
	require.Greater(t, byText.Load(), int64(100))
	require.Zero(t, failed.Load())
	require.EqualValues(t, next, testutil.ToFloat64(s.outcomes.WithLabelValues(swapped)))
	require.Greater(t, lookups.Load(), int64(300))
	require.Less(t, after-before, 16<<10, "kB of growth over 200 swaps")
}

// restamped is the same snapshot with another manifest.
func restamped(t *testing.T, b *stream.Blob, m snapshot.Manifest) *stream.Blob {
	t.Helper()
	s, err := snapshot.Decode(b.Manifest, b.Payload)
	require.NoError(t, err)
	s.Manifest = m
	return blob(t, s)
}

// residentKB is the process's resident memory once garbage is gone.
func residentKB(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(status), "VmRSS:")
	require.True(t, found)
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(t, err)
	return kb
}

// logged is a running embedded broker with our topics and a producer.
func logged(t *testing.T) (config.Config, *kgo.Client) {
	t.Helper()
	cfg := config.Default()
	cfg.DataDir = t.TempDir()
	broker, err := stream.StartBroker(cfg)
	require.NoError(t, err)
	t.Cleanup(broker.Close)
	cfg.Kafka.Brokers = []string{broker.Addr()}
	opts, err := stream.ClientOptions(cfg.Kafka)
	require.NoError(t, err)
	client, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	require.NoError(t, stream.Ensure(t.Context(), kadm.NewClient(client), cfg.Kafka))
	return cfg, client
}

func publish(t *testing.T, client *kgo.Client, slot int, s *snapshot.Snapshot, change func([]*kgo.Record)) {
	t.Helper()
	manifest, payload, err := snapshot.Encode(s)
	require.NoError(t, err)
	id := s.Model + "/" + strconv.FormatInt(s.Step, 10)
	recs := stream.ChunkRecords("snapshots", s.Model, slot, id, manifest, payload, 1000)
	if change != nil {
		change(recs)
	}
	require.NoError(t, client.ProduceSync(t.Context(), recs...).FirstErr())
}

func TestTheSnapshotsTopicIsFollowed(t *testing.T) {
	cfg, client := logged(t)
	at := func(step int64) *snapshot.Snapshot {
		return specimen.Proven(t, specimen.SASRec(specimen.Small, 20, step))
	}
	s := onnxScorer(t, cfg)
	publish(t, client, 0, at(10), nil)
	publish(t, client, 1, at(20), nil)
	another := at(99)
	another.Model = "another"
	publish(t, client, 0, another, nil)

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	inUse := func(step int64) {
		t.Helper()
		require.Eventually(t, func() bool {
			m := s.Acquire()
			if m == nil {
				return false
			}
			defer m.Release()
			return m.Manifest.Step == step
		}, 10*time.Second, 5*time.Millisecond, "step %d", step)
	}
	inUse(20)
	require.True(t, s.State().CaughtUp)
	require.Eventually(t, func() bool { return len(s.Progress()) > 0 }, 10*time.Second, 5*time.Millisecond) // told after it is in use
	require.Len(t, s.Progress(), 1, "of the snapshots that were there, only the newest is loaded")

	publish(t, client, 0, at(30), func(recs []*kgo.Record) { recs[1].Value[3] ^= 1 })
	require.Eventually(t, func() bool { return s.State().Trouble != "" }, 10*time.Second, 5*time.Millisecond)
	inUse(20)
	publish(t, client, 1, at(40), nil)
	inUse(40)

	stop()
	if err := <-ended; err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
}

// run follows both topics as the server does.
func run(t *testing.T, s *Scorer) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var both sync.WaitGroup
	both.Go(func() { _ = s.Run(ctx) })
	both.Go(func() { _ = s.FollowKnowledge(ctx) })
	t.Cleanup(func() { stop(); both.Wait() })
}

// byText is the row of an item, once the model in use has one.
func (s *Scorer) byText(t *testing.T, id string) (row []float32) {
	t.Helper()
	require.Eventually(t, func() bool {
		m := s.Acquire()
		if m == nil {
			return false
		}
		defer m.Release()
		at, ok := m.Row(id)
		if ok {
			require.True(t, m.KnownByText(at))
			row = m.engine.ItemVector(at)
		}
		return ok
	}, 10*time.Second, 2*time.Millisecond, "%s has no row", id)
	return row
}

func TestTheKnowledgeTopicIsFollowedWhileTheModelHasAUseForIt(t *testing.T) {
	cfg, client := logged(t)
	names := stream.NamesOf(cfg.Kafka.TopicPrefix)
	s := onnxScorer(t, cfg)
	tell := func(id string, vector ...float32) {
		t.Helper()
		require.NoError(t, client.ProduceSync(t.Context(), record(t, names.Knowledge(), id, "e", vector...)).FirstErr())
	}
	for _, id := range []string{"a", "b"} {
		s.items.Apply(stream.Event[stream.Item]{Body: stream.Item{Item: id}})
	}
	tell("a", 1, 2, 3, 4)
	tell("a", 4, 3, 2, 1)
	tell("gone", 4, 3, 2, 1)
	tell("gone")
	base := specimen.Proven(t, specimen.SASRec(specimen.Small, 20, 1))
	publish(t, client, 0, base, nil)
	run(t, s)
	require.Eventually(t, func() bool { return s.State().Knowing }, 10*time.Second, 2*time.Millisecond)
	require.Nil(t, s.texts.Load(), "a Base holds nothing")

	towered := specimen.WithTower(specimen.Proven(t, specimen.SASRec(specimen.Small, 20, 2)), numbers)
	publish(t, client, 1, towered, nil)
	makes, err := tower.New(towered.Tensors)
	require.NoError(t, err)
	row := func(v ...float32) []float32 {
		out, err := makes.Row(v)
		require.NoError(t, err)
		return out
	}
	require.Equal(t, row(4, 3, 2, 1), s.byText(t, "a"))
	tell("b", 1, 1, 1, 1)
	require.Equal(t, row(1, 1, 1, 1), s.byText(t, "b"))
	tell("a", 9, 9, 9, 9)
	require.Eventually(t, func() bool { return slices.Equal(row(9, 9, 9, 9), s.byText(t, "a")) }, 10*time.Second, 2*time.Millisecond)
	state, _ := s.Knowledge()
	require.Equal(t, 2, state.ByText)

	restarted := New(cfg, ONNX, s.items, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	t.Cleanup(restarted.Close)
	run(t, restarted)
	require.Eventually(t, func() bool { return restarted.State().Knowing }, 10*time.Second, time.Millisecond)
	state, _ = restarted.Knowledge()
	require.Equal(t, 2, state.ByText, "it knows what the one before knew when it says that it is ready")

	again := specimen.Proven(t, specimen.SASRec(specimen.Small, 20, 3))
	publish(t, client, 0, again, nil)
	require.Eventually(t, func() bool { return s.texts.Load() == nil }, 10*time.Second, 2*time.Millisecond)
	publish(t, client, 1, specimen.WithTower(specimen.Proven(t, specimen.SASRec(specimen.Small, 20, 4)), numbers), nil)
	s.byText(t, "b")
}

func TestKnowledgeOfATransactionThatWasGivenUpIsNotServed(t *testing.T) {
	cfg, client := logged(t)
	names := stream.NamesOf(cfg.Kafka.TopicPrefix)
	s := onnxScorer(t, cfg)
	for _, id := range []string{"a", "b"} {
		s.items.Apply(stream.Event[stream.Item]{Body: stream.Item{Item: id}})
	}
	txn, err := stream.NewTxn(t.Context(), cfg.Kafka, "writer")
	require.NoError(t, err)
	defer txn.Close()
	require.NoError(t, txn.Begin())
	require.NoError(t, txn.Produce(t.Context(), record(t, names.Knowledge(), "a", "e", 1, 2, 3, 4)))
	require.NoError(t, txn.Abort(t.Context()))
	require.NoError(t, client.ProduceSync(t.Context(), record(t, names.Knowledge(), "b", "e", 1, 2, 3, 4)).FirstErr())
	publish(t, client, 0, specimen.WithTower(specimen.Proven(t, specimen.SASRec(specimen.Small, 20, 1)), numbers), nil)
	run(t, s)
	s.byText(t, "b")
	m := s.Acquire()
	defer m.Release()
	require.Equal(t, 1, m.ByText())
}

func TestALogWithoutAKnowledgeTopicIsOneThatHoldsNone(t *testing.T) {
	cfg, client := logged(t)
	topic := stream.NamesOf(cfg.Kafka.TopicPrefix).Knowledge()
	_, err := kadm.NewClient(client).DeleteTopics(t.Context(), topic)
	require.NoError(t, err)
	s := onnxScorer(t, cfg)
	publish(t, client, 0, specimen.WithTower(specimen.Proven(t, specimen.SASRec(specimen.Small, 20, 1)), numbers), nil)
	run(t, s)
	require.Eventually(t, func() bool { return s.State().Knowing }, 10*time.Second, 2*time.Millisecond)
}

// Five thousand records make a few tables.
func TestABurstOfKnowledgeMakesAFewTables(t *testing.T) {
	cfg, client := logged(t)
	topic := stream.NamesOf(cfg.Kafka.TopicPrefix).Knowledge()
	s := onnxScorer(t, cfg)
	publish(t, client, 0, specimen.WithTower(specimen.Proven(t, specimen.SASRec(specimen.Small, 20, 1)), numbers), nil)
	run(t, s)
	require.Eventually(t, func() bool { return s.State().Knowing }, 10*time.Second, 2*time.Millisecond)

	const many = 5000
	rng := rand.New(rand.NewPCG(1, 1))
	var burst []*kgo.Record
	for i := range many {
		id := "new" + strconv.Itoa(i)
		s.items.Apply(stream.Event[stream.Item]{Body: stream.Item{Item: id}})
		burst = append(burst, record(t, topic, id, "e", rng.Float32(), rng.Float32(), rng.Float32(), rng.Float32()))
	}
	start := time.Now()
	require.NoError(t, client.ProduceSync(t.Context(), burst...).FirstErr())
	tables := map[int]bool{} // by their height
	require.Eventually(t, func() bool {
		state, _ := s.Knowledge()
		tables[state.ByText] = true
		return state.ByText == many
	}, 30*time.Second, time.Millisecond)
	t.Logf("%d items in %s, %d tables", many, time.Since(start), len(tables))
	require.Less(t, len(tables), many/20)
	m := s.Acquire()
	defer m.Release()
	require.Equal(t, 20+many, m.Rows())
	require.NoError(t, m.Score([]int32{m.byText["new7"]}, *m.Buffer()))
}
