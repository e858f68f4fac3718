package evaluator

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"seralm/config"
	"seralm/models/onnx"
	"seralm/models/snapshot"
	"seralm/models/vocab"
	"seralm/stream"
	"seralm/stream/streamtest"
)

func TestMain(m *testing.M) {
	if err := onnx.Init(os.Getenv("SERALM_ONNXRUNTIME")); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// catalogue are the items of the tests, in the order of their rows.
var catalogue = []string{"a", "b", "c", "d", "e"}

// planted is a snapshot that has learnt up to the offsets and always gives the
// highest score to one item, and the same to all others: the user vector is (1, 0)
// for its last layer norm has weight 0, and the item's first component is its score.
func planted(step int64, offsets map[int32]int64, best string) *snapshot.Snapshot {
	const d, inner, maxLen = 2, 2, 8
	rows := int64(vocab.FirstItem + len(catalogue))
	s := &snapshot.Snapshot{IDs: catalogue, Tensors: map[string]snapshot.Tensor{}}
	s.Model, s.Epoch, s.Step, s.Offsets = config.Default().Recommender.Name, 1, step, offsets
	s.Architecture = snapshot.Architecture{Name: "sasrec", Rows: int(rows), Dim: d, Layers: 1, Heads: 1, Inner: inner, MaxLen: maxLen}
	zero := func(name string, shape ...int64) []float32 {
		n := int64(1)
		for _, k := range shape {
			n *= k
		}
		s.Tensors[name] = snapshot.Tensor{Shape: shape, Data: make([]float32, n)}
		return s.Tensors[name].Data
	}
	items := zero("item_embedding.weight", rows, d)
	zero("position_embedding.weight", maxLen, d)
	layer := "trm_encoder.layer.0."
	for _, name := range []string{"query", "key", "value", "dense"} {
		zero(layer+"multi_head_attention."+name+".weight", d, d)
		zero(layer+"multi_head_attention."+name+".bias", d)
	}
	for i, name := range []string{"dense_1", "dense_2"} {
		zero(layer+"feed_forward."+name+".weight", []int64{inner, d}[i], []int64{d, inner}[i])
		zero(layer+"feed_forward."+name+".bias", []int64{inner, d}[i])
	}
	for _, name := range []string{"LayerNorm", layer + "multi_head_attention.LayerNorm", layer + "feed_forward.LayerNorm"} {
		zero(name+".weight", d)
		zero(name+".bias", d)[0] = 1
	}
	row, _ := vocab.FromIDs(catalogue).Row(best)
	items[int(row)*d] = 5
	return s
}

// rank is the reciprocal rank that a planted snapshot gives to an item: the others
// share ranks 2 to 5.
func rank(best, item string) float64 {
	if best == item {
		return 1
	}
	return 1 / 3.5
}

// system is a log of one partition.
type system struct {
	t   *testing.T
	cfg config.Config
	cl  *kgo.Client
	adm *kadm.Client
	n   int
}

func newSystem(t *testing.T) *system {
	t.Helper()
	cfg := config.Default()
	cfg.Kafka.TopicPrefix, cfg.Kafka.Partitions, cfg.Kafka.Brokers = streamtest.Prefix(), 1, streamtest.Brokers(t)
	cfg.Trainer.Linger = time.Millisecond
	cl := streamtest.Topics(t, cfg.Kafka)
	return &system{t: t, cfg: cfg, cl: cl, adm: kadm.NewClient(cl)}
}

// click writes a user's next events.
func (s *system) click(user string, items ...string) {
	s.t.Helper()
	var recs []*kgo.Record
	topic := stream.NamesOf(s.cfg.Kafka.TopicPrefix).Interactions()
	for _, item := range items {
		s.n++
		rec, err := stream.NewRecord(topic, user, fmt.Sprint(s.n), "test", epoch.Add(time.Duration(s.n)*time.Second),
			stream.Interaction{User: user, Item: item, Type: "click"})
		require.NoError(s.t, err)
		recs = append(recs, rec)
	}
	require.NoError(s.t, s.cl.ProduceSync(s.t.Context(), recs...).FirstErr())
}

func (s *system) publish(snap *snapshot.Snapshot) {
	s.t.Helper()
	manifest, payload, err := snapshot.Encode(snap)
	require.NoError(s.t, err)
	recs := stream.ChunkRecords(stream.NamesOf(s.cfg.Kafka.TopicPrefix).Snapshots(), snap.Model, int(snap.Step), fmt.Sprint(snap.Step), manifest, payload, stream.DefaultChunk)
	require.NoError(s.t, s.cl.ProduceSync(s.t.Context(), recs...).FirstErr())
}

// evaluation is an evaluator that runs.
type evaluation struct {
	*Evaluator
	t    *testing.T
	stop func()
	end  chan error
}

// begin starts an evaluator to which the records before an offset are old, once it
// holds so many snapshots.
func (s *system) begin(old int64, snapshots int) *evaluation {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(cancel)
	v := &evaluation{t: s.t, stop: cancel, end: make(chan error, 1), Evaluator: New(s.cfg, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))}
	topic := stream.NamesOf(s.cfg.Kafka.TopicPrefix)
	preload, loaded := context.WithCancel(ctx)
	go func() {
		for v.held() < snapshots && preload.Err() == nil {
			_, next := v.served.newest()
			if v.held() < snapshots {
				<-next
			}
		}
		loaded()
	}()
	_ = v.follow(preload, topic.Snapshots())
	merge, err := stream.NewMerge(ctx, s.cfg.Kafka, topic.Interactions(), nil)
	require.NoError(s.t, err)
	go func() {
		defer merge.Close()
		v.end <- ended(ctx, v.evaluate(ctx, merge, map[int32]int64{0: old}))
	}()
	return v
}

func (v *evaluation) held() int {
	v.served.mu.Lock()
	defer v.served.mu.Unlock()
	return len(v.served.models)
}

func (v *evaluation) awaitRanked(n int64) {
	v.t.Helper()
	require.Eventually(v.t, func() bool { return v.Ranked() >= n }, time.Minute, 2*time.Millisecond)
}

func (v *evaluation) leave() {
	v.t.Helper()
	v.stop()
	require.NoError(v.t, <-v.end)
	v.served.close()
}
