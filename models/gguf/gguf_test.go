package gguf

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func openFixture(t testing.TB) *File {
	t.Helper()
	f, err := Open("testdata/types.gguf")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// Every type decodes to the very bits that ggml's own Python implementation gives
// (testdata/make.py put its result beside each tensor).
func TestEveryTypeDecodesBitForBit(t *testing.T) {
	f := openFixture(t)
	for typ, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			info, ok := f.Tensor(l.name)
			require.True(t, ok, "make.py wrote no %s", l.name)
			require.Equal(t, typ, info.Type)
			require.Equal(t, []int64{2, 256}, info.Shape)
			got, err := f.Float32(l.name, 2, 256)
			require.NoError(t, err)
			want, err := f.Float32(l.name + ".f32")
			require.NoError(t, err)
			require.Equal(t, bits(want), bits(got))
		})
	}
}

func bits(x []float32) []uint32 {
	out := make([]uint32, len(x))
	for i, v := range x {
		out[i] = math.Float32bits(v)
	}
	return out
}

func TestHalfPrecisionCornerValues(t *testing.T) {
	for h, want := range map[uint16]uint32{
		0x0000: 0, 0x8000: 0x80000000, // both zeros
		0x0001: 0x33800000, 0x83ff: 0xb87fc000, // subnormals: 2^-24, -1023*2^-24
		0x0400: 0x38800000, 0x7bff: 0x477fe000, // least and greatest normal
		0x3c00: 0x3f800000, 0xc000: 0xc0000000, // 1, -2
		0x7c00: 0x7f800000, 0xfc00: 0xff800000, 0x7e00: 0x7fc00000, // infinities, NaN
	} {
		require.Equal(t, want, math.Float32bits(half([]byte{byte(h), byte(h >> 8)})), "%#04x", h)
	}
}

// A tensor larger than the scratch buffer is read in several pieces.
func TestTensorLargerThanTheScratchBuffer(t *testing.T) {
	n := 3*scratch/34*32 + 32*7
	raw := make([]byte, n/32*34)
	for i := range raw {
		raw[i] = byte(i * 7)
	}
	for i := 0; i < len(raw); i += 34 {
		raw[i], raw[i+1] = 0, 0x3c // d = 1
	}
	f, err := newFile(builder{}.tensor("big", []uint64{uint64(n)}, Q8_0, 0).data(raw))
	require.NoError(t, err)
	got, err := f.Float32("big")
	require.NoError(t, err)
	for i, v := range got {
		if want := float32(int8(raw[i/32*34+2+i%32])); v != want {
			t.Fatalf("element %d is %v, want %v", i, v, want)
		}
	}
}

func TestMetadataOfEveryKind(t *testing.T) {
	f := openFixture(t)
	for key, want := range map[string]uint64{"kind.uint8": 200, "kind.uint16": 60_000, "kind.uint32": 4_000_000_000, "kind.uint64": math.MaxUint64} {
		got, err := f.Uint(key)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	got := map[string]any{}
	for key, want := range map[string]any{
		"kind.int8": int64(-100), "kind.int16": int64(-30_000), "kind.int32": int64(-2_000_000_000), "kind.int64": int64(math.MinInt64),
	} {
		require.Equal(t, want, f.metadata[key])
		_, err := f.Uint(key)
		require.ErrorContains(t, err, key)
		require.ErrorContains(t, err, "not negative")
	}
	var err error
	got["float32"], err = f.Float("kind.float32")
	require.NoError(t, err)
	got["float64"], err = f.Float("kind.float64")
	require.NoError(t, err)
	got["bool"], err = f.Bool("kind.bool")
	require.NoError(t, err)
	got["string"], err = f.String("kind.string")
	require.NoError(t, err)
	got["strings"], err = f.Strings("kind.strings")
	require.NoError(t, err)
	got["ints"], err = f.Ints("kind.ints")
	require.NoError(t, err)
	got["floats"], err = f.Floats("kind.floats")
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"float32": float64(float32(1e-5)), "float64": 0.1, "bool": true, "string": "Amélie ▁ Ġ",
		"strings": []string{"", "a", "▁b"}, "ints": []int64{1, -2, 3}, "floats": []float64{0.5, -1.5},
	}, got)
	require.Contains(t, f.Keys(), "kind.bools")
	require.True(t, f.Has("general.architecture"))
}

