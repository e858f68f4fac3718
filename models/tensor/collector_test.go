package tensor

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

// gotch's own tensors are freed by finalizer, at times while libtorch computes with
// them. Ours must not be: a collector that never rests, and steps that make every
// kind of tensor there is, kept ones and failed operations included.
func TestStepsUnderACollectorThatNeverRests(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(2))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	}()
	defer func() { close(stop); <-stopped }()

	thread := start(t)
	p := NewParams()
	require.NoError(t, thread.Do(func(s *Scope) {
		p.Add(s, "table", normal(1, 40*8), 40, 8)
		p.Add(s, "w", normal(2, 8*8), 8, 8)
		p.Add(s, "norm", normal(3, 8), 8)
	}))
	step := func(s *Scope, i uint64) {
		s.Seed(i)
		ids := make([]int64, 4*6)
		for j := range ids {
			ids[j] = int64(i*7+uint64(j)*13) % 40
		}
		s.Grad(func() {
			x := s.Embedding(p.Get("table"), s.I64(ids, 4, 6))
			x = s.LayerNorm(s.Dropout(x, 0.2), p.Get("norm"), p.Get("norm"), 1e-5)
			heads := s.Transpose(s.View(s.Linear(x, p.Get("w"), nil), 4, 6, 2, 4), 1, 2)
			mask := make([]bool, 36)
			for j := range mask {
				mask[j] = j%6 <= j/6
			}
			y := s.View(s.Transpose(s.Attention(heads, heads, heads, s.Bool(mask, 6, 6), 0.1), 1, 2), 24, 8)
			logits := s.Matmul(s.Gelu(y), s.Transpose(p.Get("table"), 0, 1))
			s.Backward(s.Neg(s.Mean(s.Gather(s.LogSoftmax(logits, 1), 1, s.I64(ids, 24, 1)))))
		})
		p.Step(s, DefaultAdam(1e-3))
	}
	live := thread.Live()
	for i := range uint64(300) {
		require.NoError(t, thread.Do(func(s *Scope) { step(s, i) }))
		if i%10 == 0 {
			var op *OpError
			require.ErrorAs(t, thread.Do(func(s *Scope) { s.Matmul(p.Get("w"), s.Zeros(Float32, 3, 3)) }), &op)
		}
		require.Equal(t, live, thread.Live(), "after step %d", i)
	}
	require.NoError(t, thread.Do(func(s *Scope) {
		require.Less(t, s.Value(s.Norm(p.Get("table"))), math.Inf(1), "or no number")
		p.Free(s)
	}))
}
