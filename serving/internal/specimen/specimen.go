// Package specimen makes what the tests of serving look at: snapshots with random
// weights, and engines whose scores are known.
//
// It imports models/{snapshot,onnx} and config. Only tests import it.
package specimen

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/models/onnx"
	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/models/vocab"
)

// Small is an architecture that builds in a millisecond.
var Small = snapshot.Architecture{Name: "sasrec", Dim: 8, Layers: 2, Heads: 2, Inner: 16, MaxLen: 10}

// ML1M is the size of the default recommender on MovieLens 1M.
var ML1M = snapshot.Architecture{Name: "sasrec", Dim: 64, Layers: 2, Heads: 2, Inner: 256, MaxLen: 50}

// ID is the id of the item at a row.
func ID(row int) string { return fmt.Sprintf("i%d", row) }

// SASRec returns a snapshot with random weights and a table of so many rows.
func SASRec(a snapshot.Architecture, rows int, step int64) *snapshot.Snapshot {
	a.Rows = rows
	rng := rand.New(rand.NewPCG(uint64(step), 7))
	s := &snapshot.Snapshot{Tensors: map[string]snapshot.Tensor{}}
	s.Manifest = snapshot.Manifest{
		Model: "recommender", Epoch: 1, Step: step, Architecture: a, Offsets: map[int32]int64{},
		Created: time.Now(), Watermark: time.UnixMilli(1_000_000 * step),
		Metrics: map[string]float64{"loss": 1 / float64(step)},
	}
	for row := vocab.FirstItem; row < rows; row++ {
		s.IDs = append(s.IDs, ID(row))
	}
	add := func(name string, around float32, shape ...int64) {
		n := int64(1)
		for _, size := range shape {
			n *= size
		}
		data := make([]float32, n)
		for i := range data {
			data[i] = around + float32(rng.NormFloat64())*0.3
		}
		s.Tensors[name] = snapshot.Tensor{Shape: shape, Data: data}
	}
	linear := func(name string, in, out int) {
		add(name+".weight", 0, int64(out), int64(in))
		add(name+".bias", 0, int64(out))
	}
	norm := func(name string) {
		add(name+".weight", 1, int64(a.Dim))
		add(name+".bias", 0, int64(a.Dim))
	}
	add("item_embedding.weight", 0, int64(rows), int64(a.Dim))
	add("position_embedding.weight", 0, int64(a.MaxLen), int64(a.Dim))
	norm("LayerNorm")
	for i := range a.Layers {
		layer := fmt.Sprintf("trm_encoder.layer.%d.", i)
		for _, part := range []string{"query", "key", "value", "dense"} {
			linear(layer+"multi_head_attention."+part, a.Dim, a.Dim)
		}
		norm(layer + "multi_head_attention.LayerNorm")
		linear(layer+"feed_forward.dense_1", a.Dim, a.Inner)
		linear(layer+"feed_forward.dense_2", a.Inner, a.Dim)
		norm(layer + "feed_forward.LayerNorm")
	}
	return s
}

// WithTower adds to the snapshot a tower for vectors of so many numbers.
func WithTower(s *snapshot.Snapshot, numbers int) *snapshot.Snapshot {
	rng := rand.New(rand.NewPCG(uint64(s.Step), 8))
	weight := make([]float32, s.Architecture.Dim*numbers)
	for i := range weight {
		weight[i] = float32(rng.NormFloat64())
	}
	s.Tensors[tower.Weight] = snapshot.Tensor{Shape: []int64{int64(s.Architecture.Dim), int64(numbers)}, Data: weight}
	s.Tensors[tower.Mean] = snapshot.Tensor{Shape: []int64{int64(numbers)}, Data: make([]float32, numbers)}
	s.Tensors[tower.Scale] = snapshot.Tensor{Shape: []int64{1}, Data: []float32{1}}
	return s
}

// Runtime loads ONNX Runtime from where the configuration says.
func Runtime(t testing.TB) {
	t.Helper()
	cfg, err := config.Load("", os.Environ())
	require.NoError(t, err)
	require.NoError(t, onnx.Init(cfg.Native.ONNXRuntime))
}

// Proven fills the snapshot's probe with what its graph computes, as a trainer that
// agrees with it would.
func Proven(t testing.TB, s *snapshot.Snapshot) *snapshot.Snapshot {
	t.Helper()
	graph, err := onnx.NewScorer(s)
	require.NoError(t, err)
	defer graph.Close()
	scores := make([]float32, s.Architecture.Rows)
	for _, h := range [][]int32{{2, 3, 4}, {7}} {
		require.NoError(t, graph.Score(h, scores))
		s.Probe.Histories = append(s.Probe.Histories, h)
		s.Probe.Rows = append(s.Probe.Rows, []int32{2, 5})
		s.Probe.Scores = append(s.Probe.Scores, []float32{scores[2], scores[5]})
	}
	return s
}

// Engine scores without a graph: the logit of a row is Bias[row] plus the number
// of times the row follows, by one, a row of the history.
type Engine struct {
	Vectors [][]float32
	Bias    []float32
	Err     error         // what Score returns
	Block   chan struct{} // when set, Score waits until it is closed
	Probe   error         // what Verify returns
	Closed  atomic.Bool
	Calls   atomic.Int64

	base *Engine // without the further rows, if there are any
}

// NewEngine returns an engine for rows; row r has the vector (1, r) and the bias -r.
func NewEngine(rows int) *Engine {
	e := &Engine{}
	for r := range rows {
		e.Vectors = append(e.Vectors, []float32{1, float32(r)})
		e.Bias = append(e.Bias, -float32(r))
	}
	return e
}

// WithRows returns an engine with further rows behind those of the first NewEngine:
// their biases go on as these do, and are raised by the first number of their vectors,
// of which two are kept.
func (e *Engine) WithRows(extra [][]float32) *Engine {
	base := e
	if e.base != nil {
		base = e.base
	}
	next := NewEngine(len(base.Vectors))
	next.base, next.Err, next.Block = base, base.Err, base.Block
	copy(next.Bias, base.Bias)
	for _, v := range extra {
		next.Bias = append(next.Bias, v[0]-float32(len(next.Vectors)))
		next.Vectors = append(next.Vectors, v[:2])
	}
	return next
}

// Score implements scorer.Engine.
func (e *Engine) Score(history []int32, out []float32) error {
	e.Calls.Add(1)
	if e.Closed.Load() {
		return onnx.ErrClosed
	}
	if e.Block != nil {
		<-e.Block
	}
	if e.Err != nil {
		return e.Err
	}
	copy(out, e.Bias)
	for _, row := range history {
		if next := int(row) + 1; row >= vocab.FirstItem && next < len(out) {
			out[next] += 1000
		}
	}
	out[vocab.Padding], out[vocab.Unknown] = float32(math.Inf(-1)), float32(math.Inf(-1))
	return nil
}

// ItemVector implements scorer.Engine.
func (e *Engine) ItemVector(row int32) []float32 { return slices.Clip(e.Vectors[row]) }

// Verify implements scorer.Engine.
func (e *Engine) Verify(float64) (float64, error) { return 0, e.Probe }

// Close implements scorer.Engine.
func (e *Engine) Close() { e.Closed.Store(true) }
