package llm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/tensor"

	"seralm/models/safetensors"
)

// copyFolder is the tiny model, to be damaged.
func copyFolder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/tiny")))
	return dir
}

// setJSON replaces one field of a JSON file of the folder.
func setJSON(t testing.TB, dir, name, key string, value any) {
	t.Helper()
	path := filepath.Join(dir, name)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var d map[string]any
	require.NoError(t, json.Unmarshal(raw, &d))
	d[key] = value
	raw, err = json.Marshal(d)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, raw, 0o600))
}

const shard = "model-00001-of-00003.safetensors"

// rewrite changes the tensors of the first file.
func rewrite(t testing.TB, dir string, f func(name string) (string, bool)) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, shard))
	require.NoError(t, err)
	all, _, err := safetensors.Decode(raw)
	require.NoError(t, err)
	var out []safetensors.Named
	for _, x := range all {
		if name, ok := f(x.Name); ok {
			x.Name = name
			out = append(out, x)
		}
	}
	raw, err = safetensors.Encode(out, nil)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, shard), raw, 0o600))
}

// Each folder lacks or contradicts something; the error says what and where.
func TestFoldersThatAreRefused(t *testing.T) {
	config := func(key string, value any) func(*testing.T, string) {
		return func(t *testing.T, dir string) { setJSON(t, dir, "config.json", key, value) }
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, name))) }
	}
	write := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
	}
	for name, c := range map[string]struct {
		damage func(*testing.T, string)
		want   string
	}{
		"no config":               {remove("config.json"), "config.json"},
		"config is no JSON":       {write("config.json", "<html>"), "config.json: invalid character"},
		"another architecture":    {config("model_type", "mistral"), `model_type is "mistral"; this computes llama`},
		"another activation":      {config("hidden_act", "gelu"), `hidden_act is "gelu"`},
		"biases":                  {config("attention_bias", true), "attention_bias"},
		"stretched positions":     {config("rope_parameters", map[string]any{"rope_type": "llama3"}), "rope_scaling"},
		"stretched, older":        {config("rope_scaling", map[string]any{"type": "linear", "factor": 2}), "rope_scaling"},
		"no heads":                {config("num_attention_heads", 0), "num_attention_heads is 0"},
		"heads that do not share": {config("num_key_value_heads", 3), "3 key-value heads do not divide 4"},
		"odd heads":               {config("head_dim", 7), "size of a head is 7"},
		"no layers":               {config("num_hidden_layers", 0), "number of layers is 0"},
		"endless layers":          {config("num_hidden_layers", 1<<30), "number of layers is 1073741824"},
		"negative size":           {config("hidden_size", -32), "hidden size is -32"},
		"no epsilon":              {config("rms_norm_eps", 0), "epsilon"},
		"a layer too many":        {config("num_hidden_layers", 3), `no tensor "model.layers.2.`},
		"a layer too few":         {config("num_hidden_layers", 1), "none of a plain llama's"},
		"another width":           {config("intermediate_size", 64), `has shape [48 32], want [64 32]`},
		"tied, with a head":       {config("tie_word_embeddings", true), `"lm_head.weight" is none`},
		"smaller vocabulary":      {config("vocab_size", 512), "the tokenizer has 600 tokens, the model 512: they are not of one model"},
		"larger vocabulary":       {config("vocab_size", 640), "has shape [600 32], want [640 32]"},
		"no tokenizer":            {remove("tokenizer.json"), "tokenizer.json"},
		"another tokenizer":       {write("tokenizer.json", `{"model":{"type":"Unigram"}}`), "want BPE"},
		"no end": {func(t *testing.T, dir string) {
			setJSON(t, dir, "config.json", "eos_token_id", nil)
			setJSON(t, dir, "generation_config.json", "eos_token_id", []int{})
		}, "no end-of-sequence token"},
		"end out of range": {func(t *testing.T, dir string) {
			setJSON(t, dir, "generation_config.json", "eos_token_id", []int{2, 600})
		}, "token 600 is not among"},
		"no index":              {remove("model.safetensors.index.json"), "model.safetensors"},
		"index is no JSON":      {write("model.safetensors.index.json", "{"), "index.json"},
		"index leads elsewhere": {write("model.safetensors.index.json", `{"weight_map":{"a":"../config.json"}}`), `"../config.json", which is not a file beside it`},
		"a file is missing":     {remove(shard), shard},
		"a file is cut short": {func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, shard), 20_000))
		}, shard},
		"a tensor is missing": {func(t *testing.T, dir string) {
			rewrite(t, dir, func(n string) (string, bool) { return n, n != "lm_head.weight" && n != "model.embed_tokens.weight" })
		}, "there is no tensor"},
		"a tensor too many": {func(t *testing.T, dir string) {
			rewrite(t, dir, func(n string) (string, bool) { return strings.Replace(n, "weight", "lora", 1), true })
		}, "none of a plain llama's"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyFolder(t)
			c.damage(t, dir)
			_, err := Load(dir, Options{})
			require.ErrorContains(t, err, "language model "+dir)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// Old files spell some things differently.
func TestFolderOfAnOlderVersion(t *testing.T) {
	dir := copyFolder(t)
	setJSON(t, dir, "config.json", "rope_parameters", nil)
	setJSON(t, dir, "config.json", "rope_theta", 10000.0)
	setJSON(t, dir, "config.json", "head_dim", nil)
	template, err := os.ReadFile(filepath.Join(dir, "chat_template.jinja"))
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "chat_template.jinja")))
	setJSON(t, dir, "tokenizer_config.json", "chat_template", string(template))
	require.NoError(t, os.Remove(filepath.Join(dir, "generation_config.json")))
	agrees(t, load(t, dir, Options{Threads: 1}), readReferences(t, "tiny.json"), 1, 12)
}

