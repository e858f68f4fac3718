package seqrec

import (
	"errors"
	"fmt"
	"slices"

	"seralm/models/snapshot"
	"seralm/models/tensor"
	"seralm/models/tower"
	"seralm/models/vocab"
)

// Names of the vectors in a state.
const (
	knowledgeRows    = "item_tower.known"   // [R]: 1 where the row has a vector
	knowledgeVectors = "item_tower.vectors" // [known rows, k], as they were given
	knowledgeGiven   = "item_tower.given"   // [1]: how many rows ever got one, up to settled
)

// settled is how many vectors it takes for their statistics to be what they will be,
// those among them that were forgotten since. Before, every new one moves them, and with
// them all rows that have one.
const settled = 1000

// knowledge holds the vectors that the item tower reads. They are not trained, but a
// step depends on them, so they are part of the model's state.
type knowledge struct {
	dim     int
	stats   tower.Statistics
	vectors [][]float32 // by row, nil where there is none
	known   int
	given   int // rows that ever got one, up to settled
	// table [capacity, k] holds n_i, and zeros where there is no vector: such an item
	// is what it would be without knowledge.
	table *tensor.Tensor
}

func newKnowledge(s *tensor.Scope, dim, rows int) *knowledge {
	k := &knowledge{dim: dim, stats: tower.Identity(dim)}
	k.resize(s, rows)
	return k
}

// resize makes room for rows [0, rows); capacity doubles when it is spent.
func (k *knowledge) resize(s *tensor.Scope, rows int) {
	capacity := 0
	if k.table != nil {
		capacity = int(k.table.Dim(0))
	}
	if rows > capacity {
		larger := s.Keep(s.Zeros(tensor.Float32, int64(max(2*capacity, rows)), int64(k.dim)))
		if k.table != nil {
			s.CopyInPlace(s.Narrow(larger, 0, 0, int64(capacity)), k.table)
			s.Free(k.table)
		}
		k.table = larger
	}
	k.vectors = append(k.vectors, make([][]float32, rows-len(k.vectors))...)
}

// set gives rows their vectors, in their order.
func (k *knowledge) set(s *tensor.Scope, rows []int32, given [][]float32) {
	moving := k.given < settled
	for i, r := range rows {
		if k.vectors[r] == nil {
			k.known++
			k.given = min(k.given+1, settled)
		}
		k.vectors[r] = slices.Clone(given[i])
	}
	if moving {
		k.stats = tower.Measure(k.vectors, k.dim)
		rows = k.rows()
	}
	k.write(s, rows)
}

// forget takes the vectors of rows away; what was measured with them stays.
func (k *knowledge) forget(s *tensor.Scope, rows []int32) {
	for _, r := range rows {
		if k.vectors[r] != nil {
			k.vectors[r] = nil
			k.known--
		}
	}
	k.write(s, rows)
}

// rows are those that have a vector.
func (k *knowledge) rows() []int32 {
	rows := make([]int32, 0, k.known)
	for r, v := range k.vectors {
		if v != nil {
			rows = append(rows, int32(r))
		}
	}
	return rows
}

// write brings rows of the table up to date.
func (k *knowledge) write(s *tensor.Scope, rows []int32) {
	for _, r := range rows {
		s.Sub(func(s *tensor.Scope) {
			n := make([]float32, k.dim)
			if v := k.vectors[r]; v != nil {
				n = k.stats.Normalise(v)
			}
			s.CopyInPlace(s.Narrow(k.table, 0, int64(r), 1), s.F32(n, 1, int64(k.dim)))
		})
	}
}

// SetKnowledge gives item rows their knowledge vectors, of Options.Knowledge numbers
// each; a row that has one gets the new one. Part of the state: who resumes from a
// checkpoint need not give them again.
func (m *Model) SetKnowledge(rows []int32, vectors [][]float32) error {
	if err := m.fits(rows, vectors); err != nil {
		return err
	}
	return m.thread.Do(func(s *tensor.Scope) { m.knowledge.set(s, rows, vectors) })
}

