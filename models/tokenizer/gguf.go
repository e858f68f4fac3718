package tokenizer

import (
	"fmt"
	"math"
	"slices"
)

// Metadata is what a tokenizer needs of a GGUF file.
type Metadata interface {
	Has(key string) bool
	String(key string) (string, error)
	Bool(key string) (bool, error)
	Int(key string) (int, error)
	Strings(key string) ([]string, error)
	Ints(key string) ([]int64, error)
	Floats(key string) ([]float64, error)
}

// Kinds of token in GGUF metadata (llama_token_type). Control and unknown tokens
// are special; a byte token is found by its name.
const (
	ggufNormal = 1 + iota
	ggufUnknown
	ggufControl
	ggufUserDefined
	ggufUnused
	ggufByte
)

// BPEFromGGUF reads the tokenizer of a language model from its GGUF metadata.
func BPEFromGGUF(m Metadata) (*BPE, error) {
	t, err := bpeFromGGUF(m)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: GGUF metadata: %w", err)
	}
	return t, nil
}

func bpeFromGGUF(m Metadata) (*BPE, error) {
	model, err := m.String("tokenizer.ggml.model")
	if err != nil {
		return nil, err
	}
	v, err := ggufVocabulary(m)
	if err != nil {
		return nil, err
	}
	switch model {
	case "gpt2":
		return ggufByteLevel(m, v)
	case "llama":
		return ggufSentencePiece(m, v)
	}
	return nil, fmt.Errorf("tokenizer.ggml.model is %.40q; this reads gpt2 and llama", model)
}

func ggufVocabulary(m Metadata) (*vocabulary, error) {
	tokens, err := m.Strings("tokenizer.ggml.tokens")
	if err != nil {
		return nil, err
	}
	if len(tokens) == 0 || len(tokens) > maxVocabulary {
		return nil, fmt.Errorf("tokenizer.ggml.tokens has %d tokens, want 1 to %d", len(tokens), maxVocabulary)
	}
	v := &vocabulary{tokens: slices.Clone(tokens), kinds: make([]kind, len(tokens)), bos: -1}
	types, err := m.Ints("tokenizer.ggml.token_type")
	if err != nil {
		return nil, err
	}
	if len(types) != len(tokens) {
		return nil, fmt.Errorf("tokenizer.ggml.token_type has %d entries for %d tokens", len(types), len(tokens))
	}
	for id, n := range types {
		switch n {
		case ggufNormal:
			v.kinds[id] = kindNormal
		case ggufUnknown, ggufControl:
			v.kinds[id] = kindSpecial
		case ggufUserDefined:
			v.kinds[id] = kindUserDefined
		case ggufUnused, ggufByte:
			v.kinds[id] = kindUnused
		default:
			return nil, fmt.Errorf("tokenizer.ggml.token_type of token %d is %d, want 1 to 6", id, n)
		}
	}
	return v, nil
}

func ggufByteLevel(m Metadata, v *vocabulary) (*BPE, error) {
	pre, err := m.String("tokenizer.ggml.pre")
	if err != nil {
		return nil, err
	}
	digits := pre == "smollm"
	if !digits && pre != "gpt-2" {
		return nil, fmt.Errorf("tokenizer.ggml.pre is %.40q; this reads smollm and gpt-2", pre)
	}
	lines, err := m.Strings("tokenizer.ggml.merges")
	if err != nil {
		return nil, err
	}
	list := make([]jsonMerge, len(lines))
	for i, line := range lines {
		if err := list[i].split(line); err != nil {
			return nil, fmt.Errorf("tokenizer.ggml.merges, line %d: %w", i, err)
		}
	}
	if v.merges, err = v.mergesOf(list); err != nil {
		return nil, fmt.Errorf("tokenizer.ggml.merges: %w", err)
	}
	if err := ggufBOS(m, v, false); err != nil {
		return nil, err
	}
	return v.byteLevel(digits)
}

func ggufSentencePiece(m Metadata, v *vocabulary) (*BPE, error) {
	scores, err := m.Floats("tokenizer.ggml.scores")
	if err != nil {
		return nil, err
	}
	if len(scores) != len(v.tokens) {
		return nil, fmt.Errorf("tokenizer.ggml.scores has %d entries for %d tokens", len(scores), len(v.tokens))
	}
	if v.merges, err = v.mergesByScore(scores); err != nil {
		return nil, err
	}
	if err := ggufBOS(m, v, true); err != nil {
		return nil, err
	}
	p, err := ggufFlag(m, "tokenizer.ggml.add_space_prefix", true)
	if err != nil {
		return nil, err
	}
	if p {
		return v.sentencePiece(prefixAlways)
	}
	return v.sentencePiece(prefixNever)
}

// mergesByScore writes SentencePiece's rule, "of all neighbours that together are
// a token, join those whose token has the highest score, the leftmost of equals",
// as a list of merges: every way to cut a token in two tokens, ranked by score.
func (v *vocabulary) mergesByScore(scores []float64) (map[pair]merge, error) {
	ids, err := v.index()
	if err != nil {
		return nil, err
	}
	var order []int32
	for id := range v.tokens {
		if math.IsNaN(scores[id]) {
			return nil, fmt.Errorf("tokenizer.ggml.scores of token %d is not a number", id)
		}
		if v.usable(id) {
			order = append(order, int32(id))
		}
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		switch {
		case scores[a] > scores[b]:
			return -1
		case scores[a] < scores[b]:
			return 1
		}
		return 0
	})
	merges := map[pair]merge{}
	rank := int32(-1)
	for i, id := range order {
		if i == 0 || scores[id] != scores[order[i-1]] {
			rank++
		}
		token := v.tokens[id]
		if len(token) > maxPiece {
			return nil, fmt.Errorf("token %d of tokenizer.ggml.tokens has %d bytes, at most %d are read", id, len(token), maxPiece)
		}
		for cut := range token {
			if cut == 0 {
				continue
			}
			left, ok1 := ids[token[:cut]]
			right, ok2 := ids[token[cut:]]
			if ok1 && ok2 && v.usable(int(left)) && v.usable(int(right)) {
				merges[pair{left, right}] = merge{rank, id}
			}
		}
	}
	return merges, nil
}

// maxPiece bounds the tokens that mergesByScore cuts in every way it can, which
// takes time with the square of their length.
const maxPiece = 1 << 10

func ggufBOS(m Metadata, v *vocabulary, byDefault bool) error {
	add, err := ggufFlag(m, "tokenizer.ggml.add_bos_token", byDefault)
	if err != nil || !add {
		return err
	}
	id, err := m.Int("tokenizer.ggml.bos_token_id")
	if err != nil {
		return err
	}
	if id >= len(v.tokens) || v.kinds[id] != kindSpecial {
		return fmt.Errorf("tokenizer.ggml.bos_token_id is %d, which is no special token", id)
	}
	v.bos = int32(id)
	return nil
}

func ggufFlag(m Metadata, key string, byDefault bool) (bool, error) {
	if !m.Has(key) {
		return byDefault, nil
	}
	return m.Bool(key)
}
