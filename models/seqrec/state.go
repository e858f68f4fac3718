package seqrec

import (
	"errors"
	"fmt"
	"slices"

	"seralm/models/snapshot"
	"seralm/models/tensor"
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
func (m *Model) State() (map[string]snapshot.Tensor, error) {
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
func (m *Model) FullState() (map[string]snapshot.Tensor, error) {
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
func (m *Model) Restore(state map[string]snapshot.Tensor, rows int) error {
	if m.knowledge != nil {
		return errors.New(m.hyper.Name + ": a published item table does not say what of it is the ids: restore it without knowledge (recommender.knowledge_dim 0), or a full state")
	}
	return m.restore(state, rows, false)
}

// RestoreFull implements Checkpointed.
func (m *Model) RestoreFull(state map[string]snapshot.Tensor, rows int) error {
	return m.restore(state, rows, true)
}

func (m *Model) restore(state map[string]snapshot.Tensor, rows int, full bool) error {
	if _, ok := state[idWeight]; ok && m.knowledge == nil {
		return errors.New(m.hyper.Name + ": the state is that of a model with knowledge, this one has none: set recommender.knowledge_dim as it was")
	}
	if _, ok := state[historyBias]; ok && !m.opts.HistoryBias {
		return errors.New(m.hyper.Name + ": the state has a history_bias, this model none: set recommender.history_bias as it was")
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
			return nil, fmt.Errorf("%s: the state lacks %s", m.hyper.Name, name)
		}
		if !slices.Equal(t.Shape, shape) {
			return nil, fmt.Errorf("%s: %s is %v in the state, %v in this model", m.hyper.Name, name, t.Shape, shape)
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
