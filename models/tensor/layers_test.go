package tensor

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLayerNormIsItsDefinition(t *testing.T) {
	const n, d, eps = 3, 7, 1e-5
	x, w, b := normal(1, n*d), normal(2, d), normal(3, d)
	want := make([]float64, n*d)
	for i := range n {
		row := x[i*d : i*d+d]
		var mean, variance float64
		for _, v := range row {
			mean += float64(v) / d
		}
		for _, v := range row {
			variance += (float64(v) - mean) * (float64(v) - mean) / d
		}
		for j, v := range row {
			want[i*d+j] = (float64(v)-mean)/math.Sqrt(variance+eps)*float64(w[j]) + float64(b[j])
		}
	}
	do(t, func(s *Scope) {
		y := s.LayerNorm(s.F32(x, n, d), s.F32(w, d), s.F32(b, d), eps)
		require.InDeltaSlice(t, want, s.Values(y), 1e-5)
	})
}

// x Phi(x), not the tanh approximation, which is off by up to 5e-4.
func TestGeluIsTheExactOne(t *testing.T) {
	x := normal(1, 100)
	want := make([]float64, len(x))
	for i, v := range x {
		want[i] = float64(v) * (1 + math.Erf(float64(v)/math.Sqrt2)) / 2
	}
	do(t, func(s *Scope) { require.InDeltaSlice(t, want, s.Values(s.Gelu(s.F32(x, 100))), 1e-6) })
}

const (
	attentionB, attentionH, attentionT, attentionU, attentionD = 2, 2, 3, 5, 4
	queries, keys                                              = attentionB * attentionH * attentionT * attentionD, attentionB * attentionH * attentionU * attentionD
)

func attend(s *Scope, dropout float64) *Tensor {
	return s.Attention(s.F32(normal(1, queries), attentionB, attentionH, attentionT, attentionD),
		s.F32(normal(2, keys), attentionB, attentionH, attentionU, attentionD),
		s.F32(normal(3, keys), attentionB, attentionH, attentionU, attentionD), someMask(s), dropout)
}

func TestAttentionIsItsDefinition(t *testing.T) {
	q, k, v := normal(1, queries), normal(2, keys), normal(3, keys)
	const T, U, d = attentionT, attentionU, attentionD
	do(t, func(s *Scope) {
		mask := s.Bools(someMask(s))
		want := make([]float64, queries)
		for h := range attentionB * attentionH {
			for i := range T {
				var p [U]float64
				sum := 0.0
				for j := range U {
					if !mask[i*U+j] {
						continue
					}
					dot := 0.0
					for c := range d {
						dot += float64(q[(h*T+i)*d+c]) * float64(k[(h*U+j)*d+c])
					}
					p[j] = math.Exp(dot / math.Sqrt(d))
					sum += p[j]
				}
				for j := range U {
					for c := range d {
						want[(h*T+i)*d+c] += p[j] / sum * float64(v[(h*U+j)*d+c])
					}
				}
			}
		}
		y := attend(s, 0)
		require.Equal(t, []int64{attentionB, attentionH, T, d}, y.Shape())
		require.InDeltaSlice(t, want, s.Values(y), 1e-6)
	})
}

// The path with dropout is another computation; where nothing is dropped it must
// give the same, and on average it does in any case.
func TestAttentionWithDropoutIsTheSameOnAverage(t *testing.T) {
	do(t, func(s *Scope) {
		s.Seed(1)
		want := s.Values(attend(s, 0))
		require.InDeltaSlice(t, want, s.Values(attend(s, 1e-9)), 1e-6, "p rounds to 0")
		const draws = 4000
		mean := make([]float64, len(want))
		for range draws {
			s.Sub(func(s *Scope) {
				for i, v := range s.Values(attend(s, 0.3)) {
					mean[i] += float64(v) / draws
				}
			})
		}
		// One draw's standard deviation is below |v| sqrt(p/(1-p)) < 2.
		require.InDeltaSlice(t, want, mean, 5*2/math.Sqrt(draws))
	})
}

func TestSoftmaxIsFloat32WhateverItTakes(t *testing.T) {
	do(t, func(s *Scope) {
		x := s.To(s.F32([]float32{1, 2, 3, -4}, 1, 4), BFloat16)
		for name, y := range map[string]*Tensor{"softmax": s.Softmax(x, 1), "log_softmax": s.Exp(s.LogSoftmax(x, 1))} {
			require.Equal(t, Float32, y.Kind(), name)
			require.InDelta(t, 1, s.Value(s.Sum(y)), 1e-6, name)
		}
		require.Equal(t, Float32, s.Sum(x).Kind())
		require.Equal(t, Float32, s.MeanDim(x, 0, false).Kind())
	})
}
