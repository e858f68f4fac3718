package tensor

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// adamReference is Adam by hand (Kingma and Ba, 2015, algorithm 1; decoupled decay
// as in Loshchilov and Hutter, 2019), in float64.
type adamReference struct {
	w, m, v []float64
	step    int
}

func (a *adamReference) update(gradient []float64, o Adam) (norm float64) {
	for _, g := range gradient {
		norm += g * g
	}
	norm = math.Sqrt(norm)
	scale := 1.0
	if o.ClipNorm > 0 {
		scale = min(1, o.ClipNorm/norm)
	}
	a.step++
	t := float64(a.step)
	for i, g := range gradient {
		g *= scale
		a.m[i] = o.Beta1*a.m[i] + (1-o.Beta1)*g
		a.v[i] = o.Beta2*a.v[i] + (1-o.Beta2)*g*g
		m, v := a.m[i]/(1-math.Pow(o.Beta1, t)), a.v[i]/(1-math.Pow(o.Beta2, t))
		a.w[i] -= o.LearningRate * o.WeightDecay * a.w[i]
		a.w[i] -= o.LearningRate * m / (math.Sqrt(v) + o.Eps)
	}
	return norm
}

// The loss is sum c (w - target)^2 over two parameters: the gradient is known, large
// at first and small at last, so that clipping is on and then off.
func TestAdamIsTheReference(t *testing.T) {
	const n, steps = 10, 50
	plain := DefaultAdam(0.1)
	clipped, decayed, all := plain, plain, plain
	clipped.ClipNorm, decayed.WeightDecay = 5, 0.1
	all.ClipNorm, all.WeightDecay, all.Beta1, all.Beta2, all.Eps = 5, 0.05, 0.8, 0.99, 1e-6
	target, c := normal(2, n), []float32{4, 3, 2, 1, .5, .25, 1, 2, 3, 4}
	for name, o := range map[string]Adam{"plain": plain, "clipped": clipped, "decayed": decayed, "all": all, "all, on a device": all} {
		do(t, func(s *Scope) {
			step := (*Params).Step
			if name == "all, on a device" { // by libtorch's operations, which are told apart by that alone
				step = func(p *Params, s *Scope, o Adam) float64 {
					s.thread.device = 0
					defer func() { s.thread.device = -1 }()
					return p.Step(s, o)
				}
			}
			ref := &adamReference{w: make([]float64, n), m: make([]float64, n), v: make([]float64, n)}
			initial := normal(1, n)
			p := NewParams()
			defer p.Free(s)
			p.Add(s, "b", initial[4:], 3, 2)
			p.Add(s, "a", initial[:4], 4)
			for i, v := range initial {
				ref.w[i] = float64(v)
			}
			for i := range steps {
				gradient := make([]float64, n)
				for k := range gradient {
					gradient[k] = 2 * float64(c[k]) * (ref.w[k] - float64(target[k]))
				}
				want := ref.update(gradient, o)
				var norm float64
				s.Sub(func(s *Scope) {
					s.Grad(func() {
						w := s.Cat(0, p.Get("a"), s.View(p.Get("b"), 6))
						off := s.Minus(w, s.F32(target, n))
						s.Backward(s.Sum(s.Mul(s.F32(c, n), s.Square(off))))
					})
					norm = step(p, s, o)
				})
				require.InEpsilon(t, want, norm, 1e-3, "%s, step %d", name, i)
				got := append(s.Values(p.Get("a")), s.Values(p.Get("b"))...)
				require.InDeltaSlice(t, ref.w, got, 1e-4, "%s, step %d", name, i)
			}
		})
	}
}

// learn makes one step towards larger weights of the named parameter.
func learn(s *Scope, p *Params, name string) {
	s.Sub(func(s *Scope) {
		s.Grad(func() { s.Backward(s.Sum(s.Exp(p.Get(name)))) })
		p.Step(s, DefaultAdam(0.01))
	})
}