func TestGGUFFilesThatAreRefused(t *testing.T) {
	whole, err := os.ReadFile("testdata/tiny.gguf")
	require.NoError(t, err)
	swap := func(from, to string) []byte {
		require.Len(t, to, len(from))
		require.Contains(t, string(whole), from)
		return []byte(strings.ReplaceAll(string(whole), from, to))
	}
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"cut short":            {whole[:len(whole)-1000], "cut short"},
		"a web page":           {[]byte("<!DOCTYPE html>"), "GGUF"},
		"another architecture": {swap("architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00llama", "architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00qwen2"), `architecture is "qwen2"; this computes llama`},
		"no layers":            {swap("llama.block_count", "llama.block_kount"), "llama.block_count"},
		"no end":               {swap("tokenizer.ggml.eos_token_id", "tokenizer.ggml.sos_token_id"), "no end-of-sequence token"},
		"experts":              {swap("llama.rope.freq_base", "llama.expert_of_base"), "mixtures of experts"},
		"stretched positions":  {swap("llama.rope.freq_base", "llama.rope.scaling.x"), "stretch"},
		"half-turned heads":    {swap("llama.rope.dimension_count\x04\x00\x00\x00\x08", "llama.rope.dimension_count\x04\x00\x00\x00\x04"), "4 of 8 dimensions"},
		"a bias":               {swap("blk.1.attn_q.weight", "blk.1.attn_q.bias.."), "none of a plain llama's"},
		"no embedding":         {swap("token_embd.weight", "token_embX.weight"), "token_embd.weight"},
		"tensor is missing":    {swap("blk.1.ffn_up.weight", "blk.1.ffn_up.weighX"), "none of a plain llama's"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "model.gguf")
			require.NoError(t, os.WriteFile(path, c.raw, 0o600))
			_, err := Load(path, Options{})
			require.ErrorContains(t, err, "language model "+path)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestTheTypeIsThatWhichTheDeviceComputes(t *testing.T) {
	kind, err := Options{Type: "auto", Device: "cuda:0"}.kind()
	require.NoError(t, err)
	require.Equal(t, tensor.BFloat16, kind)
	m, err := Load("testdata/tiny", Options{Type: "auto"})
	require.NoError(t, err)
	m.Close()
}

func TestOptionsThatAreRefused(t *testing.T) {
	for want, o := range map[string]Options{
		`type "fp16": it is float32, bf16 or auto`: {Type: "fp16"},
		`no such device "gpu"`:                     {Device: "gpu"},
		`-1 threads`:                               {Threads: -1},
		`batch of -1`:                              {Batch: -1},
	} {
		_, err := Load("testdata/tiny", o)
		require.ErrorContains(t, err, want)
	}
	_, err := Load(filepath.Join(t.TempDir(), "absent.gguf"), Options{})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "absent.gguf")
}

// No config.json makes the reader panic, and what it accepts has shapes in bounds.
func FuzzConfig(f *testing.F) {
	raw, err := os.ReadFile("testdata/tiny/config.json")
	require.NoError(f, err)
	f.Add(raw)
	f.Add([]byte(`{"model_type":"llama","hidden_act":"silu","num_attention_heads":1,"eos_token_id":[1,2],"rope_scaling":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var h hfConfig
		if json.Unmarshal(raw, &h) != nil {
			return
		}
		c, err := h.config()
		if err != nil || c.validate() != nil {
			return
		}
		for name, shape := range c.tensors() {
			for _, n := range shape {
				require.Positive(t, n, name)
				require.LessOrEqual(t, n, int64(1<<20), name)
			}
		}
	})
}
