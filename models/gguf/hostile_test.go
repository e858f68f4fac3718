package gguf

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// builder writes GGUF files field by field, wrong ones included.
type builder struct {
	keys, tensors       [][]byte
	magic, version      uint32
	keyCount, tensCount uint64 // added to the true counts
}

func u32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
func u64(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
func str(s string) []byte { return append(u64(uint64(len(s))), s...) }

func (b builder) key(name string, kind uint32, value ...[]byte) builder {
	b.keys = append(slices.Clone(b.keys), slices.Concat(str(name), u32(kind), slices.Concat(value...)))
	return b
}

func (b builder) tensor(name string, dims []uint64, typ Type, offset uint64) builder {
	info := append(str(name), u32(uint32(len(dims)))...)
	for _, d := range dims {
		info = append(info, u64(d)...)
	}
	b.tensors = append(slices.Clone(b.tensors), slices.Concat(info, u32(uint32(typ)), u64(offset)))
	return b
}

// data finishes the file.
func (b builder) data(raw []byte) []byte {
	if b.magic == 0 {
		b.magic = 0x46554747
	}
	if b.version == 0 {
		b.version = 3
	}
	out := slices.Concat(u32(b.magic), u32(b.version), u64(uint64(len(b.tensors))+b.tensCount), u64(uint64(len(b.keys))+b.keyCount),
		slices.Concat(b.keys...), slices.Concat(b.tensors...))
	out = append(out, make([]byte, -len(out)&31)...)
	return append(out, raw...)
}

func newFile(raw []byte) (*File, error) { return New(bytes.NewReader(raw), int64(len(raw))) }

// Each file lies in one way; the error names what and where.
func TestHostileFiles(t *testing.T) {
	const huge = 1 << 62
	array := func(kind uint32, n uint64) []byte { return slices.Concat(u32(kind), u64(n)) }
	four := make([]byte, 4)
	for name, c := range map[string]struct {
		raw  []byte
		want []string
	}{
		"empty":                     {nil, []string{"at offset 0", "cut short"}},
		"not GGUF":                  {builder{magic: 0x04034b50}.data(nil), []string{"0x04034b50"}},
		"version 1":                 {builder{version: 1}.data(nil), []string{"format version 1", "2 and 3"}},
		"big-endian":                {builder{version: 3 << 24}.data(nil), []string{"big-endian"}},
		"more keys than bytes":      {builder{keyCount: huge}.data(nil), []string{"metadata of", "cannot fit"}},
		"more tensors than bytes":   {builder{tensCount: huge}.data(nil), []string{"tensor list of", "cannot fit"}},
		"endless key":               {builder{keys: [][]byte{slices.Concat(u64(1<<40), make([]byte, 64))}}.data(nil), []string{"metadata key 1 of 1", "cannot fit"}},
		"long key":                  {builder{}.key(string(make([]byte, maxKey+1)), kindBool, []byte{1}).data(nil), []string{"at most 65536"}},
		"endless string":            {builder{}.key("a.b", kindString, u64(huge)).data(nil), []string{`metadata key 1 of 1: "a.b" at offset`, "cannot fit"}},
		"endless array":             {builder{}.key("a.b", kindArray, array(kindUint8, huge)).data(nil), []string{`"a.b"`, "array of 4611686018427387904 elements"}},
		"endless array of strings":  {builder{}.key("a.b", kindArray, array(kindString, huge)).data(nil), []string{`"a.b"`, "cannot fit"}},
		"array of arrays":           {builder{}.key("a.b", kindArray, array(kindArray, 1), make([]byte, 12)).data(nil), []string{`"a.b"`, "array of type 9"}},
		"unknown kind":              {builder{}.key("a.b", 13, four).data(nil), []string{`"a.b"`, "unknown type 13"}},
		"key twice":                 {builder{}.key("a.b", kindUint32, four).key("a.b", kindUint32, four).data(nil), []string{"metadata key 2 of 2", `"a.b" occurs twice`}},
		"alignment of nothing":      {builder{}.key("general.alignment", kindUint32, four).data(nil), []string{"general.alignment is 0", "power of two"}},
		"alignment of 48":           {builder{}.key("general.alignment", kindUint32, u32(48)).data(nil), []string{"general.alignment is 48"}},
		"alignment beyond reason":   {builder{}.key("general.alignment", kindUint64, u64(1<<63)).data(nil), []string{"general.alignment"}},
		"alignment as text":         {builder{}.key("general.alignment", kindString, str("32")).data(nil), []string{"general.alignment", "want a whole number"}},
		"five dimensions":           {builder{}.tensor("w", []uint64{1, 1, 1, 1, 1}, F32, 0).data(four), []string{`tensor 1 of 1: "w"`, "5 dimensions"}},
		"no rows":                   {builder{}.tensor("w", []uint64{4, 0}, F32, 0).data(four), []string{`"w"`, "dimension 1 is 0"}},
		"overflowing shape":         {builder{}.tensor("w", []uint64{1 << 32, 1 << 32}, F32, 0).data(four), []string{`"w"`, "dimension 1"}},
		"overflowing bytes":         {builder{}.tensor("w", []uint64{1 << 62}, F32, 0).data(four), []string{`"w"`, "too many"}},
		"half a block":              {builder{}.tensor("w", []uint64{48, 2}, Q4_0, 0).data(make([]byte, 64)), []string{`"w"`, "rows of 48", "block of 32"}},
		"unaligned data":            {builder{}.tensor("w", []uint64{1}, F32, 4).data(make([]byte, 8)), []string{`"w"`, "not a multiple of 32"}},
		"data beyond the end":       {builder{}.tensor("w", []uint64{2}, F32, 0).data(four), []string{`tensor "w" needs 8 bytes at offset 0`, "holds 4", "cut short"}},
		"offset beyond the end":     {builder{}.tensor("w", []uint64{1}, F32, 1<<62).data(four), []string{`tensor "w"`, "cut short"}},
		"offset that overflows":     {builder{}.tensor("w", []uint64{1}, F32, 1<<63).data(four), []string{`"w"`, "multiple"}},
		"tensor twice":              {builder{}.tensor("w", []uint64{1}, F32, 0).tensor("w", []uint64{1}, F32, 0).data(four), []string{"tensor 2 of 2", `"w" occurs twice`}},
		"long tensor name":          {builder{}.tensor(string(make([]byte, maxName+1)), []uint64{1}, F32, 0).data(four), []string{"at most 1024"}},
		"name that is not text":     {builder{}.tensor("\xff\xfe", []uint64{0}, F32, 0).data(four), []string{`"?"`}},
		"header ends in a tensor":   {builder{tensors: [][]byte{slices.Concat(str("w"), u32(4), make([]byte, 16))}}.data(nil), []string{`tensor 1 of 1: "w"`, "dimension 0"}},
		"header without its data":   {builder{}.tensor("w", []uint64{1}, F32, 0).data(nil), []string{`tensor "w"`, "cut short"}},
		"values cut in their array": {builder{}.key("a.b", kindArray, array(kindString, 1), u64(1000)).data(nil), []string{`"a.b"`, "cannot fit"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newFile(c.raw)
			require.Error(t, err)
			for _, w := range c.want {
				require.ErrorContains(t, err, w)
			}
		})
	}
}

// Whatever the bytes: no panic, and a file that opens can be read to its end.
func FuzzNew(f *testing.F) {
	whole, err := os.ReadFile("testdata/types.gguf")
	require.NoError(f, err)
	f.Add(whole)
	f.Add(builder{}.key("general.alignment", kindUint32, u32(64)).tensor("w", []uint64{32, 2}, Q8_0, 0).data(make([]byte, 128)))
	f.Add(builder{}.key("a", kindArray, u32(kindString), u64(2), str("x"), str("")).tensor("w", nil, F32, 0).data(make([]byte, 4)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := newFile(raw)
		if err != nil {
			return
		}
		for _, key := range file.Keys() {
			require.True(t, file.Has(key))
			_, _ = file.Uint(key)
			_, _ = file.Ints(key)
		}
		for _, info := range file.Tensors() {
			x, err := file.Float32(info.Name, info.Shape...)
			if err == nil {
				require.Len(t, x, int(info.elements))
			}
		}
	})
}