func TestMetadataErrorsNameTheKey(t *testing.T) {
	f := openFixture(t)
	_, err := f.String("llama.nothing")
	require.EqualError(t, err, `gguf: the metadata has no key "llama.nothing"`)
	_, err = f.String("kind.bool")
	require.EqualError(t, err, `gguf: metadata key "kind.bool" holds bool, want a string`)
	_, err = f.Ints("kind.strings")
	require.EqualError(t, err, `gguf: metadata key "kind.strings" holds []string, want an array of whole numbers`)
	_, err = f.Int("kind.uint32")
	require.EqualError(t, err, `gguf: metadata key "kind.uint32" is 4000000000, want at most 2147483647`)
	_, err = f.Uint("kind.float32")
	require.ErrorContains(t, err, "want a whole number")
}

func TestTensorErrorsNameTheTensor(t *testing.T) {
	f := openFixture(t)
	_, err := f.Float32("blk.0.attn_q.weight")
	require.ErrorContains(t, err, `no tensor "blk.0.attn_q.weight"`)
	_, err = f.Float32("Q4_0", 256, 2)
	require.EqualError(t, err, `gguf: tensor "Q4_0" has shape [2 256], want [256 2]`)
	info, _ := f.Tensor("Q4_0")
	require.ErrorContains(t, f.Read(info, make([]float32, 511)), "512 elements, the destination 511")
}

// A file may hold tensors of a type we do not know: it opens, and only the one
// who asks for them hears of it.
func TestUnknownTypeIsAnErrorOfTheTensorAlone(t *testing.T) {
	f, err := newFile(builder{}.tensor("odd", []uint64{1 << 40}, Type(19), 0).tensor("fine", []uint64{1}, F32, 0).data(make([]byte, 4)))
	require.NoError(t, err)
	_, err = f.Float32("odd")
	require.ErrorContains(t, err, `tensor "odd" is stored as type 19`)
	_, err = f.Float32("fine")
	require.NoError(t, err)
}

func TestOpenNamesTheFile(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "absent.gguf"))
	require.ErrorContains(t, err, "absent.gguf")
	dir := t.TempDir()
	_, err = Open(dir)
	require.ErrorContains(t, err, dir)
	page := filepath.Join(dir, "page.gguf")
	require.NoError(t, os.WriteFile(page, []byte("<!DOCTYPE html><html>"), 0o600))
	_, err = Open(page)
	require.ErrorContains(t, err, "page.gguf")
	require.ErrorContains(t, err, `not with "GGUF"`)
}

// Cut anywhere, the file is refused when it is opened: never half a model.
func TestTruncatedAnywhere(t *testing.T) {
	whole, err := os.ReadFile("testdata/types.gguf")
	require.NoError(t, err)
	for n := 0; n < len(whole); n += 1 + n/100 {
		_, err := New(bytes.NewReader(whole[:n]), int64(n))
		require.Error(t, err, "cut at %d of %d", n, len(whole))
	}
}

// The file is cut after it was opened: an error, not SIGBUS.
func TestTruncatedWhileOpen(t *testing.T) {
	whole, err := os.ReadFile("testdata/types.gguf")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "model.gguf")
	require.NoError(t, os.WriteFile(path, whole, 0o600))
	f, err := Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	require.NoError(t, os.Truncate(path, int64(len(whole)/2)))
	last := f.Tensors()[len(f.tensors)-1]
	_, err = f.Float32(last.Name)
	require.ErrorIs(t, err, errTruncated)
	require.ErrorContains(t, err, last.Name)
}

func BenchmarkDecode(b *testing.B) {
	f := openFixture(b)
	for _, name := range []string{"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"} {
		info, _ := f.Tensor(name)
		raw := make([]byte, info.bytes)
		_, err := f.r.ReadAt(raw, f.data+info.offset)
		require.NoError(b, err)
		l, dst := layouts[info.Type], make([]float32, info.elements)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(4 * info.elements) // float32 written
			for b.Loop() {
				l.decode(dst, raw)
			}
		})
	}
}
