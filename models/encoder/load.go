package encoder

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"seralm/models/safetensors"
	"seralm/models/tensor"
	"seralm/models/tokenizer"
)

// Options are how an encoder computes.
type Options struct {
	Device  string // "cpu" (or "") or "cuda:N"
	Threads int    // of libtorch; 0 = all cores
	Type    string // of weights and arithmetic: "float32" (or "") or "bf16"; trained weights are float32

	Train        string  // "frozen" (or ""), "last" (its last layer) or "full" (every weight)
	LearningRate float64 // of Adam
	ClipNorm     float64 // 0 = off
}

// config is what this reads of a config.json.
type config struct {
	ModelType  string  `json:"model_type"`
	Activation string  `json:"hidden_act"`
	Position   string  `json:"position_embedding_type"`
	Vocab      int64   `json:"vocab_size"`
	Dim        int64   `json:"hidden_size"`
	Layers     int     `json:"num_hidden_layers"`
	Heads      int64   `json:"num_attention_heads"`
	Inner      int64   `json:"intermediate_size"`
	Positions  int64   `json:"max_position_embeddings"`
	Types      int64   `json:"type_vocab_size"`
	Eps        float64 `json:"layer_norm_eps"`
}

func (c config) validate() error {
	switch {
	case c.ModelType != "bert":
		return fmt.Errorf("model_type is %.40q; this computes bert", c.ModelType)
	case c.Activation != "gelu":
		return fmt.Errorf("hidden_act is %.40q; this computes gelu", c.Activation)
	case c.Position != "" && c.Position != "absolute":
		return fmt.Errorf("position_embedding_type is %.40q; this computes absolute", c.Position)
	case !(c.Eps > 0 && c.Eps < 1):
		return fmt.Errorf("layer_norm_eps is %v", c.Eps)
	}
	for name, v := range map[string]int64{"vocab_size": c.Vocab, "hidden_size": c.Dim, "num_hidden_layers": int64(c.Layers), "num_attention_heads": c.Heads,
		"intermediate_size": c.Inner, "max_position_embeddings": c.Positions, "type_vocab_size": c.Types} {
		if v < 1 || v > 1<<20 {
			return fmt.Errorf("%s is %d, want 1 to %d", name, v, 1<<20)
		}
	}
	if c.Layers > 1<<10 {
		return fmt.Errorf("num_hidden_layers is %d, want at most %d", c.Layers, 1<<10)
	}
	if c.Dim%c.Heads != 0 {
		return fmt.Errorf("%d heads do not divide hidden_size %d", c.Heads, c.Dim)
	}
	if c.Positions < minTokens {
		return fmt.Errorf("max_position_embeddings is %d: no text fits", c.Positions)
	}
	return nil
}

// tensors lists the weights, under Hugging Face's names, with their shapes.
func (c config) tensors() map[string][]int64 {
	out := map[string][]int64{
		"embeddings.word_embeddings.weight":       {c.Vocab, c.Dim},
		"embeddings.position_embeddings.weight":   {c.Positions, c.Dim},
		"embeddings.token_type_embeddings.weight": {c.Types, c.Dim},
	}
	linear := func(name string, rows, columns int64) {
		out[name+".weight"], out[name+".bias"] = []int64{rows, columns}, []int64{rows}
	}
	norm := func(name string) { out[name+".weight"], out[name+".bias"] = []int64{c.Dim}, []int64{c.Dim} }
	norm("embeddings.LayerNorm")
	for i := range c.Layers {
		for _, part := range []string{"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"} {
			linear(layerName(i, part), c.Dim, c.Dim)
		}
		linear(layerName(i, "intermediate.dense"), c.Inner, c.Dim)
		linear(layerName(i, "output.dense"), c.Dim, c.Inner)
		norm(layerName(i, "attention.output.LayerNorm"))
		norm(layerName(i, "output.LayerNorm"))
	}
	return out
}

func layerName(i int, part string) string { return fmt.Sprintf("encoder.layer.%d.%s", i, part) }

// Load reads an encoder from a folder as Hugging Face writes it: config.json,
// tokenizer.json, model.safetensors.
func Load(dir string, o Options) (*Encoder, error) {
	e, err := load(dir, o)
	if err != nil {
		return nil, fmt.Errorf("encoder %s: %w", dir, err)
	}
	return e, nil
}

