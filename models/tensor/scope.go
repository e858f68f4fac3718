package tensor

import (
	"fmt"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

// Tensor is a tensor of libtorch. It is valid until its scope ends, or, if it was
// kept, until it is freed.
type Tensor struct{ c lib.Ctensor }

// Kind is an element type; the numbers are libtorch's.
type Kind int32

// Element types.
const (
	Int64    Kind = 4
	Float32  Kind = 6
	Float64  Kind = 7
	Bool     Kind = 11
	BFloat16 Kind = 15
)

func (k Kind) String() string {
	switch k {
	case Int64:
		return "i64"
	case Float32:
		return "f32"
	case Float64:
		return "f64"
	case Bool:
		return "bool"
	case BFloat16:
		return "bf16"
	}
	return fmt.Sprintf("kind %d", int32(k))
}

// Scope makes tensors and frees them when it ends. Its methods are the operations.
type Scope struct {
	thread *Thread
	owned  []*Tensor
	random *random
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
		panic(opError(op, msg, operands...))
	}
}

func opError(op, message string, operands ...*Tensor) *OpError {
	e := &OpError{Op: op, Message: message}
	for _, o := range operands {
		e.Operands = append(e.Operands, fmt.Sprintf("%v %v", o.Kind(), o.Shape()))
	}
	return e
}

// Sub runs f with a scope that ends with it: for loops that make many tensors.
func (s *Scope) Sub(f func(*Scope)) {
	inner := &Scope{thread: s.thread, random: s.random}
	defer inner.free()
	f(inner)
}

// Keep takes a tensor out of its scope: it lives until Free, which must be called
// on the same Thread.
func (s *Scope) Keep(t *Tensor) *Tensor {
	for i := len(s.owned) - 1; i >= 0; i-- {
		if s.owned[i] == t {
			s.owned = append(s.owned[:i], s.owned[i+1:]...)
			return t
		}
	}
	panic("BUG: keeping a tensor of another scope")
}

// Free ends a tensor that was kept; nil and freed ones are ignored.
func (s *Scope) Free(t *Tensor) {
	if t != nil && t.c != nil {
		lib.AtFree(t.c)
		t.c = nil
		s.thread.live.Add(-1)
	}
}

// Grad runs f with gradients on.
func (s *Scope) Grad(f func()) {
	was := lib.AtGradSetEnabled(1)
	defer lib.AtGradSetEnabled(was)
	f()
}

// Shape of the tensor; nil for a scalar.
func (t *Tensor) Shape() []int64 {
	n := lib.AtDim(t.c)
	if n == 0 {
		return nil
	}
	shape := make([]int64, n)
	lib.AtShape(t.c, unsafe.Pointer(&shape[0]))
	return shape
}

// Dim is the size along a dimension; negative ones count from the end.
func (t *Tensor) Dim(i int) int64 {
	shape := t.Shape()
	if i < 0 {
		i += len(shape)
	}
	return shape[i]
}

// Numel is the number of elements.
func (t *Tensor) Numel() int { return int(elements(t.Shape())) }

// Kind of the elements.
func (t *Tensor) Kind() Kind { return Kind(lib.AtScalarType(t.c)) }

func elements(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return n
}

// F32 copies values into a float32 tensor.
func (s *Scope) F32(values []float32, shape ...int64) *Tensor {
	return s.fromData("F32", unsafe.Pointer(unsafe.SliceData(values)), len(values), shape, 4, Float32)
}

// I64 copies values into an int64 tensor.
func (s *Scope) I64(values []int64, shape ...int64) *Tensor {
	return s.fromData("I64", unsafe.Pointer(unsafe.SliceData(values)), len(values), shape, 8, Int64)
}

// Bool copies values into a bool tensor.
func (s *Scope) Bool(values []bool, shape ...int64) *Tensor {
	return s.fromData("Bool", unsafe.Pointer(unsafe.SliceData(values)), len(values), shape, 1, Bool)
}

