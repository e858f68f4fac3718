package llm

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"seralm/models/snapshot"
	"seralm/models/tensor"
)

// Names of what stands beside the adapter's tensors. Whole numbers are pairs of float32
// of 24 bits each.
const (
	stateAlpha = "lora.alpha"
	stateModel = "lora.model" // the fingerprint of the weights that it was learnt on
	adamM      = "adam.m."
	adamV      = "adam.v."
	adamStep   = "adam.step"
)

// State returns the adapter: what is needed to sample.
func (p *Policy) State() (map[string]snapshot.Tensor, error) { return p.state(false) }

// FullState returns the adapter and its optimiser: what is needed to go on to the bit as
// if training had not stopped.
func (p *Policy) FullState() (map[string]snapshot.Tensor, error) { return p.state(true) }

func (p *Policy) state(full bool) (map[string]snapshot.Tensor, error) {
	out := map[string]snapshot.Tensor{
		stateAlpha: {Shape: []int64{1}, Data: []float32{float32(p.lora.Alpha)}},
		stateModel: p.model.identity(),
	}
	err := p.model.thread.Do(func(s *tensor.Scope) {
		states, step := p.params.Save(s)
		for name, st := range states {
			out[name] = snapshot.Tensor{Shape: st.Shape, Data: st.Value}
			if full {
				out[adamM+name] = snapshot.Tensor{Shape: st.Shape, Data: st.M}
				out[adamV+name] = snapshot.Tensor{Shape: st.Shape, Data: st.V}
			}
		}
		if full {
			out[adamStep] = pair(uint64(step))
		}
	})
	return out, err
}

// identity is 48 bits of the model's fingerprint.
func (m *Model) identity() snapshot.Tensor { return pair(m.fingerprint >> 16) }

func pair(n uint64) snapshot.Tensor {
	return snapshot.Tensor{Shape: []int64{2}, Data: []float32{float32(n >> 24 & (1<<24 - 1)), float32(n & (1<<24 - 1))}}
}

// Restore is the inverse of State; the optimiser begins anew.
func (p *Policy) Restore(state map[string]snapshot.Tensor) error { return p.restore(state, false) }

// RestoreFull is the inverse of FullState.
func (p *Policy) RestoreFull(state map[string]snapshot.Tensor) error { return p.restore(state, true) }

// restore takes a state that is this adapter's in every respect, or nothing of it.
func (p *Policy) restore(state map[string]snapshot.Tensor, full bool) error {
	states, step, err := p.read(state, full)
	if err != nil {
		return fmt.Errorf("restoring an adapter: %w", err)
	}
	return p.model.thread.Do(func(s *tensor.Scope) { p.params.Load(s, states, step) })
}

func (p *Policy) read(state map[string]snapshot.Tensor, full bool) (map[string]tensor.State, int64, error) {
	var err error
	take := func(name string, shape ...int64) []float32 {
		t, ok := state[name]
		switch bad := slices.IndexFunc(t.Data, func(v float32) bool { return !finite(float64(v)) }); {
		case err != nil: // the first is told
		case !ok:
			err = fmt.Errorf("it lacks %s: it is of other targets, or of another model", name)
		case !slices.Equal(t.Shape, shape):
			err = fmt.Errorf("%s is %v in it, %v here: it is of another rank, or of another model", name, t.Shape, shape)
		case int64(len(t.Data)) != size(shape):
			err = fmt.Errorf("%s has %d values for shape %v", name, len(t.Data), shape)
		case bad >= 0:
			err = fmt.Errorf("%s: value %d is %v", name, bad, t.Data[bad])
		}
		return t.Data
	}
	states := map[string]tensor.State{}
	for _, t := range p.tensors() {
		st := tensor.State{Shape: t.shape, Value: take(t.name, t.shape...)}
		if full {
			st.M, st.V = take(adamM+t.name, t.shape...), take(adamV+t.name, t.shape...)
		}
		states[t.name] = st
	}
	for _, name := range slices.Sorted(maps.Keys(state)) {
		if _, ok := states[name]; !ok && strings.HasPrefix(name, adapterPrefix) && err == nil {
			err = fmt.Errorf("it has %s: the targets here are %s", name, strings.Join(p.lora.Targets, ", "))
		}
	}
	if alpha := take(stateAlpha, 1); err == nil && alpha[0] != float32(p.lora.Alpha) {
		err = fmt.Errorf("its alpha is %v, here it is %v", alpha[0], p.lora.Alpha)
	}
	if of := take(stateModel, 2); err == nil && !slices.Equal(of, p.model.identity().Data) {
		err = errors.New("it was trained on other weights than this model's")
	}
	var step int64
	if full {
		if parts := take(adamStep, 2); err == nil {
			step = int64(parts[0])<<24 | int64(parts[1])
		}
	}
	return states, step, err
}

func size(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return n
}
