package safetensors

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// File is an open file whose tensors are read one at a time: a model may be larger
// than the memory that is left beside it. Its methods may be called at the same
// time from several goroutines.
type File struct {
	file   *os.File
	data   int64 // where tensor data starts
	places []place
	byName map[string]int
}

// Open reads the header of the file at path. Close it after use.
func Open(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f, err := newFile(file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	return f, nil
}

func newFile(file *os.File) (*File, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	first := make([]byte, 8)
	got, err := file.ReadAt(first, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	n, err := headerSize(first[:got], info.Size())
	if err != nil {
		return nil, err
	}
	raw := make([]byte, n)
	if _, err := file.ReadAt(raw, 8); err != nil {
		return nil, fmt.Errorf("reading its header: %w", err)
	}
	f := &File{file: file, data: 8 + n, byName: map[string]int{}}
	if f.places, _, err = decodeHeader(raw, info.Size()-f.data); err != nil {
		return nil, err
	}
	for i, p := range f.places {
		f.byName[p.name] = i
	}
	return f, nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// Names of the tensors, in order.
func (f *File) Names() []string {
	out := make([]string, len(f.places))
	for i, p := range f.places {
		out[i] = p.name
	}
	return out
}

// Read returns a tensor; ok is false if the file does not have it.
func (f *File) Read(name string) (t Named, ok bool, err error) {
	i, ok := f.byName[name]
	if !ok {
		return Named{}, false, nil
	}
	p := f.places[i]
	t = Named{p.name, p.DType, p.Shape, make([]byte, p.to()-p.from())}
	if _, err := f.file.ReadAt(t.Data, f.data+p.from()); err != nil {
		return Named{}, true, fmt.Errorf("%s: reading tensor %q: %w", f.file.Name(), name, err)
	}
	return t, true, nil
}
