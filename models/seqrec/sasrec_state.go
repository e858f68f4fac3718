package seqrec

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"

	"seralm/models/snapshot"
	"seralm/models/tensor"
	"seralm/models/tower"
	"seralm/models/vocab"
)

// Names under which the optimiser's state stands beside the weights.
const (
	adamM    = "adam.m."
	adamV    = "adam.v."
	adamStep = "adam.step" // two float32 of 24 bits each: exact up to 2^48
)

// State implements Recommender: the weights. Of a model with knowledge it holds what a
// Base of the same scores has, and what package tower reads.
func (m *SASRec) State() (map[string]snapshot.Tensor, error) {
	out := map[string]snapshot.Tensor{}
	err := m.thread.Do(func(s *tensor.Scope) {
		for name, st := range m.params.Values(s) {
			out[name] = snapshot.Tensor{Shape: st.Shape, Data: st.Value}
		}
		if m.knowledge != nil {
			m.publish(s, out)
		}
	})
	return out, err
}

// FullState implements Checkpointed: weights, knowledge and optimiser.
func (m *SASRec) FullState() (map[string]snapshot.Tensor, error) {
	out := map[string]snapshot.Tensor{}
	err := m.thread.Do(func(s *tensor.Scope) {
		states, step := m.params.Save(s)
		for name, st := range states {
			out[name] = snapshot.Tensor{Shape: st.Shape, Data: st.Value}
			out[adamM+name] = snapshot.Tensor{Shape: st.Shape, Data: st.M}
			out[adamV+name] = snapshot.Tensor{Shape: st.Shape, Data: st.V}
		}
		out[adamStep] = snapshot.Tensor{Shape: []int64{2}, Data: []float32{float32(step >> 24), float32(step & (1<<24 - 1))}}
	})
	if m.knowledge != nil {
		m.knowledge.save(out)
	}
	return out, err
}

// Restore implements Recommender: the weights, with a fresh optimiser. What a model with
// knowledge published is restored as a Base: its ids and texts are one table.
func (m *SASRec) Restore(state map[string]snapshot.Tensor, rows int) error {
	if m.knowledge != nil {
		return errors.New("sasrec: a published item table does not say what of it is the ids: restore it without knowledge (recommender.knowledge_dim 0), or a full state")
	}
	return m.restore(state, rows, false)
}

// RestoreFull implements Checkpointed.
func (m *SASRec) RestoreFull(state map[string]snapshot.Tensor, rows int) error {
	return m.restore(state, rows, true)
}

func (m *SASRec) restore(state map[string]snapshot.Tensor, rows int, full bool) error {
	if _, ok := state[idWeight]; ok && m.knowledge == nil {
		return errors.New("sasrec: the state is that of a model with knowledge, this one has none: set recommender.knowledge_dim as it was")
	}
	was := m.rows
	m.rows = rows
	if t, ok := state[itemTable]; ok && len(t.Shape) == 2 && t.Shape[0] >= vocab.FirstItem && t.Shape[0] < int64(rows) {
		m.rows = int(t.Shape[0]) // the vocabulary has grown since
	}
	states := map[string]tensor.State{}
	take := func(name string, shape ...int64) ([]float32, error) {
		t, ok := state[name]
		if !ok {
			return nil, fmt.Errorf("sasrec: the state lacks %s", name)
		}
		if !slices.Equal(t.Shape, shape) {
			return nil, fmt.Errorf("sasrec: %s is %v in the state, %v in this model", name, t.Shape, shape)
		}
		return t.Data, nil
	}
	var step int64
	var saved savedKnowledge
	err := func() (err error) {
		for _, p := range m.shapes() {
			st := tensor.State{Shape: p.shape}
			if st.Value, err = take(p.name, p.shape...); err != nil {
				return err
			}
			if full {
				if st.M, err = take(adamM+p.name, p.shape...); err != nil {
					return err
				}
				if st.V, err = take(adamV+p.name, p.shape...); err != nil {
					return err
				}
			}
			states[p.name] = st
		}
		if full {
			parts, err := take(adamStep, 2)
			if err != nil {
				return err
			}
			step = int64(parts[0])<<24 | int64(parts[1])
		}
		if m.knowledge != nil {
			saved, err = readKnowledge(take, m.rows, m.knowledge.dim)
		}
		return err
	}()
	if err == nil {
		err = m.thread.Do(func(s *tensor.Scope) {
			m.params.Load(s, states, step)
			if m.knowledge != nil {
				m.knowledge.load(s, saved, m.rows)
			}
		})
	}
	if err != nil {
		m.rows = was
		return err
	}
	return m.Resize(rows)
}

// initial values of a parameter: N(0, 0.02) for tables and matrices, ones for
// LayerNorm weights, zeros for biases (RecBole's _init_weights). The item tower begins
// as the identity of the id, deaf to knowledge.
func initial(seed uint64, p shaped) []float32 {
	switch p.name {
	case idWeight:
		d := int(p.shape[0])
		out := make([]float32, d*d)
		for i := range d {
			out[i*d+i] = 1
		}
		return out
	case tower.Weight:
		return make([]float32, p.shape[0]*p.shape[1])
	}
	if len(p.shape) == 2 {
		rows, width := int(p.shape[0]), int(p.shape[1])
		out := make([]float32, 0, rows*width)
		for r := range rows {
			out = append(out, normalRow(seed, p.name, r, width)...)
		}
		return out
	}
	out := make([]float32, p.shape[0])
	if strings.HasSuffix(p.name, "LayerNorm.weight") {
		for i := range out {
			out[i] = 1
		}
	}
	return out
}

// normalRow is a function of its arguments, so that a table grown row by row is
// the table made at once.
func normalRow(seed uint64, name string, row, width int) []float32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	r := rand.New(rand.NewPCG(mix(seed, uint64(row)), h.Sum64()))
	out := make([]float32, width)
	for i := range out {
		out[i] = float32(r.NormFloat64() * 0.02)
	}
	return out
}

// mix is SplitMix64 of two words.
func mix(a, b uint64) uint64 {
	z := a*0x9e3779b97f4a7c15 + b + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
