// Package native makes the two models of the pregenerator of libtorch: a language
// model (models/llm) and a text encoder (models/encoder), from files.
//
// It imports pregenerator, models and config. It is apart from package pregenerator so
// that the latter can be tested, under the race detector too, without libtorch.
package native

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cespare/xxhash/v2"

	"seralm/config"
	"seralm/consumers/pregenerator"
	"seralm/models/encoder"
	"seralm/models/llm"
	"seralm/models/snapshot"
	"seralm/stream"
)

// Writer is a language model as the pregenerator uses it, as it is or with a policy's
// adapter.
type Writer struct {
	model    *llm.Model
	version  stream.ModelVersion
	sampling llm.Sampling
	lora     llm.LoRA

	adapter *llm.Policy                // nil until the first policy is loaded
	blank   map[string]snapshot.Tensor // an adapter that has learnt nothing
	loaded  *stream.ModelVersion       // the policy; nil for the model as it is
}

// LoadWriter reads the language model that the configuration names. Close it after use.
func LoadWriter(cfg config.Config) (*Writer, error) {
	m, version, err := LoadModel(cfg)
	if err != nil {
		return nil, err
	}
	return New(m, version, cfg), nil
}

// LoadModel reads the language model that the configuration names, and says which it is.
// It can chat. Close it after use.
func LoadModel(cfg config.Config) (*llm.Model, stream.ModelVersion, error) {
	k := cfg.Knowledge
	path := k.Model
	if path == "" {
		path = cfg.Native.SmolLM2
	}
	if err := there(path, "knowledge.model", "smollm2"); err != nil {
		return nil, stream.ModelVersion{}, err
	}
	m, err := llm.Load(path, llm.Options{Device: k.Device, Threads: k.Threads, Type: k.Type, Batch: k.Batch})
	if err != nil {
		return nil, stream.ModelVersion{}, damaged(err, "knowledge.model")
	}
	sum, err := contents(path)
	if err == nil {
		_, err = m.Chat("system", "user")
	}
	if err != nil {
		m.Close()
		return nil, stream.ModelVersion{}, err
	}
	name := strings.TrimSuffix(filepath.Base(filepath.Clean(path)), ".gguf")
	return m, stream.ModelVersion{Name: name + "-" + sum}, nil
}

// New makes a writer of a model that is there already, which becomes the writer's.
func New(m *llm.Model, version stream.ModelVersion, cfg config.Config) *Writer {
	k, a := cfg.Knowledge, cfg.Alignment
	return &Writer{
		model: m, version: version, sampling: llm.Sampling{Temperature: k.Temperature, TopP: k.TopP, MaxTokens: k.MaxTokens},
		lora: llm.LoRA{Rank: a.Rank, Alpha: a.Scale, Targets: a.Targets, Seed: a.Seed, LearningRate: a.LearningRate, ClipNorm: a.ClipNorm},
	}
}

// Version names the model by its file's name and contents: in another folder it is the
// same, under another name it is not. With an adapter it is the policy's.
func (w *Writer) Version() stream.ModelVersion {
	if w.loaded != nil {
		return *w.loaded
	}
	return w.version
}

// Load takes the adapter of a policy's snapshot, or with nil is the model as it is again.
// The adapter must have been learnt on these weights, with alignment.rank, scale and
// targets as here; on an error the writer is what it was.
func (w *Writer) Load(p *stream.PolicySnapshot) error {
	if p == nil {
		if w.loaded == nil {
			return nil
		}
		if err := w.adapter.Restore(w.blank); err != nil {
			return err
		}
		w.loaded = nil
		return nil
	}
	state, err := snapshot.DecodeTensors(p.Adapter)
	if err != nil {
		return fmt.Errorf("the adapter of policy %s: %w", p.Policy, err)
	}
	if w.adapter == nil {
		if w.adapter, err = w.model.Adapt(w.lora); err != nil {
			return err
		}
		if w.blank, err = w.adapter.State(); err != nil {
			return err
		}
	}
	if err := w.adapter.Restore(state); err != nil {
		return fmt.Errorf("the adapter of policy %s: %w", p.Policy, err)
	}
	version := p.Policy
	w.loaded = &version
	return nil
}

// Write samples a text for each ask: the same ones for the same asks.
func (w *Writer) Write(ctx context.Context, asks []pregenerator.Ask, attempt int) ([]pregenerator.Answer, error) {
	seed := xxhash.New()
	prompts := make([]llm.Prompt, len(asks))
	for i, a := range asks {
		var err error
		if prompts[i], err = w.model.Chat(a.System, a.User); err != nil {
			return nil, err
		}
		_, _ = seed.WriteString(a.System + "\n" + a.User + "\n") // never fails
	}
	o := w.sampling
	o.Seed = seed.Sum64() + uint64(attempt)
	completions, err := w.model.Generate(ctx, prompts, o)
	if err != nil {
		return nil, err
	}
	answers := make([]pregenerator.Answer, len(asks))
	for i, c := range completions {
		answers[i] = pregenerator.Answer{Text: c.Text, Tokens: len(c.Tokens)}
	}
	return answers, nil
}

// Close frees the model.
func (w *Writer) Close() { w.model.Close() }

// LoadEncoder reads the text encoder that the configuration names. Close it after use.
func LoadEncoder(cfg config.Config) (*encoder.Encoder, error) {
	k := cfg.Knowledge
	dir := k.Encoder
	if dir == "" {
		dir = cfg.Native.MiniLM
	}
	if err := there(dir, "knowledge.encoder", "minilm"); err != nil {
		return nil, err
	}
	// In float32 whatever the language model's type is: its vectors are to be compared.
	e, err := encoder.Load(dir, encoder.Options{Device: k.Device, Threads: k.Threads})
	if err != nil {
		return nil, damaged(err, "knowledge.encoder")
	}
	return e, nil
}

// there says how to get weights that are not.
func there(path, key, part string) error {
	remedy := fmt.Sprintf("fetch the default ones with `python3 ops/setup/native.py setup %s` (and `make build`), or name others with %s", part, key)
	if path == "" {
		return fmt.Errorf("there are no weights: %s is empty: %s", key, remedy)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there are no weights: %w: %s", err, remedy)
	}
	return nil // other errors are told by who reads them
}

func damaged(err error, key string) error {
	return fmt.Errorf("%w (is the file whole, and of a model that this computes? %s names it)", err, key)
}

// contents is a hash of a file, or of the files of a folder with their names.
func contents(path string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(path, p) // "." for the file itself; WalkDir goes in lexical order
		if err != nil {
			return err
		}
		return add(h, name, p)
	})
	if err != nil {
		return "", fmt.Errorf("hashing the language model: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)[:4]), nil
}

func add(h hash.Hash, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintf(h, "%s %d\n", name, info.Size())
	_, err = io.Copy(h, f)
	return err
}
