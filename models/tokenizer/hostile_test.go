package tokenizer

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each file asks for something that is not done exactly, or lies; the error says what.
func TestHostileJSON(t *testing.T) {
	bytelevel, sentencepiece, wordpiece := read(t, "bytelevel.json"), read(t, "sentencepiece.json"), read(t, "wordpiece.json")
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"no JSON":                    {[]byte("<html>"), "invalid character"},
		"empty":                      {nil, "unexpected end"},
		"deep":                       {[]byte(`{"normalizer":` + strings.Repeat("[", 1<<20)), "exceeded max depth"},
		"another model":              {withPart(t, bytelevel, `"Unigram"`, "model", "type"), `"Unigram", want BPE`},
		"no vocabulary":              {[]byte(`{"model":{"type":"BPE"}}`), "vocabulary is empty"},
		"id too large":               {withPart(t, bytelevel, `1048576`, "model", "vocab", "Ġthe"), "want 0 to 1048575"},
		"negative id":                {withPart(t, bytelevel, `-1`, "model", "vocab", "Ġthe"), "id -1"},
		"id twice":                   {withPart(t, bytelevel, `5`, "model", "vocab", "Ġthe"), "id 5 has two tokens"},
		"token twice":                {withPart(t, bytelevel, `[{"id":900,"content":"Ġthe","special":true}]`, "added_tokens"), "has two ids"},
		"added takes an id":          {withPart(t, bytelevel, `[{"id":300,"content":"<x>","special":true}]`, "added_tokens"), "has the id 300"},
		"added id too large":         {withPart(t, bytelevel, `[{"id":99999999,"content":"<x>"}]`, "added_tokens"), "has id 99999999"},
		"added strips":               {withPart(t, bytelevel, `[{"id":900,"content":"<x>","lstrip":true}]`, "added_tokens"), "lstrip"},
		"merge of one":               {withPart(t, bytelevel, `["the"]`, "model", "merges"), "not two tokens"},
		"merge of three":             {withPart(t, bytelevel, `[["a","b","c"]]`, "model", "merges"), "a merge of 3"},
		"merge of strangers":         {withPart(t, bytelevel, `[["Ġthe","Ġthe"]]`, "model", "merges"), "the vocabulary lacks"},
		"dropout":                    {withPart(t, bytelevel, `0.1`, "model", "dropout"), "dropout"},
		"suffix":                     {withPart(t, bytelevel, `"</w>"`, "model", "end_of_word_suffix"), "end_of_word_suffix"},
		"prefix":                     {withPart(t, bytelevel, `"##"`, "model", "continuing_subword_prefix"), "continuing_subword_prefix"},
		"whole words first":          {withPart(t, bytelevel, `true`, "model", "ignore_merges"), "ignore_merges"},
		"normaliser":                 {withPart(t, bytelevel, `{"type":"NFC"}`, "normalizer"), `{"type":"NFC"}`},
		"another split":              {withPart(t, bytelevel, `{"type":"Whitespace"}`, "pre_tokenizer"), "Whitespace"},
		"no split":                   {withPart(t, bytelevel, `null`, "pre_tokenizer"), "pre-tokenizer null"},
		"prefix space":               {withPart(t, bytelevel, `{"type":"ByteLevel","add_prefix_space":true}`, "pre_tokenizer"), "add_prefix_space"},
		"two tokens before":          {withPart(t, sentencepiece, `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"SpecialToken":{"id":"<s>"}}]}`, "post_processor"), "puts"},
		"text before":                {withPart(t, sentencepiece, `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"the"}}]}`, "post_processor"), "puts"},
		"post-processor of no shape": {withPart(t, sentencepiece, `3`, "post_processor"), "post-processor"},
		"byte missing":               {withPart(t, withPart(t, sentencepiece, `[]`, "model", "merges"), `{"a":300}`, "model", "vocab"), "<0x00>"},
		"another metaspace":          {withPart(t, withPart(t, sentencepiece, `null`, "normalizer"), `{"type":"Metaspace","replacement":"_","prepend_scheme":"first","split":false}`, "pre_tokenizer"), "Llama 2"},
		"metaspace that splits":      {withPart(t, withPart(t, sentencepiece, `null`, "normalizer"), `{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"}`, "pre_tokenizer"), "Llama 2"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := BPEFromJSON(c.raw)
			require.ErrorContains(t, err, "tokenizer.json: ")
			require.ErrorContains(t, err, c.want)
		})
	}
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"another model":      {bytelevel, `"BPE", want WordPiece`},
		"cased":              {withPart(t, wordpiece, `false`, "normalizer", "lowercase"), "uncased BERT"},
		"another split":      {withPart(t, wordpiece, `{"type":"Whitespace"}`, "pre_tokenizer"), "uncased BERT"},
		"another prefix":     {withPart(t, wordpiece, `"@@"`, "model", "continuing_subword_prefix"), `not "##"`},
		"word of no length":  {withPart(t, wordpiece, `0`, "model", "max_input_chars_per_word"), "is 0"},
		"endless word":       {withPart(t, wordpiece, `100000`, "model", "max_input_chars_per_word"), "is 100000"},
		"no unknown":         {withPart(t, wordpiece, `null`, "model", "unk_token"), "post-processor"},
		"nothing around":     {withPart(t, wordpiece, `null`, "post_processor"), "post-processor"},
		"strangers around":   {withPart(t, wordpiece, `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{}},{"SpecialToken":{"id":"</s>"}}]}`, "post_processor"), "the vocabulary has no"},
		"added takes an id":  {withPart(t, wordpiece, `[{"id":300,"content":"<x>","special":true}]`, "added_tokens"), "has the id 300"},
		"vocabulary of none": {withPart(t, withPart(t, wordpiece, `{}`, "model", "vocab"), `[]`, "added_tokens"), "vocabulary is empty"},
	} {
		t.Run("wordpiece: "+name, func(t *testing.T) {
			_, err := WordPieceFromJSON(c.raw)
			require.ErrorContains(t, err, "tokenizer.json: ")
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestHostileGGUF(t *testing.T) {
	with := func(m metadata, key string, v any) metadata {
		m["tokenizer.ggml."+key] = v
		return m
	}
	nan := scoresMetadata(t)
	nan["tokenizer.ggml.scores"].([]float64)[400] = math.NaN()
	long := scoresMetadata(t)
	long["tokenizer.ggml.tokens"].([]string)[400] = strings.Repeat("x", maxPiece+1)
	for name, c := range map[string]struct {
		m    metadata
		want string
	}{
		"nothing":               {metadata{}, "tokenizer.ggml.model"},
		"another model":         {with(scoresMetadata(t), "model", "bert"), "gpt2 and llama"},
		"no tokens":             {with(scoresMetadata(t), "tokens", []string{}), "0 tokens"},
		"too many tokens":       {with(scoresMetadata(t), "tokens", make([]string, maxVocabulary+1)), "1048577 tokens"},
		"too few types":         {with(scoresMetadata(t), "token_type", []int64{1}), "1 entries"},
		"type out of range":     {with(byteLevelMetadata(t), "token_type", make([]int64, 700)), "want 1 to 6"},
		"too few scores":        {with(scoresMetadata(t), "scores", []float64{1}), "1 entries"},
		"score that is none":    {nan, "not a number"},
		"endless token":         {long, "1025 bytes"},
		"BOS out of range":      {with(scoresMetadata(t), "bos_token_id", 1<<20), "no special token"},
		"BOS is text":           {with(scoresMetadata(t), "bos_token_id", 400), "no special token"},
		"no BOS":                {with(scoresMetadata(t), "bos_token_id", nil), "bos_token_id"},
		"flag of another type":  {with(scoresMetadata(t), "add_bos_token", 1), "add_bos_token"},
		"prefix of no type":     {with(scoresMetadata(t), "add_space_prefix", "yes"), "add_space_prefix"},
		"another pre-tokenizer": {with(byteLevelMetadata(t), "pre", "llama-bpe"), `"llama-bpe"; this reads smollm and gpt-2`},
		"no merges":             {with(byteLevelMetadata(t), "merges", nil), "merges"},
		"merge of one":          {with(byteLevelMetadata(t), "merges", []string{"a"}), "line 0"},
		"merge of strangers":    {with(byteLevelMetadata(t), "merges", []string{"Ġthe Ġthe"}), "the vocabulary lacks"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := BPEFromGGUF(c.m)
			require.ErrorContains(t, err, "GGUF metadata: ")
			require.ErrorContains(t, err, c.want)
		})
	}
}

// No file makes a reader panic, and what it accepts encodes every text.
func FuzzFiles(f *testing.F) {
	for _, name := range []string{"bytelevel.json", "sentencepiece.json", "wordpiece.json"} {
		f.Add(read(f, name), "Heat (1995) 卧虎藏龙")
	}
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},"pre_tokenizer":{"type":"ByteLevel"},"added_tokens":[{"id":5,"content":"b"}]}`), "abb")
	f.Fuzz(func(t *testing.T, raw []byte, text string) {
		if b, err := BPEFromJSON(raw); err == nil {
			ids := append(b.Encode(text), b.EncodeSpecial(text)...)
			_ = b.Decode(ids)
			for _, id := range ids {
				require.True(t, b.has(id))
			}
		}
		if w, err := WordPieceFromJSON(raw); err == nil {
			_ = w.Encode(text, 16)
		}
	})
}

// The same for GGUF metadata of the SentencePiece kind, whose merges are derived.
func FuzzScores(f *testing.F) {
	var p struct{ Tokens, Scores, Types json.RawMessage }
	require.NoError(f, json.Unmarshal(read(f, "pieces.json"), &p))
	f.Add([]byte(p.Tokens), []byte(p.Scores), []byte(p.Types), "Heat (1995)")
	f.Fuzz(func(t *testing.T, tokens, scores, types []byte, text string) {
		var names []string
		var values []float64
		var kinds []int64
		if json.Unmarshal(tokens, &names) != nil || json.Unmarshal(scores, &values) != nil || json.Unmarshal(types, &kinds) != nil {
			return
		}
		b, err := BPEFromGGUF(metadata{"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": names, "tokenizer.ggml.scores": values,
			"tokenizer.ggml.token_type": kinds, "tokenizer.ggml.bos_token_id": 1})
		if err != nil {
			return
		}
		_ = b.Decode(b.Encode(text))
	})
}
