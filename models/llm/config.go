package llm

import "fmt"

// Config is the shape of a model, under the names of the papers.
type Config struct {
	Vocab, Dim, Layers      int
	Heads, KVHeads, HeadDim int     // KVHeads < Heads is grouped-query attention
	Inner                   int     // of the feed-forward layers
	Context                 int     // most tokens of a sequence
	Theta                   float64 // base of the rotary embedding
	Eps                     float64 // of RMSNorm
	Tied                    bool    // the output layer is the embedding
}

func (c Config) validate() error {
	for _, v := range []struct {
		name  string
		value int
		most  int
	}{
		{"vocabulary size", c.Vocab, 1 << 20}, {"hidden size", c.Dim, 1 << 16}, {"number of layers", c.Layers, 1 << 10},
		{"number of attention heads", c.Heads, 1 << 10}, {"number of key-value heads", c.KVHeads, 1 << 10},
		{"size of a head", c.HeadDim, 1 << 10}, {"feed-forward size", c.Inner, 1 << 20}, {"context length", c.Context, 1 << 24},
	} {
		if v.value < 1 || v.value > v.most {
			return fmt.Errorf("%s is %d, want 1 to %d", v.name, v.value, v.most)
		}
	}
	switch {
	case c.Heads%c.KVHeads != 0:
		return fmt.Errorf("%d key-value heads do not divide %d attention heads", c.KVHeads, c.Heads)
	case c.HeadDim%2 != 0:
		return fmt.Errorf("size of a head is %d: the rotary embedding turns pairs", c.HeadDim)
	case !(c.Theta > 0 && c.Theta < 1e12):
		return fmt.Errorf("base of the rotary embedding is %v", c.Theta)
	case !(c.Eps > 0 && c.Eps < 1):
		return fmt.Errorf("epsilon of RMSNorm is %v", c.Eps)
	}
	return nil
}

// names of a llama's tensors, as Hugging Face spells them, with their shapes.
func (c Config) tensors() map[string][]int64 {
	d, inner, q, kv := int64(c.Dim), int64(c.Inner), int64(c.Heads*c.HeadDim), int64(c.KVHeads*c.HeadDim)
	out := map[string][]int64{embedName: {int64(c.Vocab), d}, normName: {d}}
	if !c.Tied {
		out[headName] = []int64{int64(c.Vocab), d}
	}
	for i := range c.Layers {
		for name, shape := range map[string][]int64{
			"self_attn.q_proj": {q, d}, "self_attn.k_proj": {kv, d}, "self_attn.v_proj": {kv, d}, "self_attn.o_proj": {d, q},
			"mlp.gate_proj": {inner, d}, "mlp.up_proj": {inner, d}, "mlp.down_proj": {d, inner},
			"input_layernorm": {d}, "post_attention_layernorm": {d},
		} {
			out[layerName(i, name)] = shape
		}
	}
	return out
}

const (
	embedName = "model.embed_tokens.weight"
	normName  = "model.norm.weight"
	headName  = "lm_head.weight"
)

func layerName(i int, part string) string { return fmt.Sprintf("model.layers.%d.%s.weight", i, part) }