// fits says why rows cannot have vectors.
func (m *Model) fits(rows []int32, vectors [][]float32) error {
	if m.knowledge == nil {
		return errors.New(m.hyper.Name + ": this model has no knowledge: set recommender.knowledge_dim to the length of the vectors")
	}
	if len(rows) != len(vectors) {
		return fmt.Errorf("%s: %d knowledge vectors for %d rows", m.hyper.Name, len(vectors), len(rows))
	}
	for i, r := range rows {
		if r < vocab.FirstItem || int(r) >= m.rows {
			return fmt.Errorf("%s: knowledge for row %d, which is no item among the %d rows", m.hyper.Name, r, m.rows)
		}
		if len(vectors[i]) != m.knowledge.dim {
			return fmt.Errorf("%s: row %d: a knowledge vector of %d numbers, recommender.knowledge_dim is %d", m.hyper.Name, r, len(vectors[i]), m.knowledge.dim)
		}
		for _, x := range vectors[i] {
			if !finite(float64(x)) {
				return fmt.Errorf("%s: row %d: the knowledge vector holds %v", m.hyper.Name, r, x)
			}
		}
	}
	return nil
}

// Knowledge returns the knowledge vector that an item row has, which must not be
// changed; nil if it has none.
func (m *Model) Knowledge(row int32) []float32 {
	if m.knowledge == nil || int(row) >= len(m.knowledge.vectors) {
		return nil
	}
	return m.knowledge.vectors[row]
}

// statistics adds what normalises a vector to a state.
func (k *knowledge) statistics(state map[string]snapshot.Tensor) {
	state[tower.Mean] = snapshot.Tensor{Shape: []int64{int64(k.dim)}, Data: slices.Clone(k.stats.Mean)}
	state[tower.Scale] = snapshot.Tensor{Shape: []int64{1}, Data: []float32{k.stats.Scale}}
}

// save adds everything to a state.
func (k *knowledge) save(state map[string]snapshot.Tensor) {
	k.statistics(state)
	known, all := make([]float32, len(k.vectors)), make([]float32, 0, k.known*k.dim)
	for _, r := range k.rows() {
		known[r] = 1
		all = append(all, k.vectors[r]...)
	}
	state[knowledgeRows] = snapshot.Tensor{Shape: []int64{int64(len(known))}, Data: known}
	state[knowledgeVectors] = snapshot.Tensor{Shape: []int64{int64(k.known), int64(k.dim)}, Data: all}
	state[knowledgeGiven] = snapshot.Tensor{Shape: []int64{1}, Data: []float32{float32(k.given)}}
}

// savedKnowledge is what save wrote, checked.
type savedKnowledge struct {
	stats   tower.Statistics
	given   int
	rows    []int32
	vectors [][]float32
}

// readKnowledge is the inverse of save, for k numbers a vector; take finds a tensor
// of a shape in the state.
func readKnowledge(take func(name string, shape ...int64) ([]float32, error), rows, k int) (saved savedKnowledge, err error) {
	if saved.stats.Mean, err = take(tower.Mean, int64(k)); err != nil {
		return saved, err
	}
	scale, err := take(tower.Scale, 1)
	if err != nil {
		return saved, err
	}
	saved.stats.Scale = scale[0]
	known, err := take(knowledgeRows, int64(rows))
	if err != nil {
		return saved, err
	}
	for r, yes := range known {
		if yes != 0 {
			saved.rows = append(saved.rows, int32(r))
		}
	}
	all, err := take(knowledgeVectors, int64(len(saved.rows)), int64(k))
	if err != nil {
		return saved, err
	}
	for v := range slices.Chunk(all, k) {
		saved.vectors = append(saved.vectors, v)
	}
	saved.given = min(len(saved.rows), settled)
	if given, err := take(knowledgeGiven, 1); err == nil { // what was saved before rows could be renewed has none
		saved.given = int(given[0])
	}
	return saved, nil
}

// load replaces everything by what was saved of a table of rows.
func (k *knowledge) load(s *tensor.Scope, saved savedKnowledge, rows int) {
	s.Free(k.table)
	*k = *newKnowledge(s, k.dim, rows)
	k.stats, k.given, k.known = saved.stats, saved.given, len(saved.rows)
	for i, r := range saved.rows {
		k.vectors[r] = slices.Clone(saved.vectors[i])
	}
	k.write(s, saved.rows)
}
