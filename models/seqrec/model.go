package seqrec

import (
	"cmp"
	"fmt"

	"seralm/models/snapshot"
	"seralm/models/tensor"
	"seralm/models/vocab"
)

// Hyper are an architecture and its sizes, named as in RecBole.
type Hyper struct {
	Name                              string // sasrec, gru4rec, lightsans, paup or caser
	Dim, Layers, Heads, Inner, MaxLen int

	// Of one architecture each; the others do not look at them.
	Interests            int // LightSANs: k_interests
	Segments, Kernel     int // PAUP: m and k1
	Vertical, Horizontal int // Caser: n_v and n_h
}

// Options are how a recommender learns.
type Options struct {
	Seed         uint64
	LearningRate float64
	Dropout      float64
	ClipNorm     float64 // 0 = off
	Threads      int     // 1 = bit-reproducible
	Device       string
	// Knowledge is the length of the items' knowledge vectors; 0 = a Base, which has
	// none. IDDropout is the probability that an item of a model with knowledge is
	// learnt without its id in a step.
	Knowledge int
	IDDropout float64
	// Negatives is how many items a step's softmax draws besides those that its batch
	// names; 0 = all: the full softmax.
	Negatives int
	// HistoryBias adds one learned number to the score of what the history holds.
	HistoryBias bool
}

// Model is a recommender that is trained by gradients: an architecture that makes one
// vector of a history, and all that the architectures have in common. An item's score is
// the product of that vector and the item's row of the table that the history was read
// with; there is no bias. The loss is the cross-entropy of a softmax over all items.
//
// With Options.Knowledge an item is its id and its text (see items); a model starts
// exactly as its Base.
type Model struct {
	hyper     Hyper
	opts      Options
	encoder   architecture
	thread    *tensor.Thread
	params    *tensor.Params
	knowledge *knowledge // nil for a Base
	rows      int
}

// New returns an untrained model with item rows [0, rows).
func New(h Hyper, rows int, o Options) (*Model, error) {
	encoder, err := newArchitecture(h)
	if err != nil {
		return nil, err
	}
	thread, err := tensor.Start(tensor.Options{Threads: o.Threads, Device: o.Device})
	if err != nil {
		return nil, err
	}
	m := &Model{hyper: h, opts: o, encoder: encoder, thread: thread, params: tensor.NewParams(), rows: max(rows, vocab.FirstItem)}
	err = thread.Do(func(s *tensor.Scope) {
		for _, p := range m.shapes() {
			m.params.Add(s, p.name, p.first(o.Seed, p), p.shape...)
		}
		if o.Knowledge > 0 {
			m.knowledge = newKnowledge(s, o.Knowledge, m.rows)
		}
	})
	if err != nil {
		thread.Close()
		return nil, err
	}
	return m, nil
}

const itemTable = "item_embedding.weight"

// shapes lists the parameters.
func (m *Model) shapes() []shaped {
	table := shaped{itemTable, []int64{int64(m.rows), int64(m.hyper.Dim)}, normal(itemDeviation)}
	if !m.encoder.causal() {
		table.first = zeroPadding
	}
	out := append([]shaped{table}, m.encoder.shapes()...)
	if m.opts.Knowledge > 0 {
		out = append(out, m.towerShapes()...)
	}
	if m.opts.HistoryBias {
		out = append(out, shaped{historyBias, []int64{1}, zeros})
	}
	return out
}

// Name implements Recommender.
func (m *Model) Name() string { return m.hyper.Name }

// Causal says that Learn learns all targets of a sequence in one pass, and not one that
// it draws.
func (m *Model) Causal() bool { return m.encoder.causal() }

// Architecture describes the model to those who serve it.
func (m *Model) Architecture() snapshot.Architecture {
	h := m.hyper
	a := snapshot.Architecture{Name: h.Name, Rows: m.rows, Dim: h.Dim, Layers: h.Layers, Heads: h.Heads, Inner: h.Inner, MaxLen: h.MaxLen}
	switch h.Name {
	case "lightsans":
		a.Interests = h.Interests
	case "paup":
		a.Segments, a.Kernel = h.Segments, h.Kernel
	case "caser":
		a.Vertical, a.Horizontal = h.Vertical, h.Horizontal
	}
	return a
}

// SetLearningRate changes the rate of the steps to come. It is no part of the state:
// whoever has a schedule knows the step.
func (m *Model) SetLearningRate(rate float64) { m.opts.LearningRate = rate }

// Resize implements Recommender. A new row is a function of seed and row; in a model
// with knowledge, as far from it as the unknown row has come from its beginning: an item
// that was scored by its text alone is scored about the same when its id is admitted.
func (m *Model) Resize(rows int) error {
	if rows <= m.rows {
		return nil
	}
	var more []int32
	for r := m.rows; r < rows; r++ {
		more = append(more, int32(r))
	}
	err := m.thread.Do(func(s *tensor.Scope) {
		m.params.Grow(s, itemTable, m.fresh(s, more))
		if m.knowledge != nil {
			m.knowledge.resize(s, rows)
		}
	})
	if err != nil {
		return err
	}
	m.rows = rows
	return nil
}

// Renew makes item rows what Resize would make of them: those of items that nothing was
// learnt of yet, and nothing is known.
func (m *Model) Renew(rows []int32) error {
	for _, r := range rows {
		if r < vocab.FirstItem || int(r) >= m.rows {
			return fmt.Errorf("%s: row %d cannot be renewed: it is no item among the %d rows", m.hyper.Name, r, m.rows)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return m.thread.Do(func(s *tensor.Scope) {
		m.params.Renew(s, itemTable, rows, m.fresh(s, rows))
		if m.knowledge != nil {
			m.knowledge.forget(s, rows)
		}
	})
}

// fresh returns the values of new item rows, one after another.
func (m *Model) fresh(s *tensor.Scope, rows []int32) []float32 {
	d := m.hyper.Dim
	out := make([]float32, 0, len(rows)*d)
	for _, r := range rows {
		out = append(out, normalRow(m.opts.Seed, itemTable, int(r), d, itemDeviation)...)
	}
	if m.knowledge == nil {
		return out
	}
	unknown := s.Values(s.Narrow(m.params.Get(itemTable), 0, vocab.Unknown, 1))
	for i, was := range normalRow(m.opts.Seed, itemTable, vocab.Unknown, d, itemDeviation) {
		for j := i; j < len(out); j += d {
			out[j] += unknown[i] - was
		}
	}
	return out
}

// Close implements Recommender.
func (m *Model) Close() {
	_ = m.thread.Do(func(s *tensor.Scope) {
		m.params.Free(s)
		if m.knowledge != nil {
			s.Free(m.knowledge.table)
		}
	})
	m.thread.Close()
}

// within says whether a size lies in its bounds.
func (h Hyper) within(name string, v, low, high int) error {
	if v < low || v > high {
		return fmt.Errorf("%s: %s is %d; it must be between %d and %d", h.Name, name, v, low, high)
	}
	return nil
}

// heads checks the sizes of those who split their dimensions.
func (h Hyper) heads() error {
	if h.Heads < 1 || h.Dim%h.Heads != 0 {
		return fmt.Errorf("%s: %d heads do not divide dim %d", h.Name, h.Heads, h.Dim)
	}
	return nil
}

// sizes checks what every architecture has.
func (h Hyper) sizes() error {
	return cmp.Or(h.within("dim", h.Dim, 1, 1<<16), h.within("max_len", h.MaxLen, 1, 1<<16))
}
