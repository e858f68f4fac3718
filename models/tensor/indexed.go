package tensor

import (
	lib "github.com/sugarme/gotch/libtch"
)

// IndexAddInPlace adds the entries of y along dim to those of x that an int64 vector
// names. It is for numbers that autograd does not follow.
func (s *Scope) IndexAddInPlace(x *Tensor, dim int64, index, y *Tensor) {
	var c lib.Ctensor
	lib.AtgIndexAdd_(&c, x.c, dim, index.c, y.c)
	s.own("index_add_", c, x, index, y)
}
