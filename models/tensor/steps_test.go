package tensor

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDiscardedGradientsDoNotReachTheNextStep(t *testing.T) {
	do(t, func(s *Scope) {
		p, q := NewParams(), NewParams()
		defer p.Free(s)
		defer q.Free(s)
		for _, x := range []*Params{p, q} {
			x.Add(s, "a", []float32{1, 2}, 2)
			x.Add(s, "idle", []float32{3}, 1)
		}
		p.ClearGradients(s) // there are none yet
		s.Grad(func() { s.Backward(s.Sum(s.Square(p.Get("a")))) })
		p.ClearGradients(s)
		require.Zero(t, p.Steps())
		learn(s, p, "a")
		learn(s, q, "a")
		got, _ := p.Save(s)
		want, _ := q.Save(s)
		require.Equal(t, want, got)
		require.EqualValues(t, 1, p.Steps())
	})
}
