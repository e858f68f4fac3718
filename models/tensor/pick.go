package tensor

import (
	"fmt"

	lib "github.com/sugarme/gotch/libtch"
)

// Cumsum is the running sum along dim, float64.
func (s *Scope) Cumsum(x *Tensor, dim int64) *Tensor {
	var c lib.Ctensor
	lib.AtgCumsum(&c, x.c, dim, int32(Float64))
	return s.own("cumsum", c, x)
}

// SortDescending orders the entries along dim, largest first, and says where they
// were.
func (s *Scope) SortDescending(x *Tensor, dim int64) (values, indices *Tensor) {
	var c [2]lib.Ctensor
	lib.AtgSort(&c[0], x.c, dim, 1)
	return s.own("sort", c[0], x), s.own("sort", c[1], x)
}

// Pick draws one class per row of the weights p [B, V], which are not negative and
// need not sum to one, with randomness that the caller brings: u is one number in
// [0, 1) per row. Class c is picked with probability p[c] / sum(p), and a row's
// class depends on nothing but the row and its u. The result is int64 [B].
func (s *Scope) Pick(p *Tensor, u []float32) *Tensor {
	rows := int64(len(u))
	if p.Dim(0) != rows {
		panic(opError("pick", fmt.Sprintf("%d random numbers for its rows", rows), p))
	}
	c := s.Cumsum(p, 1)
	// u is a share of what the weights sum to, so it stays below the last entry, and
	// the class found has a weight above zero.
	total := s.Narrow(c, 1, c.Dim(1)-1, 1)
	at := s.Mul(s.To(s.F32(u, rows, 1), Float64), total)
	var index lib.Ctensor
	lib.AtgSearchsorted(&index, c.c, at.c, 0, 1, "right", nil)
	return s.View(s.own("searchsorted", index, c, at), rows)
}
