package gguf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// errTruncated says that bytes which the file announces are not there.
var errTruncated = errors.New("the file ends here: it is cut short, fetch it again")

// scratch bounds how many stored bytes of a tensor are in memory at a time.
const scratch = 256 << 10

// Tensor describes one tensor of a file.
type Tensor struct {
	Name  string
	Type  Type
	Shape []int64 // outermost first, as torch and numpy write it: [rows, columns] of a matrix

	offset   int64 // from the start of the data
	bytes    int64 // as stored; 0 for a type this package does not read
	elements int64 // the product of the shape
}

// File is an open GGUF file. Its methods may be called at the same time from
// several goroutines.
type File struct {
	r        io.ReaderAt
	close    func() error
	size     int64
	data     int64 // where tensor data starts
	metadata map[string]any
	tensors  []Tensor
	byName   map[string]int
}

// Open opens the file at path and reads its header. Close it after use.
func Open(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening model file: %w", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	var f *File
	if err == nil {
		f, err = New(file, info.Size())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("model file %s: %w", path, err), file.Close())
	}
	f.close = file.Close
	return f, nil
}

// New reads the header of the GGUF file of size bytes in r. It keeps r, and
// checks that every tensor lies within size.
func New(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, close: func() error { return nil }, size: size, metadata: map[string]any{}, byName: map[string]int{}}
	if err := f.header(io.NewSectionReader(r, 0, size)); err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	for _, t := range f.tensors {
		// Written so that nothing overflows: offset and bytes are up to 2^63-1.
		if room := f.size - f.data; room < 0 || t.offset > room || t.bytes > room-t.offset {
			return nil, fmt.Errorf("gguf: tensor %q needs %d bytes at offset %d of the data, which holds %d: %w",
				printable(t.Name), t.bytes, t.offset, max(room, 0), errTruncated)
		}
	}
	return f, nil
}

// Close closes the file.
func (f *File) Close() error { return f.close() }

// Tensors lists the tensors in the order of the file.
func (f *File) Tensors() []Tensor { return slices.Clone(f.tensors) }

// Tensor returns the description of the tensor with that name.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return f.tensors[i], true
}

// Float32 reads the tensor with that name as float32, rows first. A shape, where
// one is given, must be the tensor's own.
func (f *File) Float32(name string, shape ...int64) ([]float32, error) {
	t, ok := f.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("gguf: there is no tensor %q: the file holds another architecture, or lacks a part", printable(name))
	}
	if len(shape) > 0 && !slices.Equal(shape, t.Shape) {
		return nil, fmt.Errorf("gguf: tensor %q has shape %v, want %v", printable(name), t.Shape, shape)
	}
	if err := f.readable(t); err != nil {
		return nil, err // before the allocation: an unreadable tensor may claim any size
	}
	out := make([]float32, t.elements)
	return out, f.Read(t, out)
}

// Read fills dst, of as many numbers as the shape says, with tensor t of this file.
func (f *File) Read(t Tensor, dst []float32) error {
	if err := f.readable(t); err != nil {
		return err
	}
	if int64(len(dst)) != t.elements {
		return fmt.Errorf("gguf: tensor %q has %d elements, the destination %d", printable(t.Name), t.elements, len(dst))
	}
	l := layouts[t.Type]
	buf := make([]byte, min(int64(scratch/l.bytes*l.bytes), t.bytes))
	for at := f.data + t.offset; len(dst) > 0; {
		n := min(len(dst)/l.elems, len(buf)/l.bytes)
		src := buf[:n*l.bytes]
		// ReadAt may return io.EOF with the last full read.
		if got, err := f.r.ReadAt(src, at); got < len(src) {
			return fmt.Errorf("gguf: reading tensor %q at offset %d: %w", printable(t.Name), at+int64(got), truncated(err))
		}
		l.decode(dst[:n*l.elems], src)
		dst, at = dst[n*l.elems:], at+int64(len(src))
	}
	return nil
}

func (f *File) readable(t Tensor) error {
	if _, ok := layouts[t.Type]; !ok {
		return fmt.Errorf("gguf: tensor %q is stored as %v, which this does not read: take a file quantised to "+
			"Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K, or F16, BF16, F32", printable(t.Name), t.Type)
	}
	return nil
}
