package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// Bounds on what a header may hold. The largest vocabularies in use (256k tokens
// with merges) make headers of about 15 MB.
const (
	maxHeader    = 64 << 20
	maxKey       = 1 << 16
	maxName      = 1 << 10
	maxAlignment = 1 << 20
	maxDims      = 4
)

// Value types of the format (gguf_metadata_value_type).
const (
	kindUint8 uint32 = iota
	kindInt8
	kindUint16
	kindInt16
	kindUint32
	kindInt32
	kindFloat32
	kindBool
	kindString
	kindArray
	kindUint64
	kindInt64
	kindFloat64
)

// kindSize is the least number of bytes a value of each kind takes in the file.
var kindSize = map[uint32]uint64{
	kindUint8: 1, kindInt8: 1, kindBool: 1, kindUint16: 2, kindInt16: 2, kindUint32: 4, kindInt32: 4,
	kindFloat32: 4, kindUint64: 8, kindInt64: 8, kindFloat64: 8, kindString: 8,
}

// headerReader reads little-endian values and remembers the first error, so that
// a run of reads is checked once; after an error every read gives zero.
type headerReader struct {
	r    *bufio.Reader
	pos  uint64
	size uint64 // of the header at most
	err  error
	buf  [8]byte
}

func (h *headerReader) fail(format string, args ...any) {
	if h.err == nil {
		h.err = fmt.Errorf("at offset %d: %w", h.pos, fmt.Errorf(format, args...))
	}
}

func (h *headerReader) fixed(n int) []byte {
	b := h.buf[:n]
	if h.err == nil {
		if _, err := io.ReadFull(h.r, b); err != nil {
			h.fail("%w", truncated(err))
		}
		h.pos += uint64(n)
	}
	if h.err != nil {
		clear(b)
	}
	return b
}

func (h *headerReader) u8() uint8   { return h.fixed(1)[0] }
func (h *headerReader) u16() uint16 { return binary.LittleEndian.Uint16(h.fixed(2)) }
func (h *headerReader) u32() uint32 { return binary.LittleEndian.Uint32(h.fixed(4)) }
func (h *headerReader) u64() uint64 { return binary.LittleEndian.Uint64(h.fixed(8)) }

// room reports whether n elements of at least each bytes can still follow, which
// is what makes it safe to allocate for them.
func (h *headerReader) room(what string, n, each uint64) bool {
	if h.err != nil {
		return false
	}
	if left := h.size - min(h.pos, h.size); n > left/each {
		h.fail("%s of %d elements cannot fit in the %d bytes that follow", what, n, left)
		return false
	}
	return true
}

func (h *headerReader) str(what string, limit uint64) string {
	n := h.u64()
	if !h.room(what, n, 1) {
		return ""
	}
	if n > limit {
		h.fail("%s of %d bytes, at most %d are allowed", what, n, limit)
		return ""
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(h.r, b); err != nil {
		h.fail("%s of %d bytes: %w", what, n, truncated(err))
		return ""
	}
	h.pos += n
	return string(b)
}

// truncated turns the reader's two kinds of end into one sentence.
func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTruncated
	}
	return err
}

// value reads one metadata value. Integers widen to uint64 or int64 and
// float64 stays what it is: the reader of a key cares for the value, not for
// which width a converter happened to write.
func (h *headerReader) value(kind uint32) any {
	switch kind {
	case kindUint8:
		return uint64(h.u8())
	case kindUint16:
		return uint64(h.u16())
	case kindUint32:
		return uint64(h.u32())
	case kindUint64:
		return h.u64()
	case kindInt8:
		return int64(int8(h.u8()))
	case kindInt16:
		return int64(int16(h.u16()))
	case kindInt32:
		return int64(int32(h.u32()))
	case kindInt64:
		return int64(h.u64())
	case kindFloat32:
		return float64(math.Float32frombits(h.u32()))
	case kindFloat64:
		return math.Float64frombits(h.u64())
	case kindBool:
		return h.u8() != 0
	case kindString:
		return h.str("string", maxHeader)
	case kindArray:
		return h.array()
	}
	h.fail("value of unknown type %d", kind)
	return nil
}

func (h *headerReader) array() any {
	kind, n := h.u32(), h.u64()
	each, ok := kindSize[kind]
	if h.err == nil && !ok {
		h.fail("array of type %d", kind) // arrays of arrays are legal, and nobody writes them
	}
	if h.err != nil || !h.room("array", n, each) {
		return nil
	}
	switch kind {
	case kindString:
		return elements(h, kind, n, func(v any) string { return v.(string) })
	case kindBool:
		return elements(h, kind, n, func(v any) bool { return v.(bool) })
	case kindFloat32, kindFloat64:
		return elements(h, kind, n, func(v any) float64 { return v.(float64) })
	case kindUint8, kindUint16, kindUint32, kindUint64:
		return elements(h, kind, n, func(v any) uint64 { return v.(uint64) })
	}
	return elements(h, kind, n, func(v any) int64 { return v.(int64) })
}

