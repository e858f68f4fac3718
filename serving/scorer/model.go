package scorer

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/models/vocab"
	"seralm/serving/catalogue"
	"seralm/serving/ranking"
)

// Engine computes the scores of one snapshot. Score is safe for concurrent use.
type Engine interface {
	// Score writes the logits of every row, given a history of rows, oldest first.
	Score(history []int32, out []float32) error
	// ItemVector returns the vector of a row, which must not be changed.
	ItemVector(row int32) []float32
	// WithRows returns an engine that has these rows behind those of the snapshot, and
	// none else. It is closed on its own.
	WithRows(extra [][]float32) (Engine, error)
	// Verify compares the engine's scores with the trainer's own for the probe
	// histories in the snapshot, and returns the largest difference; one above
	// tolerance is an error.
	Verify(tolerance float64) (float64, error)
	// Close frees the engine. Nothing else may be called then.
	Close()
}

// Build makes the engine of a snapshot.
type Build func(*snapshot.Snapshot) (Engine, error)

// Model is one loaded snapshot. Who got it from Scorer.Acquire may use it until
// Release; all methods are safe for concurrent use.
//
// Its rows are those of the snapshot, which the recommender has learnt, and behind them
// one for each item that only a text is known of. They never change: another text makes
// another Model of the same snapshot.
type Model struct {
	Manifest snapshot.Manifest

	engine     Engine
	vocabulary *vocab.Vocabulary
	tower      *tower.Tower      // makes a row of a text; nil for a Base
	from       basis             // of the rows by text; read and set with Scorer.building held
	learnt     int               // rows of the snapshot, padding and unknown included
	byText     map[string]int32  // the rows behind them
	items      []*catalogue.Item // by row; nil for padding and unknown
	inverse    []float32         // 1 / the length of the row's vector
	popular    []ranking.Scored
	buffers    sync.Pool // *[]float32 of one score per row

	uses atomic.Int64  // look-ups in progress, plus one while it is the current model
	idle chan struct{} // closed when uses reaches 0
}

// Release gives the model back. The last one to do so after a swap lets it be closed.
func (m *Model) Release() {
	if m.uses.Add(-1) == 0 {
		close(m.idle)
	}
}

// acquire takes a use of m, unless m is already retired and may be closed.
func (m *Model) acquire() bool {
	for n := m.uses.Load(); n > 0; n = m.uses.Load() {
		if m.uses.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

// Rows is the height of the item table, padding and unknown included.
func (m *Model) Rows() int { return len(m.items) }

// Items is how many items the model has learnt.
func (m *Model) Items() int { return m.learnt - vocab.FirstItem }

// ByText is how many items have a row of their text alone.
func (m *Model) ByText() int { return len(m.items) - m.learnt }

// KnownByText reports whether a row is made of the item's text alone.
func (m *Model) KnownByText(row int32) bool { return int(row) >= m.learnt }

// MaxLen is how many of a user's newest items the model looks at.
func (m *Model) MaxLen() int { return m.Manifest.Architecture.MaxLen }

// Row returns the row of an item, or vocab.Unknown and false.
func (m *Model) Row(id string) (int32, bool) {
	if row, ok := m.vocabulary.Row(id); ok {
		return row, true
	}
	if row, ok := m.byText[id]; ok {
		return row, true
	}
	return vocab.Unknown, false
}

// Item returns the item at a row, which must be a real item's.
func (m *Model) Item(row int32) *catalogue.Item { return m.items[row] }

// Popular returns what the model would recommend to a user of whom it knows
// nothing, best first. It must not be changed.
func (m *Model) Popular() []ranking.Scored { return m.popular }

// Buffer returns a slice of one score per row, to be given back with Recycle.
func (m *Model) Buffer() *[]float32 { return m.buffers.Get().(*[]float32) }

// Recycle takes a slice from Buffer back.
func (m *Model) Recycle(buffer *[]float32) { m.buffers.Put(buffer) }

// Score writes the logits of every row into out, given the rows of a history,
// oldest first, of which the newest MaxLen count. Rows that are no item are -Inf.
func (m *Model) Score(history []int32, out []float32) error {
	if extra := len(history) - m.MaxLen(); extra > 0 {
		history = history[extra:]
	}
	return m.engine.Score(history, out)
}

// Similar writes the cosine similarity of every row's vector to that of row into
// out. It costs one pass over the item table and stops when ctx ends.
func (m *Model) Similar(ctx context.Context, row int32, out []float32) error {
	v, scale := m.engine.ItemVector(row), m.inverse[row]
	for other := range out {
		if other%4096 == 0 && ctx.Err() != nil {
			return fmt.Errorf("comparing item vectors: %w", ctx.Err())
		}
		out[other] = dot(v, m.engine.ItemVector(int32(other))) * scale * m.inverse[other]
	}
	for other := range vocab.FirstItem {
		out[other] = float32(math.Inf(-1))
	}
	return nil
}

// Nearest returns which of the history's items is most similar to row, or
// vocab.Unknown if the history holds no item the model knows.
func (m *Model) Nearest(row int32, history []int32) int32 {
	v := m.engine.ItemVector(row)
	best, nearest := float32(math.Inf(-1)), int32(vocab.Unknown)
	for _, h := range history {
		if h < vocab.FirstItem {
			continue
		}
		if s := dot(v, m.engine.ItemVector(h)) * m.inverse[h]; s > best {
			best, nearest = s, h
		}
	}
	return nearest
}

func dot(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32 // four sums: additions of one would wait for each other
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}
