// Package safetensors reads and writes the safetensors format: an 8-byte
// little-endian header length, a JSON header of names, types, shapes and byte
// ranges, and the data. A file may come from anywhere, so every number in it is
// checked before it is used.
package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
)

// DType is an element type, spelt as in the format.
type DType string

// Element types.
const (
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
	I64  DType = "I64"
	I32  DType = "I32"
	U8   DType = "U8"
)

// Size of one element in bytes, 0 for a type that this package does not know.
func (d DType) Size() int {
	switch d {
	case I64:
		return 8
	case F32, I32:
		return 4
	case F16, BF16:
		return 2
	case U8:
		return 1
	}
	return 0
}

// Named is one tensor, its data little-endian and row major.
type Named struct {
	Name  string
	DType DType
	Shape []int64
	Data  []byte
}

// maxHeader bounds the header; the reference implementation uses 100 MB.
const maxHeader = 100 << 20

// ErrFormat says that data is not a safetensors file.
var ErrFormat = errors.New("not a valid safetensors file")

type entry struct {
	DType   DType    `json:"dtype"`
	Shape   []int64  `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

const metadataKey = "__metadata__"

// Encode writes tensors and metadata. The bytes depend on the contents alone: the
// tensors stand in the order of their names.
func Encode(tensors []Named, meta map[string]string) ([]byte, error) {
	sorted := append([]Named(nil), tensors...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Name < sorted[j].Name })
	header := map[string]any{}
	if len(meta) > 0 {
		header[metadataKey] = meta
	}
	var at int64
	for _, t := range sorted {
		want, err := bytesOf(t.DType, t.Shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if want != int64(len(t.Data)) {
			return nil, fmt.Errorf("tensor %q: shape %v of %s takes %d bytes, its data has %d", t.Name, t.Shape, t.DType, want, len(t.Data))
		}
		if _, twice := header[t.Name]; twice || t.Name == metadataKey {
			return nil, fmt.Errorf("tensor %q: the name is taken", t.Name)
		}
		shape := t.Shape
		if shape == nil {
			shape = []int64{}
		}
		header[t.Name] = entry{t.DType, shape, [2]int64{at, at + want}}
		at += want
	}
	h, err := json.Marshal(header) // maps are written in the order of their keys
	if err != nil {
		return nil, err
	}
	h = append(h, bytes.Repeat([]byte{' '}, (8-len(h)%8)%8)...) // data is aligned to 8 bytes
	out := make([]byte, 8, 8+int64(len(h))+at)
	binary.LittleEndian.PutUint64(out, uint64(len(h)))
	out = append(out, h...)
	for _, t := range sorted {
		out = append(out, t.Data...)
	}
	return out, nil
}

// Decode reads a file held in memory. The tensors' Data alias it; they stand in
// the order of their names.
func Decode(file []byte) ([]Named, map[string]string, error) {
	n, err := headerSize(file, int64(len(file)))
	if err != nil {
		return nil, nil, err
	}
	raw, data := file[8:8+n], file[8+n:]
	places, meta, err := decodeHeader(raw, int64(len(data)))
	if err != nil {
		return nil, nil, err
	}
	var out []Named
	for _, p := range places {
		out = append(out, Named{p.name, p.DType, p.Shape, data[p.from():p.to():p.to()]})
	}
	return out, meta, nil
}

// headerSize reads the length of the header from the first 8 of size bytes.
func headerSize(first []byte, size int64) (int64, error) {
	if len(first) < 8 {
		return 0, fmt.Errorf("%w: %d bytes are too few for a header", ErrFormat, size)
	}
	n := binary.LittleEndian.Uint64(first)
	if n > maxHeader || int64(n) > size-8 {
		return 0, fmt.Errorf("%w: a header of %d bytes in a file of %d", ErrFormat, n, size)
	}
	return int64(n), nil
}

// place is where a tensor's data stands.
type place struct {
	name string
	entry
}

func (p place) from() int64 { return p.Offsets[0] }
func (p place) to() int64   { return p.Offsets[1] }

// decodeHeader checks that the tensors fill size bytes of data; they are returned in
// the order of their names.
func decodeHeader(raw []byte, size int64) ([]place, map[string]string, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	var header map[string]json.RawMessage
	if err := d.Decode(&header); err != nil {
		return nil, nil, fmt.Errorf("%w: its header: %w", ErrFormat, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("%w: something follows the header", ErrFormat)
	}
	meta := map[string]string{}
	if m, ok := header[metadataKey]; ok {
		if err := json.Unmarshal(m, &meta); err != nil {
			return nil, nil, fmt.Errorf("%w: its metadata: %w", ErrFormat, err)
		}
		delete(header, metadataKey)
	}
	var out []place
	for name, text := range header {
		p := place{name: name}
		if err := json.Unmarshal(text, &p.entry); err != nil {
			return nil, nil, fmt.Errorf("%w: tensor %q: %w", ErrFormat, name, err)
		}
		want, err := bytesOf(p.DType, p.Shape)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: tensor %q: %w", ErrFormat, name, err)
		}
		if p.from() < 0 || p.to() < p.from() || p.to() > size || p.to()-p.from() != want {
			return nil, nil, fmt.Errorf("%w: tensor %q: bytes [%d, %d) for %s %v in %d bytes of data (truncated?)", ErrFormat, name, p.from(), p.to(), p.DType, p.Shape, size)
		}
		out = append(out, p)
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].from() < out[j].from() || out[i].from() == out[j].from() && out[i].to() < out[j].to()
	})
	var at int64
	for _, p := range out {
		if p.from() != at {
			return nil, nil, fmt.Errorf("%w: its tensors overlap or leave a gap at byte %d", ErrFormat, at)
		}
		at = p.to()
	}
	if at != size {
		return nil, nil, fmt.Errorf("%w: %d bytes of data belong to no tensor", ErrFormat, size-at)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out, meta, nil
}

// bytesOf is the size of a tensor; it fails for unknown types and for shapes that
// overflow.
func bytesOf(d DType, shape []int64) (int64, error) {
	size := int64(d.Size())
	if size == 0 {
		return 0, fmt.Errorf("element type %q is not supported", d)
	}
	for _, n := range shape {
		if n < 0 || n > 0 && size > math.MaxInt64/4/n {
			return 0, fmt.Errorf("shape %v is impossible", shape)
		}
		size *= n
	}
	return size, nil
}

// FromFloat32s is a float32 tensor's data.
func FromFloat32s(values []float32) []byte {
	out := make([]byte, 0, 4*len(values))
	for _, v := range values {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return out
}

// Float32s converts a tensor of any float type.
func (t Named) Float32s() ([]float32, error) {
	n := len(t.Data)
	switch t.DType {
	case F32:
		out := make([]float32, n/4)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
		}
		return out, nil
	case BF16:
		out := make([]float32, n/2)
		for i := range out {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(t.Data[2*i:])) << 16)
		}
		return out, nil
	case F16:
		out := make([]float32, n/2)
		for i := range out {
			out[i] = half(binary.LittleEndian.Uint16(t.Data[2*i:]))
		}
		return out, nil
	}
	return nil, fmt.Errorf("tensor %q is %s, not a float type", t.Name, t.DType)
}

// half converts IEEE 754 binary16.
func half(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch exponent {
	case 0: // zero and subnormal: fraction * 2^-24
		v := math.Float32bits(float32(fraction) * (1.0 / (1 << 24)))
		return math.Float32frombits(sign | v)
	case 31:
		return math.Float32frombits(sign | 255<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}
