package llm

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/cpu"

	"seralm/models/tensor"
	"seralm/models/tokenizer"
)

// Options are how a model computes.
type Options struct {
	Device  string // "cpu" (or "") or "cuda:N"
	Threads int    // of libtorch; 0 = all cores
	Type    string // of weights and arithmetic: "float32" (or ""), "bf16", or "auto": what the device computes faster
	Batch   int    // most sequences computed at a time; 0 = 16
}

const defaultBatch = 16

func (o Options) kind() (tensor.Kind, error) {
	switch o.Type {
	case "", "float32":
		return tensor.Float32, nil
	case "bf16":
		return tensor.BFloat16, nil
	case "auto":
		// A processor without instructions for it emulates bfloat16, thirty times slower.
		if strings.HasPrefix(o.Device, "cuda") || cpu.X86.HasAVX512BF16 || cpu.X86.HasAMXBF16 {
			return tensor.BFloat16, nil
		}
		return tensor.Float32, nil
	}
	return 0, fmt.Errorf("type %q: it is float32, bf16 or auto", o.Type)
}

// files is what the two file formats are reduced to.
type files struct {
	config    Config
	tokenizer *tokenizer.BPE
	template  string // Jinja; "" where there is none
	eos       []int32
	weights   weights
}

// weights reads tensors by their Hugging Face names.
type weights interface {
	// names of all tensors that there are.
	names() []string
	// read returns a tensor's values, rows first; its shape must be the one given.
	read(name string, shape []int64) ([]float32, error)
	Close() error
}

// Load reads a model: a GGUF file, or a folder as Hugging Face writes it
// (config.json, tokenizer.json, model.safetensors or its index).
func Load(path string, o Options) (*Model, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("language model: %w", err)
	}
	var f *files
	if info.IsDir() {
		f, err = openFolder(path)
	} else {
		f, err = openGGUF(path)
	}
	if err != nil {
		return nil, fmt.Errorf("language model %s: %w", path, err)
	}
	m, err := build(f, o)
	if err := errors.Join(err, f.weights.Close()); err != nil {
		return nil, fmt.Errorf("language model %s: %w", path, err)
	}
	return m, nil
}

// check compares what the files say of each other, before weights are read.
func (f *files) check() error {
	if err := f.config.validate(); err != nil {
		return err
	}
	if size := f.tokenizer.Size(); size > f.config.Vocab {
		return fmt.Errorf("the tokenizer has %d tokens, the model %d: they are not of one model", size, f.config.Vocab)
	}
	for _, id := range f.eos {
		if id < 0 || int(id) >= f.config.Vocab {
			return fmt.Errorf("end-of-sequence token %d is not among the model's %d", id, f.config.Vocab)
		}
	}
	if len(f.eos) == 0 {
		return errors.New("no end-of-sequence token is named: no text would end")
	}
	known := f.config.tensors()
	for _, name := range f.weights.names() {
		if _, ok := known[name]; !ok {
			return fmt.Errorf("tensor %q is none of a plain llama's: the model computes something that this does not", name)
		}
	}
	return nil
}

// build reads the weights and starts the model's thread.
func build(f *files, o Options) (*Model, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	kind, err := o.kind()
	if err != nil {
		return nil, err
	}
	if o.Batch < 0 {
		return nil, fmt.Errorf("batch of %d sequences", o.Batch)
	}
	m := &Model{config: f.config, tokenizer: f.tokenizer, template: parseTemplate(f.template), kind: kind, batch: o.Batch, stop: slices.Clone(f.eos)}
	if m.batch == 0 {
		m.batch = defaultBatch
	}
	if id, ok := m.tokenizer.ID(m.template.endOfTurn); ok && m.template.endOfTurn != "" {
		m.stop = append(m.stop, id)
	}
	if m.thread, err = tensor.Start(tensor.Options{Threads: o.Threads, Device: o.Device}); err != nil {
		return nil, err
	}
	opErr := m.thread.Do(func(s *tensor.Scope) { err = m.fill(s, f.weights) })
	if err := errors.Join(err, opErr); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// fill makes the model's tensors of the weights.
func (m *Model) fill(s *tensor.Scope, w weights) error {
	shapes := m.config.tensors()
	var err error
	get := func(name string) (t *tensor.Tensor) {
		if err != nil {
			return nil
		}
		var values []float32
		if values, err = w.read(name, shapes[name]); err != nil {
			return nil
		}
		m.fingerprint = fingerprint(m.fingerprint, name, values)
		s.Sub(func(s *tensor.Scope) { t = s.Keep(s.To(s.F32(values, shapes[name]...), m.kind)) })
		m.kept = append(m.kept, t)
		return t
	}
	m.embed, m.norm = get(embedName), get(normName)
	m.head = linear{weight: m.embed}
	if !m.config.Tied {
		m.head = linear{weight: get(headName)}
	}
	for i := range m.config.Layers {
		at := func(part string) *tensor.Tensor { return get(layerName(i, part)) }
		weight := func(part string) linear { return linear{weight: at(part)} }
		m.layers = append(m.layers, layer{
			attentionNorm: at("input_layernorm"),
			q:             weight("self_attn.q_proj"), k: weight("self_attn.k_proj"),
			v: weight("self_attn.v_proj"), o: weight("self_attn.o_proj"),
			innerNorm: at("post_attention_layernorm"),
			gate:      weight("mlp.gate_proj"), up: weight("mlp.up_proj"), down: weight("mlp.down_proj"),
		})
	}
	return err
}

// fingerprint tells models of one shape apart: by the first numbers of each tensor, as
// the file has them, whatever they are computed in.
func fingerprint(so uint64, name string, values []float32) uint64 {
	for _, b := range []byte(name) {
		so = mix(so ^ uint64(b))
	}
	for _, v := range values[:min(len(values), 256)] {
		so = mix(so ^ uint64(math.Float32bits(v)))
	}
	return so
}
