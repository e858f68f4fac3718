package encoder

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"seralm/models/snapshot"
	"seralm/models/tensor"
)

// Names of what stands beside the trained weights in a state.
const (
	adamM = "adam.m."
	adamV = "adam.v."
	// steps is followed by whose state it is: "encoder.steps.last.0123456789abcdef". Two
	// float32 of 24 bits each: exact up to 2^48.
	steps = "encoder.steps."
)

// owner tells states of other encoders, or of other weights of this one, from its own.
func (e *Encoder) owner() string { return e.train + "." + e.files }

// FullState returns the trained weights and the optimiser's state: with them and its
// files an encoder goes on to the bit as if it had not stopped (on one thread).
func (e *Encoder) FullState() (map[string]snapshot.Tensor, error) {
	if e.train == "" {
		return nil, errFrozen
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	out := map[string]snapshot.Tensor{}
	err := e.thread.Do(func(s *tensor.Scope) {
		states, n := e.params.Save(s)
		for name, st := range states {
			out[name] = snapshot.Tensor{Shape: st.Shape, Data: st.Value}
			out[adamM+name] = snapshot.Tensor{Shape: st.Shape, Data: st.M}
			out[adamV+name] = snapshot.Tensor{Shape: st.Shape, Data: st.V}
		}
		out[steps+e.owner()] = snapshot.Tensor{Shape: []int64{2}, Data: []float32{float32(n >> 24), float32(n & (1<<24 - 1))}}
	})
	return out, err
}

// RestoreFull is the inverse of FullState. A state that is refused changes nothing.
func (e *Encoder) RestoreFull(state map[string]snapshot.Tensor) error {
	if e.train == "" {
		return errFrozen
	}
	for _, name := range slices.Sorted(maps.Keys(state)) {
		if owner, ok := strings.CutPrefix(name, steps); ok && owner != e.owner() {
			return fmt.Errorf("encoder: the state is that of %s, this is %s: what is trained, and of which files", owner, e.owner())
		}
	}
	take := func(name string, shape ...int64) ([]float32, error) {
		t, ok := state[name]
		if !ok {
			return nil, fmt.Errorf("encoder: the state lacks %s", name)
		}
		size := int64(1)
		for _, d := range shape {
			size *= d
		}
		if !slices.Equal(t.Shape, shape) || int64(len(t.Data)) != size {
			return nil, fmt.Errorf("encoder: %s is %v, %d numbers, in the state, %v in this model", name, t.Shape, len(t.Data), shape)
		}
		return t.Data, nil
	}
	n, err := take(steps+e.owner(), 2)
	if err != nil {
		return err
	}
	states := map[string]tensor.State{}
	for name, shape := range e.config.tensors() {
		if !e.trains(name) {
			continue
		}
		st := tensor.State{Shape: shape}
		for prefix, to := range map[string]*[]float32{"": &st.Value, adamM: &st.M, adamV: &st.V} {
			if *to, err = take(prefix+name, shape...); err != nil {
				return err
			}
		}
		states[name] = st
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.thread.Do(func(s *tensor.Scope) { e.params.Load(s, states, int64(n[0])<<24|int64(n[1])) })
}
