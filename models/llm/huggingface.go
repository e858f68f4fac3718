package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"seralm/models/safetensors"
	"seralm/models/tokenizer"
)

// folderWeights reads the tensors of a Hugging Face folder, from one file or from
// the several that an index names.
type folderWeights struct {
	files []*safetensors.File
	where map[string]*safetensors.File
}

// maxJSON bounds the JSON files of a folder; a tokenizer.json is the largest.
const maxJSON = 64 << 20

func openFolder(dir string) (*files, error) {
	out := &files{}
	var c hfConfig
	if err := readJSON(dir, "config.json", &c); err != nil {
		return nil, err
	}
	var err error
	if out.config, err = c.config(); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	raw, err := readFile(dir, "tokenizer.json")
	if err != nil {
		return nil, err
	}
	if out.tokenizer, err = tokenizer.BPEFromJSON(raw); err != nil {
		return nil, err
	}
	// What generation_config.json says goes first: an instruction-tuned model may end
	// a turn with another token than a text.
	out.eos = c.EOS
	var g struct {
		EOS oneOrMore `json:"eos_token_id"`
	}
	if err := readJSON(dir, "generation_config.json", &g); err == nil && len(g.EOS) > 0 {
		out.eos = g.EOS
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if out.template, err = folderTemplate(dir); err != nil {
		return nil, err
	}
	if out.weights, err = openWeights(dir); err != nil {
		return nil, err
	}
	return out, nil
}

// hfConfig is what this reads of a config.json.
type hfConfig struct {
	ModelType   string  `json:"model_type"`
	Activation  string  `json:"hidden_act"`
	Vocab       int     `json:"vocab_size"`
	Dim         int     `json:"hidden_size"`
	Layers      int     `json:"num_hidden_layers"`
	Heads       int     `json:"num_attention_heads"`
	KVHeads     int     `json:"num_key_value_heads"`
	HeadDim     int     `json:"head_dim"`
	Inner       int     `json:"intermediate_size"`
	Context     int     `json:"max_position_embeddings"`
	Eps         float64 `json:"rms_norm_eps"`
	Theta       float64 `json:"rope_theta"`
	RopeScaling any     `json:"rope_scaling"`
	Rope        struct {
		Theta float64 `json:"rope_theta"`
		Type  string  `json:"rope_type"`
	} `json:"rope_parameters"`
	Tied          bool      `json:"tie_word_embeddings"`
	AttentionBias bool      `json:"attention_bias"`
	InnerBias     bool      `json:"mlp_bias"`
	EOS           oneOrMore `json:"eos_token_id"`
}

// oneOrMore token ids: written as a number, a list or null.
type oneOrMore []int32

func (o *oneOrMore) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte("[")) {
		return json.Unmarshal(b, (*[]int32)(o))
	}
	var id *int32
	if err := json.Unmarshal(b, &id); err != nil || id == nil {
		return err
	}
	*o = oneOrMore{*id}
	return nil
}

func (h hfConfig) config() (Config, error) {
	switch {
	case h.ModelType != "llama":
		return Config{}, fmt.Errorf("model_type is %.40q; this computes llama", h.ModelType)
	case h.Activation != "silu":
		return Config{}, fmt.Errorf("hidden_act is %.40q; this computes silu", h.Activation)
	case h.AttentionBias || h.InnerBias:
		return Config{}, errors.New("attention_bias or mlp_bias is set; this computes without")
	case h.RopeScaling != nil || h.Rope.Type != "" && h.Rope.Type != "default":
		return Config{}, errors.New("rope_scaling is set; this does not stretch the rotary embedding")
	case h.Heads < 1:
		return Config{}, fmt.Errorf("num_attention_heads is %d", h.Heads)
	}
	c := Config{Vocab: h.Vocab, Dim: h.Dim, Layers: h.Layers, Heads: h.Heads, KVHeads: h.KVHeads, HeadDim: h.HeadDim, Inner: h.Inner,
		Context: h.Context, Eps: h.Eps, Theta: 10000, Tied: h.Tied}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 {
		c.HeadDim = c.Dim / c.Heads
	}
	if theta := max(h.Theta, h.Rope.Theta); theta > 0 {
		c.Theta = theta
	}
	return c, nil
}

// folderTemplate finds the chat template, "" where there is none: a file of its own
// since transformers 4.43, a field of tokenizer_config.json before.
func folderTemplate(dir string) (string, error) {
	raw, err := readFile(dir, "chat_template.jinja")
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return string(raw), err
	}
	var t struct {
		Template any `json:"chat_template"`
	}
	if err := readJSON(dir, "tokenizer_config.json", &t); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	text, _ := t.Template.(string) // a list of templates by purpose is as good as none
	return text, nil
}

func openWeights(dir string) (weights, error) {
	w := &folderWeights{where: map[string]*safetensors.File{}}
	names := []string{"model.safetensors"}
	var index struct {
		Map map[string]string `json:"weight_map"`
	}
	switch err := readJSON(dir, "model.safetensors.index.json", &index); {
	case err == nil:
		names = names[:0]
		for _, file := range index.Map {
			if filepath.Base(file) != file || !filepath.IsLocal(file) {
				return nil, fmt.Errorf("model.safetensors.index.json names %.80q, which is not a file beside it", file)
			}
			if !slices.Contains(names, file) {
				names = append(names, file)
			}
		}
		slices.Sort(names)
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	for _, name := range names {
		f, err := safetensors.Open(filepath.Join(dir, name))
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.files = append(w.files, f)
		for _, tensor := range f.Names() {
			w.where[tensor] = f
		}
	}
	return w, nil
}

func (w *folderWeights) names() []string {
	var out []string
	for name := range w.where {
		if !strings.HasSuffix(name, ".rotary_emb.inv_freq") { // old files keep what theta gives
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (w *folderWeights) read(name string, shape []int64) ([]float32, error) {
	f := w.where[name]
	if f == nil {
		return nil, fmt.Errorf("there is no tensor %q: a file is missing, or the folder holds another architecture", name)
	}
	t, _, err := f.Read(name)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(t.Shape, shape) {
		return nil, fmt.Errorf("tensor %q has shape %v, want %v as config.json has it", name, t.Shape, shape)
	}
	return t.Float32s()
}

func (w *folderWeights) Close() error {
	var errs []error
	for _, f := range w.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

func readFile(dir, name string) ([]byte, error) {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxJSON {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", path, info.Size(), maxJSON)
	}
	return os.ReadFile(path)
}

func readJSON(dir, name string, into any) error {
	raw, err := readFile(dir, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return nil
}
