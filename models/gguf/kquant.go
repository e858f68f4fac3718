package gguf

// The k-quants store 256 elements together, with quantised scales of their own
// for sub-blocks of 32 (Q4_K, Q5_K) or 16 (Q6_K) elements.

// subScales unpacks the j-th of the eight 6-bit (scale, minimum) pairs that Q4_K
// and Q5_K keep in 12 bytes: four pairs whole, four with their upper two bits in
// the top bits of the first four.
func subScales(s []byte, j int) (scale, minimum float32) {
	if j < 4 {
		return float32(s[j] & 63), float32(s[j+4] & 63)
	}
	return float32(s[j+4]&15 | s[j-4]>>6<<4), float32(s[j+4]>>4 | s[j]>>6<<4)
}

// Q4_K: half d, half dmin, 12 bytes of scales, 128 bytes of q. Sub-blocks 2k and
// 2k+1 are the low and high four bits of the k-th 32 bytes. x = d s q - dmin m.
func decodeQ4_K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[144:] {
		d, dmin, scales, q := half(src), half(src[2:]), src[4:16], src[16:144]
		for j := range 8 {
			s, m := subScales(scales, j)
			ds, dm := d*s, dmin*m
			y, shift := dst[32*j:32*j+32], 4*(j&1)
			for i, b := range q[j/2*32 : j/2*32+32] {
				y[i] = float32(ds*float32(b>>shift&15)) - dm
			}
		}
	}
}

// Q5_K: as Q4_K, with 32 bytes of fifth bits before q: bit j of byte i belongs to
// element i of sub-block j.
func decodeQ5_K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[176:] {
		d, dmin, scales, high, q := half(src), half(src[2:]), src[4:16], src[16:48], src[48:176]
		for j := range 8 {
			s, m := subScales(scales, j)
			ds, dm := d*s, dmin*m
			y, shift := dst[32*j:32*j+32], 4*(j&1)
			for i, b := range q[j/2*32 : j/2*32+32] {
				y[i] = float32(ds*float32(b>>shift&15|high[i]>>j&1<<4)) - dm
			}
		}
	}
}

// Q6_K: 128 bytes of low four bits, 64 bytes of upper two, 16 signed scales, half
// d; in each half of the block, the k-th 32 elements take their low bits from
// bytes k%2*32.. (nibble k/2) and their upper bits from bit pair k. x = d s (q - 32).
func decodeQ6_K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[210:] {
		low, high, scales, d := src[:128], src[128:192], src[192:208], half(src[208:])
		for n := range 2 {
			for k := range 4 {
				y, ql := dst[n*128+k*32:][:32], low[n*64+k%2*32:][:32]
				qh, s := high[n*32:][:32], scales[n*8+k*2:][:2]
				for i, b := range ql {
					ds := d * float32(int8(s[i/16]))
					y[i] = ds * float32(int32(b>>(k/2*4)&15|qh[i]>>(2*k)&3<<4)-32)
				}
			}
		}
	}
}
