package tensor

import (
	"fmt"
	"math"
	"unsafe"
)

// random is the scope's source of randomness: SplitMix64 (Steele et al. 2014).
//
// libtorch's own generator is not used. It belongs to the process, so two jobs
// would draw from each other's, and its state cannot be saved through gotch. This
// one is a function of the seed that the job gives for its step, on every device.
type random struct {
	state  uint64
	seeded bool
}

func (r *random) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// uniforms draws n numbers from [0, 1) of 24 bits each.
func (r *random) uniforms(n int) []float32 {
	u := make([]float32, n)
	for i := range u {
		u[i] = float32(r.next()>>40) / (1 << 24)
	}
	return u
}

// Seed makes what is drawn from here on a function of the seed. It holds for the
// scope given to Do and those within.
func (s *Scope) Seed(seed uint64) { *s.random = random{seed, true} }

func (s *Scope) draw(op string) *random {
	if !s.random.seeded {
		panic(fmt.Sprintf("BUG: %s before Seed: it could not be repeated", op))
	}
	return s.random
}

// Uniform draws from [0, 1), float32.
func (s *Scope) Uniform(shape ...int64) *Tensor {
	return s.F32(s.draw("Uniform").uniforms(int(elements(shape))), shape...)
}

// Dropout zeroes elements with probability p and scales the rest by 1/(1-p). p is
// rounded to a multiple of 2^-16, and the scale is that of the rounded one.
func (s *Scope) Dropout(x *Tensor, p float64) *Tensor {
	if p < 0 || p >= 1 {
		panic(fmt.Sprintf("BUG: dropout probability %v", p))
	}
	if p == 0 {
		return x
	}
	mask := s.dropoutMask(x.Shape(), p)
	if k := x.Kind(); k != Float32 {
		mask = s.To(mask, k)
	}
	return s.Mul(x, mask)
}

func (s *Scope) dropoutMask(shape []int64, p float64) *Tensor {
	r := s.draw("Dropout")
	n := int(elements(shape))
	if cap(s.thread.scratch) < n+3 {
		s.thread.scratch = make([]float32, n+3)
	}
	mask := s.thread.scratch[:n+3]
	drop := int64(math.Round(p * (1 << 16)))
	scale := math.Float32bits(float32((1 << 16) / float64((1<<16)-drop)))
	// Four elements of 16 bits a draw, without a branch: an element is dropped when
	// its bits are below drop, and the sign of the difference is its mask.
	for i := 0; i < n; i += 4 {
		u := r.next()
		four := mask[i : i+4 : i+4]
		four[0] = math.Float32frombits(scale &^ uint32((int64(u&0xffff)-drop)>>63))
		four[1] = math.Float32frombits(scale &^ uint32((int64(u>>16&0xffff)-drop)>>63))
		four[2] = math.Float32frombits(scale &^ uint32((int64(u>>32&0xffff)-drop)>>63))
		four[3] = math.Float32frombits(scale &^ uint32((int64(u>>48)-drop)>>63))
	}
	return s.fromData("dropout", unsafe.Pointer(&mask[0]), n, shape, 4, Float32)
}
