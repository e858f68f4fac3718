package llm

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"seralm/models/gguf"
	"seralm/models/tokenizer"
)

// ggufWeights reads the tensors of a GGUF file under Hugging Face's names.
type ggufWeights struct {
	*gguf.File
	config Config
	stored map[string]string // the file's name of each
}

func openGGUF(path string) (*files, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	out, err := readGGUF(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return out, nil
}

func readGGUF(f *gguf.File) (*files, error) {
	architecture, err := f.String("general.architecture")
	if err != nil {
		return nil, err
	}
	if architecture != "llama" {
		return nil, fmt.Errorf("its architecture is %.40q; this computes llama", architecture)
	}
	out := &files{}
	if out.config, err = ggufConfig(f); err != nil {
		return nil, err
	}
	w := ggufWeights{f, out.config, map[string]string{}}
	for _, t := range f.Tensors() {
		w.stored[huggingFaceName(t.Name)] = t.Name
	}
	out.weights = w
	if out.tokenizer, err = tokenizer.BPEFromGGUF(f); err != nil {
		return nil, err
	}
	if f.Has("tokenizer.chat_template") {
		if out.template, err = f.String("tokenizer.chat_template"); err != nil {
			return nil, err
		}
	}
	for _, key := range []string{"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"} {
		if f.Has(key) {
			id, err := f.Int(key)
			if err != nil {
				return nil, err
			}
			out.eos = append(out.eos, int32(id))
		}
	}
	return out, nil
}

func ggufConfig(f *gguf.File) (Config, error) {
	var first error
	number := func(key string, byDefault int) int {
		if key = "llama." + key; byDefault > 0 && !f.Has(key) {
			return byDefault
		}
		n, err := f.Int(key)
		first = errors.Join(first, err)
		return n
	}
	float := func(key string, byDefault float64) float64 {
		if key = "llama." + key; byDefault > 0 && !f.Has(key) {
			return byDefault
		}
		x, err := f.Float(key)
		first = errors.Join(first, err)
		return x
	}
	c := Config{Dim: number("embedding_length", 0), Layers: number("block_count", 0), Heads: number("attention.head_count", 0),
		Inner: number("feed_forward_length", 0), Context: number("context_length", 0),
		Theta: float("rope.freq_base", 10000), Eps: float("attention.layer_norm_rms_epsilon", 0)}
	if first == nil && c.Heads < 1 {
		first = fmt.Errorf("llama.attention.head_count is %d", c.Heads)
	}
	if first != nil {
		return c, first
	}
	c.KVHeads = number("attention.head_count_kv", c.Heads)
	c.HeadDim = number("attention.key_length", max(1, c.Dim/c.Heads))
	if turned := number("rope.dimension_count", c.HeadDim); turned != c.HeadDim {
		return c, fmt.Errorf("the rotary embedding turns %d of %d dimensions of a head; this turns all", turned, c.HeadDim)
	}
	for _, key := range f.Keys() {
		if strings.HasPrefix(key, "llama.rope.scaling.") && key != "llama.rope.scaling.finetuned" {
			return c, fmt.Errorf("its metadata has %q: this does not stretch the rotary embedding", key)
		}
		if strings.HasPrefix(key, "llama.expert_") {
			return c, fmt.Errorf("its metadata has %q: this does not compute mixtures of experts", key)
		}
	}
	embedding, ok := f.Tensor("token_embd.weight")
	if !ok || len(embedding.Shape) != 2 {
		return c, errors.New(`it has no tensor "token_embd.weight" of two dimensions`)
	}
	c.Vocab = int(min(embedding.Shape[0], 1<<30))
	_, untied := f.Tensor("output.weight")
	c.Tied = !untied
	return c, first
}

var ggufNames = map[string]string{
	"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
	"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
	"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}

var ggufLayer = regexp.MustCompile(`^blk\.(\d+)\.(\w+)\.weight$`)

// huggingFaceName translates; what has no translation stays as it is.
func huggingFaceName(name string) string {
	switch name {
	case "token_embd.weight":
		return embedName
	case "output_norm.weight":
		return normName
	case "output.weight":
		return headName
	}
	if m := ggufLayer.FindStringSubmatch(name); m != nil && ggufNames[m[2]] != "" {
		return "model.layers." + m[1] + "." + ggufNames[m[2]] + ".weight"
	}
	return name
}

func (w ggufWeights) names() []string { return slices.Sorted(maps.Keys(w.stored)) }

func (w ggufWeights) read(name string, shape []int64) ([]float32, error) {
	stored, ok := w.stored[name]
	if !ok {
		return nil, fmt.Errorf("there is no tensor %q: the file holds another architecture, or lacks a part", name)
	}
	values, err := w.Float32(stored, shape...)
	if err != nil {
		return nil, err
	}
	switch {
	case strings.HasSuffix(stored, ".attn_q.weight"):
		return unpermute(values, w.config.Heads, w.config.HeadDim, w.config.Dim), nil
	case strings.HasSuffix(stored, ".attn_k.weight"):
		return unpermute(values, w.config.KVHeads, w.config.HeadDim, w.config.Dim), nil
	}
	return values, nil
}

// unpermute puts the rows of q or k back. llama.cpp's converter orders a head's
// rows 0, d/2, 1, d/2+1, ... because its rotary embedding turns neighbours; ours
// turns row i with row i+d/2, as the original does.
func unpermute(w []float32, heads, headDim, columns int) []float32 {
	out := make([]float32, len(w))
	for h := range heads {
		for i := range headDim / 2 {
			for half := range 2 {
				from, to := h*headDim+2*i+half, h*headDim+half*headDim/2+i
				copy(out[to*columns:(to+1)*columns], w[from*columns:(from+1)*columns])
			}
		}
	}
	return out
}