func (s *Scope) fromData(op string, data unsafe.Pointer, n int, shape []int64, size uint, k Kind) *Tensor {
	if elements(shape) != int64(n) {
		panic(&OpError{Op: op, Operands: []string{fmt.Sprint(shape)}, Message: fmt.Sprintf("%d values do not fill the shape", n)})
	}
	if n == 0 { // at_tensor_of_data reads data[0]
		return s.Zeros(k, shape...)
	}
	t := s.own(op, lib.AtTensorOfData(data, dims(shape), uint(len(shape)), size, int(k)))
	if s.thread.device < 0 {
		return t
	}
	var c lib.Ctensor
	lib.AtgTo(&c, t.c, s.thread.device)
	return s.own("to_device", c, t)
}

// dims is a shape that libtch can take the address of.
func dims(shape []int64) []int64 {
	if len(shape) == 0 {
		return []int64{0}
	}
	return shape
}

// Values copies a float32 tensor out.
func (s *Scope) Values(t *Tensor) []float32 {
	out := make([]float32, t.Numel())
	s.Read(t, out)
	return out
}

// Read copies a float32 tensor into out, whose length is the number of elements.
func (s *Scope) Read(t *Tensor, out []float32) {
	s.read("Read", t, Float32, unsafe.Pointer(unsafe.SliceData(out)), len(out), 4)
}

// Int64s copies an int64 tensor out.
func (s *Scope) Int64s(t *Tensor) []int64 {
	out := make([]int64, t.Numel())
	s.read("Int64s", t, Int64, unsafe.Pointer(unsafe.SliceData(out)), len(out), 8)
	return out
}

// Bools copies a bool tensor out.
func (s *Scope) Bools(t *Tensor) []bool {
	out := make([]bool, t.Numel())
	s.read("Bools", t, Bool, unsafe.Pointer(unsafe.SliceData(out)), len(out), 1)
	return out
}

func (s *Scope) read(op string, t *Tensor, k Kind, out unsafe.Pointer, n int, size uint) {
	if t.Kind() != k || t.Numel() != n {
		panic(opError(op, fmt.Sprintf("it is read as %d elements of %v", n, k), t))
	}
	if n > 0 {
		lib.AtCopyData(t.c, out, uint(n), size)
		check(op, t)
	}
}

// Value is the only element of a float32 tensor.
func (s *Scope) Value(t *Tensor) float64 {
	var v [1]float32
	s.Read(t, v[:])
	return float64(v[0])
}

// Backward computes the gradients of a scalar.
func (s *Scope) Backward(loss *Tensor) {
	lib.AtBackward(loss.c, 0, 0)
	check("backward", loss)
}

// BackwardFrom carries given gradients of outputs back to what they were computed
// from: the part of a loss whose gradient is known in closed form needs no graph.
func (s *Scope) BackwardFrom(outputs, gradients []*Tensor) {
	s.Grad(func() {
		var total *Tensor
		for i, o := range outputs {
			// d/do of <o, g> is g. As a dot product it makes no other temporary.
			dot := s.binary("dot", lib.AtgDot, s.View(o, -1), s.View(gradients[i], -1))
			if total == nil {
				total = dot
			} else {
				total = s.Add(total, dot)
			}
		}
		s.Backward(total)
	})
}

// Leaf is a copy of t without its history, sharing its memory, whose gradient
// Backward computes.
func (s *Scope) Leaf(t *Tensor) *Tensor {
	leaf := s.Detach(t)
	var c lib.Ctensor
	lib.AtgSetRequiresGrad(&c, leaf.c, 1)
	s.own("set_requires_grad", c, leaf)
	return leaf
}

// Gradient of a leaf after Backward, nil if Backward did not reach it. It is the
// leaf's own: what is written into it, the next Backward adds to.
func (s *Scope) Gradient(leaf *Tensor) *Tensor {
	var c lib.Ctensor
	lib.AtgGrad(&c, leaf.c)
	check("grad", leaf)
	if !lib.AtDefined(c) {
		lib.AtFree(c)
		return nil
	}
	return s.own("grad", c, leaf)
}