func elements[T any](h *headerReader, kind uint32, n uint64, as func(any) T) []T {
	out := make([]T, 0, n)
	for range n {
		v := h.value(kind)
		if h.err != nil {
			return nil
		}
		out = append(out, as(v))
	}
	return out
}

// header parses everything before the tensor data.
func (f *File) header(r io.Reader) error {
	h := &headerReader{r: bufio.NewReaderSize(io.LimitReader(r, maxHeader), 1<<16), size: uint64(min(f.size, maxHeader))}
	magic, version := h.u32(), h.u32()
	switch {
	case h.err != nil:
		return h.err
	case magic == 0x46554747 && (version&0xffff) == 0 && version != 0:
		return fmt.Errorf("this is a big-endian file: convert it to little-endian (gguf-py's gguf-convert-endian)")
	case magic != 0x46554747:
		return fmt.Errorf("the file starts with %#08x, not with \"GGUF\": it is something else, or an unfinished download", magic)
	case version != 2 && version != 3:
		return fmt.Errorf("format version %d; this reads 2 and 3", version)
	}
	tensors, keys := h.u64(), h.u64()
	if !h.room("metadata", keys, 8+4+1) || !h.room("tensor list", tensors, 8+4+4+8) {
		return h.err
	}
	for i := range keys {
		if err := f.key(h); err != nil {
			return fmt.Errorf("metadata key %d of %d: %w", i+1, keys, err)
		}
	}
	alignment := uint64(32)
	if _, ok := f.metadata["general.alignment"]; ok {
		var err error
		if alignment, err = f.Uint("general.alignment"); err != nil {
			return err
		}
		if alignment == 0 || alignment > maxAlignment || alignment&(alignment-1) != 0 {
			return fmt.Errorf("metadata key general.alignment is %d, want a power of two up to %d", alignment, maxAlignment)
		}
	}
	for i := range tensors {
		if err := f.tensorInfo(h, alignment); err != nil {
			return fmt.Errorf("tensor %d of %d: %w", i+1, tensors, err)
		}
	}
	f.data = int64((h.pos + alignment - 1) / alignment * alignment)
	return nil
}

func (f *File) key(h *headerReader) error {
	name := h.str("key", maxKey)
	kind := h.u32()
	v := h.value(kind)
	if h.err != nil {
		return fmt.Errorf("%q %w", printable(name), h.err)
	}
	if _, twice := f.metadata[name]; twice {
		return fmt.Errorf("%q occurs twice", printable(name))
	}
	f.metadata[name] = v
	return nil
}

func (f *File) tensorInfo(h *headerReader, alignment uint64) error {
	t := Tensor{Name: h.str("tensor name", maxName)}
	dims := h.u32()
	if h.err == nil && dims > maxDims {
		h.fail("%d dimensions, at most %d are allowed", dims, maxDims)
	}
	if h.err != nil {
		return fmt.Errorf("%q %w", printable(t.Name), h.err)
	}
	t.Shape = make([]int64, dims)
	t.elements = 1
	row := int64(1) // the contiguous dimension: blocks never cross it
	for i := range t.Shape {
		n := h.u64()
		if h.err == nil && (n == 0 || n > math.MaxInt64/uint64(t.elements)) {
			h.fail("dimension %d is %d", i, n)
		}
		if h.err != nil {
			return fmt.Errorf("%q %w", printable(t.Name), h.err)
		}
		if i == 0 {
			row = int64(n)
		}
		t.elements *= int64(n)
		t.Shape[len(t.Shape)-1-i] = int64(n) // ggml lists the contiguous dimension first
	}
	t.Type = Type(h.u32())
	offset := h.u64()
	if h.err != nil {
		return fmt.Errorf("%q %w", printable(t.Name), h.err)
	}
	if _, twice := f.byName[t.Name]; twice {
		return fmt.Errorf("%q occurs twice", printable(t.Name))
	}
	if offset%alignment != 0 || offset > math.MaxInt64 {
		return fmt.Errorf("%q: its data is at %d, which is not a multiple of %d", printable(t.Name), offset, alignment)
	}
	t.offset = int64(offset)
	// A type that this package does not read is an error for whoever asks for the
	// tensor, not for the file.
	if l, ok := layouts[t.Type]; ok {
		if row%int64(l.elems) != 0 {
			return fmt.Errorf("%q: rows of %d elements are no multiple of %v's block of %d", printable(t.Name), row, t.Type, l.elems)
		}
		blocks := t.elements / int64(l.elems)
		if blocks > math.MaxInt64/int64(l.bytes) {
			return fmt.Errorf("%q: %d elements are too many", printable(t.Name), t.elements)
		}
		t.bytes = blocks * int64(l.bytes)
	}
	f.byName[t.Name] = len(f.tensors)
	f.tensors = append(f.tensors, t)
	return nil
}

// printable bounds a name from the file before it goes into an error.
func printable(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
