package seqrec

import (
	"seralm/models/snapshot"
	"seralm/models/tensor"
	"seralm/models/tower"
	"seralm/models/vocab"
)

// Names of the item tower's parameters besides tower.Weight. W stands in two parts,
// transposed: [E'[i] ; n_i] W + b is E'[i] idWeightᵀ + n_i tower.Weightᵀ + idBias.
const (
	idWeight = "item_tower.id.weight" // [d, d], the identity at first
	idBias   = "item_tower.id.bias"   // [d], zero at first
)

// towerShapes lists the parameters that a model with knowledge has besides. They begin
// as the identity of the id, deaf to knowledge: such a model is its Base.
func (m *Model) towerShapes() []shaped {
	d, k := int64(m.hyper.Dim), int64(m.opts.Knowledge)
	return []shaped{{idWeight, []int64{d, d}, identity}, {idBias, []int64{d}, zeros}, {tower.Weight, []int64{d, k}, zeros}}
}

// items returns the representations e_i [R, d] of rows of the item table, of all of them
// where rows is nil; a Base's are the table.
//
// With probability idDropout an item's id is dropped: for this pass the unknown row takes
// its place, in histories and among the candidates alike, so that the unknown row and
// the knowledge learn to do without it. An item without a vector keeps its id: nothing
// else tells it from others.
func (m *Model) items(s *tensor.Scope, idDropout float64, rows []int64) *tensor.Tensor {
	ids := m.params.Get(itemTable)
	if m.knowledge == nil {
		if rows != nil {
			ids = s.Embedding(ids, s.I64(rows, int64(len(rows))))
		}
		return ids
	}
	n := s.Narrow(m.knowledge.table, 0, 0, int64(m.rows))
	if rows != nil {
		n = s.IndexSelect(n, 0, s.I64(rows, int64(len(rows))))
	}
	if idDropout > 0 {
		kept := make([]int64, n.Dim(0))
		for i, u := range s.Values(s.Uniform(n.Dim(0))) {
			if kept[i] = int64(i); rows != nil {
				kept[i] = rows[i]
			}
			if m.knowledge.vectors[kept[i]] != nil && float64(u) < idDropout {
				kept[i] = vocab.Unknown
			}
		}
		rows = kept
	}
	if rows != nil {
		ids = s.Embedding(ids, s.I64(rows, int64(len(rows))))
	}
	return s.Add(s.Linear(ids, m.params.Get(idWeight), m.params.Get(idBias)), s.Linear(n, m.params.Get(tower.Weight), nil))
}

// publish turns the weights in state into what a scorer reads: the item table folded,
// as a Base has it, and what makes a row for an item that has only a vector.
func (m *Model) publish(s *tensor.Scope, state map[string]snapshot.Tensor) {
	folded := s.Values(m.items(s, 0, nil))
	if !m.encoder.causal() { // padding is seen, as nothing
		clear(folded[vocab.Padding*m.hyper.Dim : (vocab.Padding+1)*m.hyper.Dim])
	}
	state[itemTable] = snapshot.Tensor{Shape: state[itemTable].Shape, Data: folded}
	delete(state, idWeight)
	delete(state, idBias)
	m.knowledge.statistics(state)
}