func TestParamsComeBackToTheBit(t *testing.T) {
	do(t, func(s *Scope) {
		p := NewParams()
		defer p.Free(s)
		p.Add(s, "table", normal(1, 12), 4, 3)
		p.Add(s, "idle", normal(2, 2), 2)
		for range 5 {
			learn(s, p, "table")
		}
		states, step := p.Save(s)
		require.EqualValues(t, 5, step)
		require.Equal(t, State{Shape: []int64{2}, Value: normal(2, 2), M: make([]float32, 2), V: make([]float32, 2)}, states["idle"])

		q := NewParams()
		defer q.Free(s)
		q.Add(s, "something else", []float32{1}, 1)
		q.Load(s, states, step)
		require.PanicsWithValue(t, `BUG: no parameter "something else"`, func() { q.Get("something else") })
		for range 3 {
			learn(s, p, "table")
			learn(s, q, "table")
		}
		wantStates, wantStep := p.Save(s)
		gotStates, gotStep := q.Save(s)
		require.Equal(t, wantStates, gotStates)
		require.Equal(t, wantStep, gotStep)

		q.Load(s, q.Values(s), 0) // weights alone: a fresh optimiser
		fresh, step := q.Save(s)
		require.Zero(t, step)
		require.Equal(t, wantStates["table"].Value, fresh["table"].Value)
		require.Equal(t, make([]float32, 12), fresh["table"].M)
	})
}

// Within the spare capacity and beyond it.
func TestATableThatGrowsKeepsItsMoments(t *testing.T) {
	thread := start(t)
	require.NoError(t, thread.Do(func(s *Scope) {
		p := NewParams()
		p.Add(s, "table", normal(1, 6), 3, 2)
		learn(s, p, "table")
		live := thread.Live()
		for rows, seed := int64(3), uint64(2); rows < 40; seed++ {
			more := int64(seed % 5)
			before, _ := p.Save(s)
			fresh := normal(seed, int(2*more))
			s.Sub(func(s *Scope) { p.Grow(s, "table", fresh) })
			rows += more
			after, _ := p.Save(s)
			zeros := make([]float32, 2*more)
			require.Equal(t, State{
				Shape: []int64{rows, 2},
				Value: append(before["table"].Value, fresh...),
				M:     append(before["table"].M, zeros...),
				V:     append(before["table"].V, zeros...),
			}, after["table"])
			require.Equal(t, live, thread.Live(), "the old tensors are freed")
			learn(s, p, "table") // the grown table is a leaf that learns, new rows too
			learnt, _ := p.Save(s)
			for i := range learnt["table"].Value {
				require.NotEqual(t, after["table"].Value[i], learnt["table"].Value[i])
			}
		}
		p.Free(s)
	}))
	require.Zero(t, thread.Live())
}

func TestAStepThatIsNotFiniteIsNotTaken(t *testing.T) {
	do(t, func(s *Scope) {
		p := NewParams()
		defer p.Free(s)
		p.Add(s, "a", []float32{1, 2}, 2)
		p.Add(s, "b", []float32{3}, 1)
		learn(s, p, "a")
		before, step := p.Save(s)
		s.Grad(func() { s.Backward(s.Add(s.Sum(p.Get("a")), s.Sum(p.Get("b")))) })
		s.MulScalarInPlace(s.Gradient(p.Get("b")), math.NaN())
		require.True(t, math.IsNaN(p.Step(s, DefaultAdam(0.1))))
		after, stepAfter := p.Save(s)
		require.Equal(t, before, after)
		require.Equal(t, step, stepAfter)
		require.Equal(t, []float32{0, 0}, s.Values(s.Gradient(p.Get("a"))), "the bad gradient must not reach the next step")
	})
}

func TestAStepWithoutGradientsIsNone(t *testing.T) {
	do(t, func(s *Scope) {
		p := NewParams()
		defer p.Free(s)
		p.Add(s, "a", []float32{1}, 1)
		require.Zero(t, p.Step(s, DefaultAdam(0.1)))
		_, step := p.Save(s)
		require.Zero(t, step)
		require.PanicsWithValue(t, `BUG: parameter "a" added twice`, func() { p.Add(s, "a", []float32{1}, 1) })
		require.PanicsWithValue(t, `BUG: no parameter "b"`, func() { p.Get("b") })
	})
}

func TestGradientsOfAStepThatIsNotTakenAreForgotten(t *testing.T) {
	do(t, func(s *Scope) {
		p := NewParams()
		defer p.Free(s)
		p.Add(s, "reached", []float32{3}, 1)
		p.Add(s, "not reached", []float32{3}, 1)
		backward := func() { s.Grad(func() { s.Backward(s.Sum(s.Square(p.Get("reached")))) }) }
		backward()
		p.ClearGradients(s)
		require.Zero(t, p.Steps())
		backward()
		require.InDelta(t, 6, p.Step(s, DefaultAdam(0.1)), 1e-6)
		require.Equal(t, int64(1), p.Steps())
	})
}
