package tensor

// Steps counts the updates made.
func (p *Params) Steps() int64 { return p.step }

// Discard clears the gradients that Backward left, without an update: those of a step
// that was given up would reach the next one.
func (p *Params) Discard(s *Scope) {
	for _, q := range p.byName {
		s.Sub(func(s *Scope) {
			if g := s.Gradient(q.value); g != nil {
				s.ZeroInPlace(g)
			}
		})
	}
}
