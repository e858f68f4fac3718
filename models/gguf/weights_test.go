//go:build weights

package gguf

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// smollm2 is the real model file; `native.py setup smollm2` fetches it and
// `native.py env` exports its path.
func smollm2(t testing.TB) *File {
	t.Helper()
	path := os.Getenv("SERALM_SMOLLM2")
	require.NotEmpty(t, path, `set SERALM_SMOLLM2: python3 ops/setup/native.py setup smollm2 && eval "$(python3 ops/setup/native.py env)"`)
	f, err := Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// Every tensor of SmolLM2 has the bits that gguf-py dequantises (testdata/make.py smollm2).
func TestSmolLM2TensorByTensor(t *testing.T) {
	raw, err := os.ReadFile("testdata/smollm2.json")
	require.NoError(t, err)
	var want map[string]struct {
		Type   string
		Shape  []int64
		SHA256 string
	}
	require.NoError(t, json.Unmarshal(raw, &want))
	f := smollm2(t)
	require.Len(t, f.Tensors(), len(want))
	for _, info := range f.Tensors() {
		w := want[info.Name]
		require.Equal(t, w.Type, info.Type.String(), info.Name)
		x, err := f.Float32(info.Name, w.Shape...)
		require.NoError(t, err)
		h, b := sha256.New(), make([]byte, 0, 4096)
		for len(x) > 0 {
			n := min(len(x), 1024)
			for _, v := range x[:n] {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
			}
			h.Write(b)
			x, b = x[n:], b[:0]
		}
		require.Equal(t, w.SHA256, hex.EncodeToString(h.Sum(nil)), info.Name)
	}
}

func TestSmolLM2Metadata(t *testing.T) {
	f := smollm2(t)
	for key, want := range map[string]int{"llama.block_count": 30, "llama.embedding_length": 576, "llama.attention.head_count_kv": 3, "tokenizer.ggml.eos_token_id": 2} {
		got, err := f.Int(key)
		require.NoError(t, err)
		require.Equal(t, want, got, key)
	}
	tokens, err := f.Strings("tokenizer.ggml.tokens")
	require.NoError(t, err)
	require.Len(t, tokens, 49152)
	template, err := f.String("tokenizer.chat_template")
	require.NoError(t, err)
	require.Contains(t, template, "<|im_start|>")
}

func BenchmarkSmolLM2Header(b *testing.B) {
	for b.Loop() {
		f, err := Open(os.Getenv("SERALM_SMOLLM2"))
		require.NoError(b, err)
		require.NoError(b, f.Close())
	}
}

func BenchmarkSmolLM2Float32(b *testing.B) {
	f := smollm2(b)
	var n int64
	for _, info := range f.Tensors() {
		n += 4 * info.elements
	}
	b.SetBytes(n)
	for b.Loop() {
		for _, info := range f.Tensors() {
			_, err := f.Float32(info.Name)
			require.NoError(b, err)
		}
	}
}
