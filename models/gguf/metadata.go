package gguf

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Keys lists the metadata keys, sorted.
func (f *File) Keys() []string { return slices.Sorted(maps.Keys(f.metadata)) }

// Has reports whether the metadata holds key.
func (f *File) Has(key string) bool {
	_, ok := f.metadata[key]
	return ok
}

// String returns the text under key.
func (f *File) String(key string) (string, error) { return lookup[string](f, key, "a string") }

// Bool returns the truth value under key.
func (f *File) Bool(key string) (bool, error) { return lookup[bool](f, key, "a bool") }

// Uint returns the whole number under key, whatever width it is stored in; a
// negative one is an error.
func (f *File) Uint(key string) (uint64, error) {
	v, err := f.find(key)
	if err != nil {
		return 0, err
	}
	switch n := v.(type) {
	case uint64:
		return n, nil
	case int64:
		if n >= 0 {
			return uint64(n), nil
		}
		return 0, fmt.Errorf("gguf: metadata key %q is %d, want a number that is not negative", key, n)
	}
	return 0, f.wrongType(key, v, "a whole number")
}

// Int returns Uint as an int: counts, sizes, token ids. At most 2^31-1.
func (f *File) Int(key string) (int, error) {
	n, err := f.Uint(key)
	if err != nil {
		return 0, err
	}
	if n > math.MaxInt32 {
		return 0, fmt.Errorf("gguf: metadata key %q is %d, want at most %d", key, n, math.MaxInt32)
	}
	return int(n), nil
}

// Float returns the floating-point number under key.
func (f *File) Float(key string) (float64, error) {
	return lookup[float64](f, key, "a floating-point number")
}

// Strings returns the array of texts under key. The caller must not change it.
func (f *File) Strings(key string) ([]string, error) {
	return lookup[[]string](f, key, "an array of strings")
}

// Floats returns the array of floating-point numbers under key. The caller must
// not change it.
func (f *File) Floats(key string) ([]float64, error) {
	return lookup[[]float64](f, key, "an array of floating-point numbers")
}

// Ints returns the array of whole numbers under key, whatever width they are
// stored in.
func (f *File) Ints(key string) ([]int64, error) {
	v, err := f.find(key)
	if err != nil {
		return nil, err
	}
	switch n := v.(type) {
	case []int64:
		return slices.Clone(n), nil
	case []uint64:
		out := make([]int64, len(n))
		for i, x := range n {
			if x > math.MaxInt64 {
				return nil, fmt.Errorf("gguf: metadata key %q: element %d is %d, want at most %d", key, i, x, int64(math.MaxInt64))
			}
			out[i] = int64(x)
		}
		return out, nil
	}
	return nil, f.wrongType(key, v, "an array of whole numbers")
}

func lookup[T any](f *File, key, want string) (T, error) {
	var zero T
	v, err := f.find(key)
	if err != nil {
		return zero, err
	}
	if t, ok := v.(T); ok {
		return t, nil
	}
	return zero, f.wrongType(key, v, want)
}

func (f *File) find(key string) (any, error) {
	v, ok := f.metadata[key]
	if !ok {
		return nil, fmt.Errorf("gguf: the metadata has no key %q", key)
	}
	return v, nil
}

func (f *File) wrongType(key string, v any, want string) error {
	return fmt.Errorf("gguf: metadata key %q holds %T, want %s", key, v, want)
}
