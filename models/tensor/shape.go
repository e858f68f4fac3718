package tensor

import (
	lib "github.com/sugarme/gotch/libtch"
)

// Makers.

func (s *Scope) Zeros(k Kind, shape ...int64) *Tensor {
	var c lib.Ctensor
	lib.AtgZeros(&c, dims(shape), len(shape), int32(k), s.thread.device)
	return s.own("zeros", c)
}

func (s *Scope) Full(v float64, k Kind, shape ...int64) *Tensor {
	var c lib.Ctensor
	f := lib.AtsFloat(v)
	lib.AtgFull(&c, dims(shape), len(shape), f, int32(k), s.thread.device)
	lib.AtsFree(f)
	return s.own("full", c)
}

// To converts the element type.
func (s *Scope) To(x *Tensor, k Kind) *Tensor {
	var c lib.Ctensor
	lib.AtgTotype(&c, x.c, int32(k))
	return s.own("to_kind", c, x)
}

// Detach is x without its history, sharing its memory.
func (s *Scope) Detach(x *Tensor) *Tensor { return s.unary("detach", lib.AtgDetach, x) }

// Shapes. None but View, Contiguous, Cat and Pad copies, and View only if it must.

func (s *Scope) View(x *Tensor, shape ...int64) *Tensor {
	var c lib.Ctensor
	lib.AtgReshape(&c, x.c, dims(shape), len(shape))
	return s.own("reshape", c, x)
}

// Expand repeats dimensions of size 1; -1 leaves a dimension as it is.
func (s *Scope) Expand(x *Tensor, shape ...int64) *Tensor {
	var c lib.Ctensor
	lib.AtgExpand(&c, x.c, dims(shape), len(shape), 0)
	return s.own("expand", c, x)
}

func (s *Scope) Transpose(x *Tensor, a, b int64) *Tensor {
	var c lib.Ctensor
	lib.AtgTranspose(&c, x.c, a, b)
	return s.own("transpose", c, x)
}

func (s *Scope) Permute(x *Tensor, order ...int64) *Tensor {
	var c lib.Ctensor
	lib.AtgPermute(&c, x.c, order, len(order))
	return s.own("permute", c, x)
}

func (s *Scope) Contiguous(x *Tensor) *Tensor { return s.unary("contiguous", lib.AtgContiguous, x) }

// Narrow is x[..., start:start+length, ...] along dim.
func (s *Scope) Narrow(x *Tensor, dim, start, length int64) *Tensor {
	var c lib.Ctensor
	lib.AtgNarrow(&c, x.c, dim, start, length)
	return s.own("narrow", c, x)
}

// Select is x[..., i, ...] along dim, which disappears.
func (s *Scope) Select(x *Tensor, dim, i int64) *Tensor {
	var c lib.Ctensor
	lib.AtgSelect(&c, x.c, dim, i)
	return s.own("select", c, x)
}

func (s *Scope) Unsqueeze(x *Tensor, dim int64) *Tensor {
	var c lib.Ctensor
	lib.AtgUnsqueeze(&c, x.c, dim)
	return s.own("unsqueeze", c, x)
}

func (s *Scope) Cat(dim int64, xs ...*Tensor) *Tensor {
	cs := make([]lib.Ctensor, len(xs))
	for i, x := range xs {
		cs[i] = x.c
	}
	var c lib.Ctensor
	lib.AtgCat(&c, cs, len(cs), dim)
	return s.own("cat", c, xs...)
}

// Pad puts zeros before and after the elements of the last dimension.
func (s *Scope) Pad(x *Tensor, before, after int64) *Tensor {
	var c lib.Ctensor
	lib.AtgConstantPadNd(&c, x.c, []int64{before, after}, 2)
	return s.own("pad", c, x)
}

// Indexing.

// Embedding looks up rows of w [R, d] by int64 ids of any shape.
func (s *Scope) Embedding(w, ids *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgEmbedding(&c, w.c, ids.c, -1, 0, 0)
	return s.own("embedding", c, w, ids)
}

// IndexSelect takes entries along dim by an int64 vector.
func (s *Scope) IndexSelect(x *Tensor, dim int64, index *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgIndexSelect(&c, x.c, dim, index.c)
	return s.own("index_select", c, x, index)
}

// Gather takes one entry along dim per element of index.
func (s *Scope) Gather(x *Tensor, dim int64, index *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgGather(&c, x.c, dim, index.c, 0)
	return s.own("gather", c, x, index)
}
