package gguf

import (
	"encoding/binary"
	"math"
)

// Every decoder here and in kquant.go reproduces ggml's reference arithmetic bit
// for bit. Where a product is followed by a sum, the product is converted to
// float32 explicitly: without that the compiler may fuse the two on some
// machines, and the same file would give different weights there.

func decodeF32(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

func decodeF16(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = half(src[2*i:])
	}
}

func decodeBF16(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
	}
}

// half reads an IEEE 754 half: exact, subnormals, infinities and NaN included.
func half(b []byte) float32 {
	h := uint32(binary.LittleEndian.Uint16(b))
	sign, exp, frac := h>>15<<31, h>>10&31, h&1023
	switch exp {
	case 0: // frac * 2^-24, which float32 holds exactly; OR keeps the sign of zero
		return math.Float32frombits(sign | math.Float32bits(float32(frac)/(1<<24)))
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// The 32-element blocks hold element i in the low and element i+16 in the high
// four bits of byte i.

// Q4_0: half d, 16 bytes of q; x = d (q - 8).
func decodeQ4_0(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[18:] {
		d, q, y := half(src), src[2:18], dst[:32]
		for i, b := range q {
			y[i] = d * float32(int32(b&15)-8)
			y[i+16] = d * float32(int32(b>>4)-8)
		}
	}
}

// Q4_1: half d, half m, 16 bytes of q; x = d q + m.
func decodeQ4_1(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[20:] {
		d, m, q, y := half(src), half(src[2:]), src[4:20], dst[:32]
		for i, b := range q {
			y[i] = float32(d*float32(b&15)) + m
			y[i+16] = float32(d*float32(b>>4)) + m
		}
	}
}

// Q5_0: half d, 32 fifth bits, 16 bytes of q; x = d (q - 16).
func decodeQ5_0(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[22:] {
		d, h, q, y := half(src), binary.LittleEndian.Uint32(src[2:]), src[6:22], dst[:32]
		for i, b := range q {
			y[i] = d * float32(int32(b&15)+int32(h>>i&1)<<4-16)
			y[i+16] = d * float32(int32(b>>4)+int32(h>>(i+16)&1)<<4-16)
		}
	}
}

// Q5_1: half d, half m, 32 fifth bits, 16 bytes of q; x = d q + m.
func decodeQ5_1(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[24:] {
		d, m, h := half(src), half(src[2:]), binary.LittleEndian.Uint32(src[4:])
		q, y := src[8:24], dst[:32]
		for i, b := range q {
			y[i] = float32(d*float32(int32(b&15)+int32(h>>i&1)<<4)) + m
			y[i+16] = float32(d*float32(int32(b>>4)+int32(h>>(i+16)&1)<<4)) + m
		}
	}
}

// Q8_0: half d, 32 signed bytes q; x = d q.
func decodeQ8_0(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[34:] {
		d, q, y := half(src), src[2:34], dst[:32]
		for i, b := range q {
			y[i] = d * float32(int8(b))
		}
	}
}