func load(dir string, o Options) (*Encoder, error) {
	e := &Encoder{kind: tensor.Float32, weights: map[string]*tensor.Tensor{}, params: tensor.NewParams()}
	switch o.Type {
	case "", "float32":
	case "bf16":
		e.kind = tensor.BFloat16
	default:
		return nil, fmt.Errorf("type %q: it is float32 or bf16", o.Type)
	}
	switch o.Train {
	case "", "frozen":
	case last, full:
		if !(o.LearningRate > 0) {
			return nil, fmt.Errorf("learning rate %v: training wants one above 0", o.LearningRate)
		}
		e.train, e.adam = o.Train, tensor.DefaultAdam(o.LearningRate)
		e.adam.ClipNorm = o.ClipNorm
	default:
		return nil, fmt.Errorf("train %q: it is frozen, last or full", o.Train)
	}
	hash := sha256.New()
	raw, err := readFile(dir, "config.json", hash)
	if err != nil {
		return nil, err
	}
	if err = json.Unmarshal(raw, &e.config); err == nil {
		err = e.config.validate()
	}
	if err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	if raw, err = readFile(dir, "tokenizer.json", hash); err != nil {
		return nil, err
	}
	if e.tokenizer, err = tokenizer.WordPieceFromJSON(raw); err != nil {
		return nil, err
	}
	if size := int64(e.tokenizer.Size()); size > e.config.Vocab {
		return nil, fmt.Errorf("the tokenizer has %d tokens, the model %d: they are not of one model", size, e.config.Vocab)
	}
	f, err := safetensors.Open(filepath.Join(dir, weightsFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := e.start(f, o); err != nil {
		return nil, err
	}
	if err := hashFile(filepath.Join(dir, weightsFile), hash); err != nil {
		e.Close()
		return nil, err
	}
	e.files = hex.EncodeToString(hash.Sum(nil)[:8])
	return e, nil
}

const weightsFile = "model.safetensors"

// start begins the thread and reads the weights.
func (e *Encoder) start(f *safetensors.File, o Options) error {
	known := e.config.tensors()
	for _, name := range f.Names() {
		// The pooler is for BERT's own training task; position_ids count from 0.
		if _, ok := known[name]; !ok && !strings.HasPrefix(name, "pooler.") && name != "embeddings.position_ids" {
			return fmt.Errorf("tensor %q is none of a plain BERT's: the model computes something that this does not", name)
		}
	}
	thread, err := tensor.Start(tensor.Options{Threads: o.Threads, Device: o.Device})
	if err != nil {
		return err
	}
	e.thread = thread
	opErr := thread.Do(func(s *tensor.Scope) {
		for name, shape := range known {
			var values []float32
			if values, err = read(f, name, shape); err != nil {
				return
			}
			s.Sub(func(s *tensor.Scope) {
				if e.trains(name) {
					e.params.Add(s, name, values, shape...)
				} else {
					e.weights[name] = s.Keep(s.To(s.F32(values, shape...), e.kind))
				}
			})
		}
	})
	if err = errors.Join(err, opErr); err != nil {
		e.Close()
	}
	return err
}

func read(f *safetensors.File, name string, shape []int64) ([]float32, error) {
	t, ok, err := f.Read(name)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("%s has no tensor %q: it holds another architecture, or lacks a part", weightsFile, name)
	case !slices.Equal(t.Shape, shape):
		return nil, fmt.Errorf("tensor %q has shape %v, want %v as config.json has it", name, t.Shape, shape)
	}
	return t.Float32s()
}

// maxJSON bounds the JSON files.
const maxJSON = 64 << 20

func readFile(dir, name string, hash io.Writer) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxJSON+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxJSON {
		return nil, fmt.Errorf("%s has more than %d bytes", f.Name(), maxJSON)
	}
	// With its length, so that no two sets of files hash the same bytes.
	_, err = fmt.Fprintf(hash, "%s %d\n%s", name, len(raw), raw)
	return raw, err
}

func hashFile(path string, hash io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(hash, f)
	return err
}
