package tokenizer

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// cases are texts, and prompts with special tokens, with the ids that the
// reference implementations give (testdata/make.py).
type cases struct {
	Texts []struct {
		Text string
		IDs  map[string][]int32
	}
	Prompts []struct {
		Tokenizer, Text string
		IDs             []int32
	}
}

func readCases(t testing.TB) (c cases) {
	t.Helper()
	require.NoError(t, json.Unmarshal(read(t, "cases.json"), &c))
	require.Len(t, c.Texts, 200)
	require.NotEmpty(t, c.Prompts)
	return c
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	return raw
}

// metadata is a GGUF file's, held in a map.
type metadata map[string]any

func (m metadata) Has(key string) bool { return m[key] != nil }

func value[T any](m metadata, key string) (T, error) {
	v, ok := m[key].(T)
	if !ok {
		return v, fmt.Errorf("the metadata has no key %q of that type", key)
	}
	return v, nil
}

func (m metadata) String(key string) (string, error)    { return value[string](m, key) }
func (m metadata) Bool(key string) (bool, error)        { return value[bool](m, key) }
func (m metadata) Int(key string) (int, error)          { return value[int](m, key) }
func (m metadata) Strings(key string) ([]string, error) { return value[[]string](m, key) }
func (m metadata) Ints(key string) ([]int64, error)     { return value[[]int64](m, key) }
func (m metadata) Floats(key string) ([]float64, error) { return value[[]float64](m, key) }

// scoresMetadata is the small SentencePiece model as llama.cpp's converter writes it.
func scoresMetadata(t testing.TB) metadata {
	t.Helper()
	var p struct {
		Tokens []string
		Scores []float64
		Types  []int64
	}
	require.NoError(t, json.Unmarshal(read(t, "pieces.json"), &p))
	return metadata{"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": p.Tokens, "tokenizer.ggml.scores": p.Scores,
		"tokenizer.ggml.token_type": p.Types, "tokenizer.ggml.bos_token_id": 1}
}

// byteLevelMetadata is the small byte-level model as llama.cpp's converter writes it.
func byteLevelMetadata(t testing.TB) metadata {
	t.Helper()
	d, err := parseDocument(read(t, "bytelevel.json"), "BPE")
	require.NoError(t, err)
	tokens, types := make([]string, len(d.Model.Vocab)), make([]int64, len(d.Model.Vocab))
	for token, id := range d.Model.Vocab {
		tokens[id], types[id] = token, ggufNormal
	}
	for _, a := range d.AddedTokens {
		types[a.ID] = ggufControl
	}
	var merges []string
	for _, m := range d.Model.Merges {
		merges = append(merges, m[0]+" "+m[1])
	}
	return metadata{"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": tokens,
		"tokenizer.ggml.token_type": types, "tokenizer.ggml.merges": merges}
}

// withPart is a tokenizer.json with one of its parts replaced; path leads to it.
func withPart(t testing.TB, raw []byte, part string, path ...string) []byte {
	t.Helper()
	var d map[string]any
	require.NoError(t, json.Unmarshal(raw, &d))
	at := d
	for _, p := range path[:len(path)-1] {
		at = at[p].(map[string]any)
	}
	var v any
	require.NoError(t, json.Unmarshal([]byte(part), &v))
	at[path[len(path)-1]] = v
	out, err := json.Marshal(d)
	require.NoError(t, err)
	return out
}

// bpes are the small vocabularies in every form that is read, by the name of their
// column in cases.json.
func bpes(t testing.TB) map[string]*BPE {
	t.Helper()
	out := map[string]*BPE{}
	for name, raw := range map[string][]byte{
		"bytelevel": read(t, "bytelevel.json"),
		"llama":     read(t, "sentencepiece.json"),
		"metaspace": withPart(t, withPart(t, read(t, "sentencepiece.json"), `null`, "normalizer"),
			`{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false}`, "pre_tokenizer"),
	} {
		b, err := BPEFromJSON(raw)
		require.NoError(t, err, name)
		out[name] = b
	}
	b, err := BPEFromGGUF(scoresMetadata(t))
	require.NoError(t, err)
	out["scores"] = b
	return out
}
