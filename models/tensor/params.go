package tensor

import (
	"fmt"
	"sort"
)

// Params are the trainable tensors of a model and their Adam state. They outlive
// scopes: Free ends them. Everything here runs inside Thread.Do.
type Params struct {
	byName map[string]*param
	names  []string // sorted: the order of sums, and so their last bits
	step   int64
}

// param is one tensor. A table that grows has spare capacity: value, m and v are
// then views of the first rows of their stores.
type param struct {
	shape       []int64
	stores      [3]*Tensor // value, first and second moment
	value, m, v *Tensor
}

// NewParams returns an empty set.
func NewParams() *Params {
	return &Params{byName: map[string]*param{}}
}

// Add makes a parameter of the values.
func (p *Params) Add(s *Scope, name string, values []float32, shape ...int64) {
	if _, ok := p.byName[name]; ok {
		panic(fmt.Sprintf("BUG: parameter %q added twice", name))
	}
	q := &param{shape: shape}
	p.byName[name] = q
	p.names = append(p.names, name)
	sort.Strings(p.names)
	p.allocate(s, q, shape[0])
	s.CopyInPlace(q.value, s.F32(values, shape...))
}

// allocate gives q stores of the given capacity of rows, keeping what it holds.
func (p *Params) allocate(s *Scope, q *param, capacity int64) {
	full := append([]int64{capacity}, q.shape[1:]...)
	old := *q
	for i, view := range []*Tensor{old.value, old.m, old.v} {
		store := s.Keep(s.Zeros(Float32, full...))
		if view != nil {
			s.CopyInPlace(s.Narrow(store, 0, 0, view.Shape()[0]), view)
		}
		q.stores[i] = store
	}
	p.views(s, q)
	for i, view := range []*Tensor{old.value, old.m, old.v} {
		s.Free(view)
		s.Free(old.stores[i])
	}
}

// views renews the tensors that the model computes with. The value is a leaf of
// autograd that shares the store's memory.
func (p *Params) views(s *Scope, q *param) {
	view := func(store *Tensor) *Tensor { return s.Narrow(store, 0, 0, q.shape[0]) }
	q.value, q.m, q.v = s.Keep(s.Leaf(view(q.stores[0]))), s.Keep(view(q.stores[1])), s.Keep(view(q.stores[2]))
}

// Get returns the parameter to compute with. It is valid until Grow or Free.
func (p *Params) Get(name string) *Tensor { return p.must(name).value }

func (p *Params) must(name string) *param {
	q, ok := p.byName[name]
	if !ok {
		panic(fmt.Sprintf("BUG: no parameter %q", name))
	}
	return q
}

// Grow appends rows to a table: capacity doubles when it is spent, so that a
// vocabulary of n costs O(n) copies in all. Moments of new rows are zero; as Adam's
// correction for that goes by the steps of all, their first updates are up to six times as
// large as its rate. So are those of a row of the beginning that comes up late.
func (p *Params) Grow(s *Scope, name string, rows []float32) {
	q := p.must(name)
	width := int64(1)
	for _, d := range q.shape[1:] {
		width *= d
	}
	from, more := q.shape[0], int64(len(rows))/width
	if more == 0 {
		return
	}
	if capacity := q.stores[0].Shape()[0]; from+more > capacity {
		p.allocate(s, q, max(2*capacity, from+more))
	}
	q.shape = append([]int64{from + more}, q.shape[1:]...)
	for _, old := range []*Tensor{q.value, q.m, q.v} {
		s.Free(old)
	}
	p.views(s, q)
	s.CopyInPlace(s.Narrow(q.stores[0], 0, from, more), s.F32(rows, append([]int64{more}, q.shape[1:]...)...))
}

// Renew replaces rows of a table by the values, one row after another. Their moments
// are zero again.
func (p *Params) Renew(s *Scope, name string, rows []int32, values []float32) {
	q := p.must(name)
	width := len(values) / len(rows)
	for i, r := range rows {
		s.Sub(func(s *Scope) {
			row := s.F32(values[i*width:(i+1)*width], append([]int64{1}, q.shape[1:]...)...)
			s.CopyInPlace(s.Narrow(q.stores[0], 0, int64(r), 1), row)
			s.ZeroInPlace(s.Narrow(q.m, 0, int64(r), 1))
			s.ZeroInPlace(s.Narrow(q.v, 0, int64(r), 1))
		})
	}
}

// Steps counts the updates made.
func (p *Params) Steps() int64 { return p.step }

// ClearGradients forgets what Backward left: of a step that is not to be taken.
func (p *Params) ClearGradients(s *Scope) {
	for _, name := range p.names {
		if g := s.Gradient(p.byName[name].value); g != nil {
			s.ZeroInPlace(g)
		}
	}
}

// Free ends the parameters.
func (p *Params) Free(s *Scope) {
	for _, q := range p.byName {
		for _, t := range append([]*Tensor{q.value, q.m, q.v}, q.stores[:]...) {
			s.Free(t)
		}
	}
	p.byName, p.names = map[string]*param{}, nil
}

// State of one parameter, row major.
type State struct {
	Shape       []int64
	Value, M, V []float32
}

// Save copies everything out; step counts the updates made.
func (p *Params) Save(s *Scope) (states map[string]State, step int64) {
	states = map[string]State{}
	for _, name := range p.names {
		q := p.byName[name]
		states[name] = State{Shape: q.shape, Value: s.Values(q.value), M: s.Values(q.m), V: s.Values(q.v)}
	}
	return states, p.step
}

// Values copies the parameters out without the optimiser's state.
func (p *Params) Values(s *Scope) map[string]State {
	states := map[string]State{}
	for _, name := range p.names {
		q := p.byName[name]
		states[name] = State{Shape: q.shape, Value: s.Values(q.value)}
	}
	return states
}

// Load replaces everything. A state without moments gets zero ones.
func (p *Params) Load(s *Scope, states map[string]State, step int64) {
	p.Free(s)
	for name, st := range states {
		p.Add(s, name, st.Value, st.Shape...)
		q := p.byName[name]
		if st.M != nil {
			s.CopyInPlace(q.m, s.F32(st.M, st.Shape...))
			s.CopyInPlace(q.v, s.F32(st.V, st.Shape...))
		}
	}
	p.step = step
}
