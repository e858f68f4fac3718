package llm

import "seralm/models/tensor"

// choose takes one token per row of the logits [B, V], given a random number for
// each, and returns their log-probabilities under the policy. It overwrites the
// logits: at 49,152 tokens every copy of them costs more than a layer's arithmetic.
func choose(s *tensor.Scope, logits *tensor.Tensor, o Sampling, u []float32) (tokens []int64, logProbs []float32) {
	if o.Temperature > 0 && o.Temperature != 1 {
		s.MulScalarInPlace(logits, 1/o.Temperature)
	}
	p := s.Softmax(logits, 1)
	var chosen *tensor.Tensor
	switch {
	case o.Temperature == 0:
		_, chosen = s.MaxDim(logits, 1, false)
	case o.TopP > 0 && o.TopP < 1:
		chosen = nucleus(s, p, o.TopP, u)
	default:
		chosen = s.Pick(p, u)
	}
	rows := int64(len(u))
	return s.Int64s(chosen), s.Values(s.Log(s.Gather(p, 1, s.View(chosen, rows, 1))))
}

// few is how many tokens a nucleus nearly always is within: to sort all of a vocabulary
// of 49,152 takes longer than the model does.
const few = 512

// nucleus picks among the fewest most probable tokens whose probabilities sum to at
// least topP (Holtzman et al. 2020).
func nucleus(s *tensor.Scope, p *tensor.Tensor, topP float64, u []float32) *tensor.Tensor {
	sorted, tokens := s.TopK(p, min(few, p.Dim(1)), 1)
	at := within(s, sorted, topP, u)
	out := s.Int64s(s.Gather(tokens, 1, s.View(at, -1, 1)))
	for b, sum := range s.Values(s.SumDim(sorted, 1, false)) {
		if sum < float32(topP)+1e-3 { // a wide one
			s.Sub(func(s *tensor.Scope) {
				sorted, tokens := s.SortDescending(s.Narrow(p, 0, int64(b), 1), 1)
				at := within(s, sorted, topP, u[b:b+1])
				out[b] = s.Int64s(s.Gather(tokens, 1, s.View(at, 1, 1)))[0]
			})
		}
	}
	return s.I64(out, int64(len(out)))
}

// within picks a column of each row of descending probabilities, within its nucleus.
func within(s *tensor.Scope, sorted *tensor.Tensor, topP float64, u []float32) *tensor.Tensor {
	// A token is in when those before it sum to less than topP; the first always is.
	before := s.Minus(s.Cumsum(sorted, 1), sorted)
	out := s.Not(s.Greater(s.Full(topP, tensor.Float64, 1), before))
	return s.Pick(s.MaskedFill(sorted, out, 0), u)
}

// draws returns a number in [0, 1) for each sequence: a function of the seed, of the
// sequence's place in the list of prompts, and of the token's in the sequence.
func draws(seed uint64, which []int, step int) []float32 {
	u := make([]float32, len(which))
	for b, w := range which {
		u[b] = float32(mix(mix(seed^mix(uint64(w)))^uint64(step))>>40) / (1 << 24)
	}
	return u
}

// mix is the finaliser of SplitMix64 (Steele et al. 2014): every bit of the result
// depends on every bit of x.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
