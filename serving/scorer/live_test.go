package scorer

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/debug"
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

// Two hundred swaps while look-ups go on: none fails, every old session is freed.
func TestTwoHundredSwapsUnderLoad(t *testing.T) {
	s := onnxScorer(t, config.Default())
	const rows = 200
	var blobs []*stream.Blob
	for step := range int64(8) {
		blobs = append(blobs, blob(t, specimen.Proven(t, specimen.SASRec(specimen.Small, rows+int(step), step+1))))
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

	var lookups, failed atomic.Int64
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
	t.Logf("%d look-ups during 300 swaps, resident memory %d -> %d kB", lookups.Load(), before, after)
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
