package llm

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"seralm/models/tokenizer"
)

// Random returns a model with random weights, for tests: the same code as a real
// one, and a ChatML tokenizer whose tokens are three special ones and single bytes,
// from 'a' on, as far as the vocabulary reaches (259 hold them all).
func Random(c Config, seed uint64, o Options) (*Model, error) {
	t, err := byteTokenizer(c.Vocab)
	if err != nil {
		return nil, err
	}
	m, err := build(&files{config: c, tokenizer: t, eos: []int32{0}, weights: randomWeights{c, seed},
		template: "'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'"}, o)
	if err != nil {
		return nil, fmt.Errorf("random language model: %w", err)
	}
	return m, nil
}

func byteTokenizer(vocab int) (*tokenizer.BPE, error) {
	special := []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
	tokens := map[string]int{}
	var added []map[string]any
	for id := range min(vocab, len(special)+256) {
		if id < len(special) {
			tokens[special[id]] = id
			added = append(added, map[string]any{"id": id, "content": special[id], "special": true})
		} else {
			tokens[tokenizer.ByteToken(byte('a'+id-len(special)))] = id
		}
	}
	raw, err := json.Marshal(map[string]any{
		"model":         map[string]any{"type": "BPE", "vocab": tokens, "merges": []string{}},
		"added_tokens":  added,
		"pre_tokenizer": map[string]any{"type": "ByteLevel"},
	})
	if err != nil {
		return nil, err
	}
	return tokenizer.BPEFromJSON(raw)
}

// randomWeights draws matrices from N(0, 2/(rows+columns)) and sets norms to one:
// with that the logits spread enough for a policy that is not uniform.
type randomWeights struct {
	config Config
	seed   uint64
}

func (randomWeights) names() []string { return nil }
func (randomWeights) Close() error    { return nil }

func (w randomWeights) read(name string, shape []int64) ([]float32, error) {
	if len(shape) == 1 {
		return slices.Repeat([]float32{1}, int(shape[0])), nil
	}
	out := make([]float32, shape[0]*shape[1])
	state := w.seed
	for _, b := range []byte(name) {
		state = mix(state ^ uint64(b))
	}
	std := math.Sqrt(2 / float64(shape[0]+shape[1]))
	if strings.HasPrefix(name, "model.embed") {
		std = 1
	}
	for i := range out {
		// Box and Muller: one of the two normal numbers is enough here.
		r := mix(state + uint64(i))
		u, v := float64(r>>32+1)/(1<<32), float64(r&(1<<32-1))/(1<<32)
		out[i] = float32(std * math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v))
	}
	return out, nil
}
