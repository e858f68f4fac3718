package scorer

import (
	"fmt"
	"math"
	"slices"

	"seralm/models/onnx"
	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/models/vocab"
	"seralm/serving/catalogue"
	"seralm/serving/ranking"
)

// ONNX builds engines on ONNX Runtime. onnx.Init must have been called.
func ONNX(s *snapshot.Snapshot) (Engine, error) { return wrapped(onnx.NewScorer(s)) }

type onnxEngine struct{ *onnx.Scorer }

func (e onnxEngine) WithRows(extra [][]float32) (Engine, error) {
	return wrapped(e.Scorer.WithRows(extra))
}

func wrapped(s *onnx.Scorer, err error) (Engine, error) {
	if err != nil {
		return nil, err // not a nil *onnx.Scorer inside a non-nil interface
	}
	return onnxEngine{s}, nil
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
	m, err := s.newModel(snap, engine)
	if err != nil {
		return nil, err
	}
	if err := m.warm(); err != nil {
		return nil, fmt.Errorf("warming up: %w", err)
	}
	if err := m.likes(); err != nil {
		return nil, fmt.Errorf("ranking for an unknown user: %w", err)
	}
	whole, err := s.withTexts(m)
	if err != nil {
		return nil, fmt.Errorf("adding the items that only a text is known of: %w", err)
	}
	if whole != m {
		engine.Close()
	}
	return whole, nil
}

func (s *Scorer) newModel(snap *snapshot.Snapshot, engine Engine) (*Model, error) {
	makes, err := tower.New(snap.Tensors)
	if err != nil {
		return nil, err
	}
	m := &Model{Manifest: snap.Manifest, tower: makes, learnt: len(snap.IDs) + vocab.FirstItem}
	// Most snapshots have the items of the one before: share what depends on them alone.
	if old := s.current.Load(); old != nil && old.Manifest.VocabularyHash == snap.VocabularyHash && old.learnt == m.learnt {
		m.vocabulary, m.items = old.vocabulary, old.items[:m.learnt:m.learnt]
	} else {
		m.vocabulary = vocab.FromIDs(snap.IDs)
		m.items = append(make([]*catalogue.Item, vocab.FirstItem, m.learnt), s.items.Bind(snap.IDs)...)
	}
	m.use(engine)
	return m, nil
}

// with returns a model of the same snapshot that has these rows, by text, and none else
// behind the learnt ones.
func (m *Model) with(items []*catalogue.Item, rows [][]float32) (*Model, error) {
	engine, err := m.engine.WithRows(rows)
	if err != nil {
		return nil, err
	}
	next := &Model{
		Manifest: m.Manifest, tower: m.tower, vocabulary: m.vocabulary, learnt: m.learnt,
		items:   slices.Concat(m.items[:m.learnt], items),
		inverse: m.inverse[:m.learnt:m.learnt],
		byText:  make(map[string]int32, len(items)),
	}
	for i, item := range items {
		next.byText[item.ID] = int32(m.learnt + i)
	}
	next.use(engine)
	return next, nil
}

// use completes m, whose items are known, for its engine.
func (m *Model) use(engine Engine) {
	rows := len(m.items)
	m.engine, m.idle = engine, make(chan struct{})
	m.uses.Store(1)
	m.buffers.New = func() any { scores := make([]float32, rows); return &scores }
	m.inverse = slices.Grow(m.inverse, rows-len(m.inverse))
	for row := len(m.inverse); row < rows; row++ {
		v, inverse := engine.ItemVector(int32(row)), float32(0)
		if length := math.Sqrt(float64(dot(v, v))); length > 0 {
			inverse = float32(1 / length)
		}
		m.inverse = append(m.inverse, inverse)
	}
}

// warm runs the engine as look-ups will.
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
	return nil
}

// likes keeps what the model answers to an unknown user as its list of popular items.
func (m *Model) likes() error {
	scores := m.Buffer()
	defer m.Recycle(scores)
	if err := m.Score([]int32{vocab.Unknown}, *scores); err != nil {
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
