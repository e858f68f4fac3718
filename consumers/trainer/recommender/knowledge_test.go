package recommender

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/models/online"
	"seralm/models/vocab"
	"seralm/stream"
)

const knowledgeDim = 4

// write writes knowledge of items [from, to) to the log; seed makes the vectors.
func write(t *testing.T, cfg config.Config, seed uint64, dim, from, to int) {
	t.Helper()
	opts, err := stream.ClientOptions(cfg.Kafka)
	require.NoError(t, err)
	client, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	defer client.Close()
	var records []*kgo.Record
	for i := from; i < to; i++ {
		k := stream.Knowledge{Item: fmt.Sprint("i", i), Text: "a title", Encoder: fmt.Sprint("encoder", dim), Origin: stream.OriginTitle, Vector: vectorOf(seed, dim, i)}
		rec, err := stream.NewRecord(stream.NamesOf(cfg.Kafka.TopicPrefix).Knowledge(), k.Item, fmt.Sprint(seed, "-", i), "test", time.UnixMilli(1e12), k)
		require.NoError(t, err)
		records = append(records, rec)
	}
	require.NoError(t, client.ProduceSync(t.Context(), records...).FirstErr())
}

func vectorOf(seed uint64, dim, item int) []float32 {
	r := rand.New(rand.NewPCG(seed, uint64(item)))
	v := make([]float32, dim)
	for j := range v {
		v[j] = float32(r.NormFloat64())
	}
	return v
}

// As without knowledge: what is known at the start of the log is told the same way in
// every run.
func TestKillingATrainerWithKnowledgeChangesNothing(t *testing.T) {
	cfg := cluster(t)
	cfg.Recommender.KnowledgeDim = knowledgeDim
	produce(t, cfg, 0, events)
	write(t, cfg, 1, knowledgeDim, 0, 50)
	write(t, cfg, 2, knowledgeDim, 20, 30) // newer ones
	killing(t, cfg, 6)
}

// Knowledge comes when it comes; which step was told of it is in the journal, vectors
// and all, for the topic may have forgotten them.
func TestTheJournalKnowsWhatEachStepWasTold(t *testing.T) {
	cfg := cluster(t)
	cfg.Recommender.KnowledgeDim, cfg.Trainer.SnapshotStep = knowledgeDim, 1
	produce(t, cfg, 0, 300)
	write(t, cfg, 1, knowledgeDim, 0, 20)
	wrote := 0
	var idle int64
	after := func(p Progress) bool {
		switch {
		case wrote == 0 && p.Events > 100: // in the middle of the stream
			write(t, cfg, 2, knowledgeDim, 10, 40)
			wrote++
		case wrote == 1 && p.Events == distinct(300): // when nothing else comes
			write(t, cfg, 3, knowledgeDim, 0, 60)
			wrote, idle = 2, p.Step
		case wrote == 2 && p.Step > idle:
			return true
		}
		return false
	}
	reg := prometheus.NewRegistry()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, run(ctx, cfg, reg, after))
	require.NoError(t, ctx.Err())
	last := published(t, cfg)
	model, sequencer := state(t, cfg)

	require.NoError(t, os.RemoveAll(filepath.Join(cfg.DataDir, "checkpoints")))
	steps := idle + 1
	require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), func(p Progress) bool {
		require.True(t, p.Replayed)
		return p.Step == steps
	}))
	m, s := state(t, cfg)
	require.True(t, model == m && sequencer == s, "learnt again from the journal, the model differs")

	// What came when nothing else did is published: the last two snapshots differ in
	// their item tables, and in nothing that events teach.
	require.Greater(t, len(last), 2)
	was, is := last[len(last)-2], last[len(last)-1]
	require.Equal(t, was.Offsets, is.Offsets)
	require.NotEqual(t, was.Tensors["item_embedding.weight"], is.Tensors["item_embedding.weight"])
	require.Equal(t, was.Tensors["item_tower.knowledge.weight"], is.Tensors["item_tower.knowledge.weight"])
	require.Equal(t, was.Tensors["position_embedding.weight"], is.Tensors["position_embedding.weight"])
}

// memory is a model that remembers what it was told.
type memory struct {
	Model
	vectors map[int32][]float32
}

func (m memory) SetKnowledge(rows []int32, vectors [][]float32) error {
	for i, r := range rows {
		m.vectors[r] = vectors[i]
	}
	return nil
}

func (m memory) Knowledge(row int32) []float32 { return m.vectors[row] }

func (m memory) Lend([]int32, [][]float32, func() error) error { panic("no samples here") }

