//go:build weights

package tokenizer

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/gguf"
)

// need is the path of a real model; `native.py setup smollm2 minilm` fetches both
// and `native.py env` exports their paths.
func need(t testing.TB, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	require.NotEmpty(t, path, `set %s: python3 ops/setup/native.py setup smollm2 minilm && eval "$(python3 ops/setup/native.py env)"`, variable)
	return path
}

func smollm2(t testing.TB) *BPE {
	t.Helper()
	f, err := gguf.Open(need(t, "SERALM_SMOLLM2"))
	require.NoError(t, err)
	defer f.Close()
	b, err := BPEFromGGUF(f)
	require.NoError(t, err)
	return b
}

func minilm(t testing.TB) *WordPiece {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(need(t, "SERALM_MINILM"), "tokenizer.json"))
	require.NoError(t, err)
	w, err := WordPieceFromJSON(raw)
	require.NoError(t, err)
	return w
}

func TestRealModelsIDsAreTheReferences(t *testing.T) {
	b, w := smollm2(t), minilm(t)
	for _, x := range readCases(t).Texts {
		ids := b.Encode(x.Text)
		require.Equal(t, x.IDs["smollm2"], nonNil(ids), "%q", x.Text)
		require.Equal(t, x.Text, b.Decode(ids))
		require.Equal(t, x.IDs["minilm"], w.Encode(x.Text, 1000), "%q", x.Text)
	}
	for name, id := range map[string]int32{"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2} {
		got, ok := b.ID(name)
		require.True(t, ok)
		require.Equal(t, id, got)
		require.True(t, b.special[got])
	}
}

func BenchmarkSmolLM2Encode(b *testing.B) {
	t := smollm2(b)
	encode(b, func(text string) { t.Encode(text) })
}

func BenchmarkMiniLMEncode(b *testing.B) {
	w := minilm(b)
	encode(b, func(text string) { w.Encode(text, 256) })
}

func encode(b *testing.B, f func(string)) {
	texts := readCases(b).Texts
	n := 0
	for _, x := range texts {
		n += len(x.Text)
	}
	b.SetBytes(int64(n))
	for b.Loop() {
		for _, x := range texts {
			f(x.Text)
		}
	}
}
