package tensor

import (
	"fmt"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

// Tensor is a tensor of libtorch. It is valid until its scope ends.
type Tensor struct{ c lib.Ctensor }

// Scope makes tensors and frees them when it ends. Its methods are the operations.
type Scope struct {
	thread *Thread
	owned  []*Tensor
}

func (s *Scope) free() {
	for _, t := range s.owned {
		lib.AtFree(t.c)
		t.c = nil
	}
	s.thread.live.Add(-int64(len(s.owned)))
	s.owned = nil
}

// own takes the result of an operation; it panics with an *OpError if there is none.
func (s *Scope) own(op string, c lib.Ctensor, operands ...*Tensor) *Tensor {
	check(op, operands...)
	t := &Tensor{c}
	s.owned = append(s.owned, t)
	s.thread.live.Add(1)
	return t
}

func check(op string, operands ...*Tensor) {
	if msg := lastError(); msg != "" {
		e := &OpError{Op: op, Message: msg}
		for _, o := range operands {
			e.Operands = append(e.Operands, fmt.Sprint(o.Shape()))
		}
		panic(e)
	}
}

// Sub runs f with a scope that ends with it: for loops that make many tensors.
func (s *Scope) Sub(f func(*Scope)) {
	inner := &Scope{thread: s.thread}
	defer inner.free()
	f(inner)
}

// Grad runs f with gradients on.
func (s *Scope) Grad(f func()) {
	was := lib.AtGradSetEnabled(1)
	defer lib.AtGradSetEnabled(was)
	f()
}

// Seed makes what is drawn from here on a function of the seed.
func (s *Scope) Seed(seed uint64) { manualSeed(seed) }

// Shape of the tensor.
func (t *Tensor) Shape() []int64 {
	n := lib.AtDim(t.c)
	if n == 0 {
		return nil
	}
	shape := make([]int64, n)
	lib.AtShape(t.c, unsafe.Pointer(&shape[0]))
	return shape
}

// Numel is the number of elements.
func (t *Tensor) Numel() int {
	n := 1
	for _, d := range t.Shape() {
		n *= int(d)
	}
	return n
}

// libtorch's numbers of the element types in use.
const (
	kindInt64 = 4
	kindF32   = 6
	kindBool  = 11
	kindBF16  = 15
)

// F32 copies values into a float32 tensor.
func (s *Scope) F32(values []float32, shape ...int64) *Tensor {
	return s.fromData("F32", unsafe.Pointer(unsafe.SliceData(values)), len(values), shape, 4, kindF32)
}

// I64 copies values into an int64 tensor.
func (s *Scope) I64(values []int64, shape ...int64) *Tensor {
	return s.fromData("I64", unsafe.Pointer(unsafe.SliceData(values)), len(values), shape, 8, kindInt64)
}

// Bool copies values into a bool tensor.
func (s *Scope) Bool(values []bool, shape ...int64) *Tensor {
	return s.fromData("Bool", unsafe.Pointer(unsafe.SliceData(values)), len(values), shape, 1, kindBool)
}

func (s *Scope) fromData(op string, data unsafe.Pointer, n int, shape []int64, size uint, kind int) *Tensor {
	want := int64(1)
	for _, d := range shape {
		want *= d
	}
	if want != int64(n) {
		panic(&OpError{Op: op, Operands: []string{fmt.Sprint(shape)}, Message: fmt.Sprintf("%d values do not fill the shape", n)})
	}
	if n == 0 || len(shape) == 0 { // at_tensor_of_data reads shape[0] and data[0]
		return s.Zeros(kindOf(kind), shape...)
	}
	t := s.own(op, lib.AtTensorOfData(data, shape, uint(len(shape)), size, kind))
	if s.thread.device < 0 {
		return t
	}
	return s.toDevice(t, s.thread.device)
}

func (s *Scope) toDevice(t *Tensor, device int32) *Tensor {
	var c lib.Ctensor
	lib.AtgTo(&c, t.c, device)
	return s.own("to", c, t)
}

// Values copies a float32 tensor out.
func (s *Scope) Values(t *Tensor) []float32 {
	out := make([]float32, t.Numel())
	s.Read(t, out)
	return out
}

// Read copies a float32 tensor into out, whose length is the number of elements.
func (s *Scope) Read(t *Tensor, out []float32) {
	if len(out) != t.Numel() {
		panic(&OpError{Op: "Read", Operands: []string{fmt.Sprint(t.Shape())}, Message: fmt.Sprintf("out holds %d values", len(out))})
	}
	if len(out) == 0 {
		return
	}
	t = s.Contiguous(t)
	if s.thread.device >= 0 {
		t = s.toDevice(t, -1)
	}
	lib.AtCopyData(t.c, unsafe.Pointer(&out[0]), uint(len(out)), 4)
	check("Read", t)
}

// Int64s copies an int64 tensor out.
func (s *Scope) Int64s(t *Tensor) []int64 {
	out := make([]int64, t.Numel())
	if len(out) == 0 {
		return out
	}
	t = s.Contiguous(t)
	if s.thread.device >= 0 {
		t = s.toDevice(t, -1)
	}
	lib.AtCopyData(t.c, unsafe.Pointer(&out[0]), uint(len(out)), 8)
	check("Int64s", t)
	return out
}

// Value is the only element of a float32 tensor.
func (s *Scope) Value(t *Tensor) float64 { return float64(s.Values(t)[0]) }

// Backward computes the gradients of a scalar.
func (s *Scope) Backward(loss *Tensor) {
	lib.AtBackward(loss.c, 0, 0)
	check("backward", loss)
}

// Leaf is a copy of the values of t without their history, whose gradient
// Backward computes.
func (s *Scope) Leaf(t *Tensor) *Tensor {
	leaf := s.Detach(t)
	var c lib.Ctensor
	lib.AtgSetRequiresGrad(&c, leaf.c, 1)
	s.own("set_requires_grad", c, leaf)
	return leaf
}

// Gradient of a Leaf after Backward.
func (s *Scope) Gradient(leaf *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgGrad(&c, leaf.c)
	return s.own("grad", c, leaf)
}
