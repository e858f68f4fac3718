package scorer

import (
	"fmt"
	"math"

	"seralm/models/onnx"
	"seralm/models/snapshot"
	"seralm/models/vocab"
	"seralm/serving/catalogue"
	"seralm/serving/ranking"
)

// ONNX builds engines on ONNX Runtime. onnx.Init must have been called.
func ONNX(s *snapshot.Snapshot) (Engine, error) {
	engine, err := onnx.NewScorer(s)
	if err != nil {
		return nil, err // not a nil *onnx.Scorer inside a non-nil interface
	}
	return engine, nil
}

// popularKept is how long the model's own list of popular items is: enough to
// answer the largest n after the items of a long history are taken out.
const popularKept = 1000

// warmups is how often a new engine is run on the longest history before look-ups
// may use it: the first runs allocate what later ones reuse.
const warmups = 3

// load turns a complete snapshot into a model and makes sure that it computes
// what the trainer computed. Whatever it built is closed again if it fails.
func (s *Scorer) load(c *candidate) (_ *Model, err error) {
	if err := s.admit(c.version); err != nil {
		return nil, err
	}
	snap, err := snapshot.Decode(c.blob.Manifest, c.blob.Payload)
	if err != nil {
		return nil, err
	}
	engine, err := s.build(snap)
	if err != nil {
		return nil, fmt.Errorf("building the graph: %w", err)
	}
	defer func() {
		if err != nil {
			engine.Close()
		}
	}()
	if _, err := engine.Verify(s.tolerance); err != nil {
		return nil, fmt.Errorf("comparing with the trainer's scores: %w", err)
	}
	m := s.newModel(snap, engine)
	if err := m.warm(); err != nil {
		return nil, fmt.Errorf("warming up: %w", err)
	}
	return m, nil
}

func (s *Scorer) newModel(snap *snapshot.Snapshot, engine Engine) *Model {
	rows := len(snap.IDs) + vocab.FirstItem
	m := &Model{
		Manifest: snap.Manifest, engine: engine,
		inverse: make([]float32, rows), idle: make(chan struct{}),
	}
	m.uses.Store(1)
	m.buffers.New = func() any { scores := make([]float32, rows); return &scores }

	// Most snapshots have the items of the one before: share what depends on them alone.
	if old := s.current.Load(); old != nil && old.Manifest.VocabularyHash == snap.VocabularyHash && old.Rows() == rows {
		m.vocabulary, m.items = old.vocabulary, old.items
	} else {
		m.vocabulary = vocab.FromIDs(snap.IDs)
		m.items = append(make([]*catalogue.Item, vocab.FirstItem, rows), s.items.Bind(snap.IDs)...)
	}
	for row := range m.inverse {
		v := engine.ItemVector(int32(row))
		if length := math.Sqrt(float64(dot(v, v))); length > 0 {
			m.inverse[row] = float32(1 / length)
		}
	}
	return m
}

// warm runs the engine as look-ups will, and keeps what it answers to an unknown
// user as the model's list of popular items.
func (m *Model) warm() error {
	scores := m.Buffer()
	defer m.Recycle(scores)
	longest := make([]int32, m.MaxLen())
	for i := range longest {
		longest[i] = vocab.Unknown
	}
	for range warmups {
		if err := m.Score(longest, *scores); err != nil {
			return err
		}
	}
	if err := m.Score(longest[:1], *scores); err != nil {
		return err
	}
	var top ranking.Top
	top.Reset(popularKept)
	top.Scan(*scores, func(row int32) bool { return row >= vocab.FirstItem })
	m.popular = top.Sorted()
	if len(m.popular) == 0 && m.Rows() > vocab.FirstItem {
		return fmt.Errorf("none of %d items has a finite score", m.Rows()-vocab.FirstItem)
	}
	return nil
}