func TestTheModelIsToldWhatIsNewOfItemsThatItHas(t *testing.T) {
	cfg := cluster(t)
	cfg.Recommender.KnowledgeDim = knowledgeDim
	write(t, cfg, 1, knowledgeDim, 0, 6)
	write(t, cfg, 1, 3, 6, 8) // by another encoder
	model := memory{vectors: map[int32][]float32{}}
	m := newMetrics(prometheus.NewRegistry())
	k := newKnown(cfg, model, m.known, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); k.follow(ctx) }()
	defer func() { cancel(); <-ended }()
	require.NoError(t, k.wait(ctx))

	v := vocab.New(1)
	due := func() (items []string) {
		known, err := k.due(v, nil)
		require.NoError(t, err)
		for _, n := range known {
			row, ok := v.Row(n.Item)
			require.True(t, ok)
			require.NoError(t, model.SetKnowledge([]int32{row}, [][]float32{n.Vector}))
			items = append(items, n.Item)
		}
		return items
	}
	require.Empty(t, due())
	for _, id := range []string{"i3", "i9", "i7", "i1"} {
		v.Observe(id)
	}
	require.Equal(t, []string{"i3", "i1"}, due(), "those that have a vector, by row")
	require.Empty(t, due())
	require.EqualValues(t, 2, testutil.ToFloat64(m.known.WithLabelValues(refused)))

	// News wakes who waits for events.
	woken := make(chan struct{})
	stop := k.onArrival(func() { close(woken) })
	write(t, cfg, 2, knowledgeDim, 1, 2)
	<-woken
	stop()
	require.Equal(t, []string{"i1"}, due())
	row, _ := v.Row("i1")
	require.Equal(t, vectorOf(2, knowledgeDim, 1), model.vectors[row])

	// The model went back to before that.
	model.vectors[row] = vectorOf(1, knowledgeDim, 1)
	k.again()
	require.Eventually(t, func() bool {
		due()
		return model.vectors[row][0] == vectorOf(2, knowledgeDim, 1)[0]
	}, time.Minute, 5*time.Millisecond)
	require.Len(t, model.vectors, 2)
}

// An item that loses its row takes its vector along, and is told it when it comes back.
func TestTheVectorOfAnItemOutlivesItsRow(t *testing.T) {
	cfg := cluster(t)
	cfg.Recommender.KnowledgeDim = knowledgeDim
	vector := func(i int) []float32 { return vectorOf(1, knowledgeDim, i) }
	model := memory{vectors: map[int32][]float32{}}
	k := newKnown(cfg, model, newMetrics(prometheus.NewRegistry()).known, slog.New(slog.DiscardHandler))
	k.vectors["a"], k.vectors["b"] = vector(1), vector(2)
	v := vocab.New(1)
	v.SetLimit(1)
	see := func(id string) []online.Known {
		var renewed []online.Renewal
		row, lost := v.Observe(id)
		if lost != "" {
			renewed = append(renewed, online.Renewal{Row: row, Was: lost})
		}
		known, err := k.due(v, renewed)
		require.NoError(t, err)
		delete(model.vectors, row) // the model renews the row, and then is told
		for _, n := range known {
			require.NoError(t, model.SetKnowledge([]int32{row}, [][]float32{n.Vector}))
		}
		return known
	}
	require.Equal(t, []online.Known{{Item: "a", Vector: vector(1)}}, see("a"))
	require.Equal(t, []online.Known{{Item: "b", Vector: vector(2)}}, see("b"))
	require.Equal(t, []online.Known{{Item: "a", Vector: vector(1)}}, see("a"))
	require.Empty(t, see("c"))
	k.vectors["a"] = vector(3) // newer than what the model held
	require.Equal(t, []online.Known{{Item: "a", Vector: vector(3)}}, see("a"))
	require.Equal(t, map[string][]float32{"b": vector(2)}, k.vectors)
	k.removed["a"], k.removed["z"] = true, true // what the model holds of a is not to come back
	require.Equal(t, []online.Known{{Item: "b", Vector: vector(2)}}, see("b"))
	require.Empty(t, see("a"))
	require.Empty(t, k.removed)
}

// A step's record has room for what it tells, whatever the ids and however short the
// vectors.
func TestWhatAStepTellsFitsItsRecord(t *testing.T) {
	for _, id := range []string{"i", "42", strings.Repeat("\u2028\"<", 30), strings.Repeat("é", stream.MaxName/2)} {
		for _, dim := range []int{1, 2, 3, 8, 384} {
			raw, err := json.Marshal(stream.ItemVector{Item: id, Vector: make(stream.Vector, dim)})
			require.NoError(t, err)
			require.LessOrEqual(t, len(raw)+len(","), tellSize(id, dim), "an id of %d bytes, %d numbers", len(id), dim)
		}
	}
}
