package tensor

// Only runs f with a scope of its own, as Sub does, and keeps nothing of it but the
// result, which is then of s: for the layers of a deep model, whose intermediate
// tensors would otherwise live until the end of the pass.
func (s *Scope) Only(f func(*Scope) *Tensor) (result *Tensor) {
	s.Sub(func(in *Scope) { result = in.Keep(f(in)) })
	s.owned = append(s.owned, result)
	return result
}
