// Package native makes the model that the policy's trainer teaches of a language model on
// libtorch (models/llm). It is apart from package policy so that the latter can be
// tested, under the race detector too, without libtorch.
package native

import (
	"context"
	"errors"
	"fmt"

	"seralm/config"
	"seralm/consumers/internal/adapted"
	"seralm/consumers/trainer/policy"
	"seralm/models/llm"
	"seralm/stream"
)

// Model implements policy.Model. Close it after use.
type Model struct{ adapted *adapted.Policy }

// Load reads the language model that the configuration names, with an adapter that has
// learnt nothing yet.
func Load(cfg config.Config) (*Model, error) {
	p, err := adapted.Load(cfg)
	if err != nil {
		return nil, err
	}
	return &Model{p}, nil
}

// New makes a model to teach of one that is there already, and becomes the new one's.
func New(m *llm.Model, name string, a config.Alignment) (*Model, error) {
	p, err := adapted.New(m, name, a)
	if err != nil {
		return nil, err
	}
	return &Model{p}, nil
}

// Name implements policy.Model.
func (m *Model) Name() string { return m.adapted.Name() }

// Check implements policy.Model.
func (m *Model) Check(t policy.Text) error {
	chats, err := m.adapted.Chats([]stream.SamplePrompt{t.Prompt})
	if err != nil {
		return err
	}
	c := m.adapted.Model.Config()
	if n := len(chats[0]) + len(t.Tokens); n > c.Context {
		return fmt.Errorf("its %d tokens, those of the prompt among them, exceed the model's context of %d", n, c.Context)
	}
	for _, id := range t.Tokens {
		if id < 0 || int(id) >= c.Vocab {
			return fmt.Errorf("token %d is not among the model's %d", id, c.Vocab)
		}
	}
	return nil
}

// LogProbs implements policy.Model.
func (m *Model) LogProbs(ctx context.Context, texts []policy.Text, temperature float64) ([][]float32, error) {
	chats, tokens, err := m.parts(texts)
	if err != nil {
		return nil, err
	}
	return m.adapted.Model.LogProbs(ctx, chats, tokens, temperature)
}

func (m *Model) parts(texts []policy.Text) ([]llm.Prompt, [][]int32, error) {
	prompts, tokens := make([]stream.SamplePrompt, len(texts)), make([][]int32, len(texts))
	for i, t := range texts {
		prompts[i], tokens[i] = t.Prompt, t.Tokens
	}
	chats, err := m.adapted.Chats(prompts)
	return chats, tokens, err
}

// Train implements policy.Model.
func (m *Model) Train(ctx context.Context, texts []policy.Text, temperature float64) (policy.Update, error) {
	chats, tokens, err := m.parts(texts)
	if err != nil {
		return policy.Update{}, err
	}
	examples := make([]llm.Example, len(texts))
	for i := range texts {
		examples[i] = llm.Example{Prompt: chats[i], Tokens: tokens[i], Coefficients: texts[i].Coefficients}
	}
	u, err := m.adapted.Train(ctx, examples, temperature)
	var numeric *llm.NumericError
	if errors.As(err, &numeric) {
		return policy.Update{}, fmt.Errorf("%w: %w", policy.ErrNotFinite, err)
	}
	return policy.Update{Norm: u.Norm}, err
}

// Adapter implements policy.Model.
func (m *Model) Adapter() ([]byte, error) { return m.adapted.Adapter() }

// Save implements policy.Model.
func (m *Model) Save() ([]byte, error) { return m.adapted.Save() }

// Restore implements policy.Model.
func (m *Model) Restore(saved []byte) error { return m.adapted.Resume(saved) }

// Close frees the model.
func (m *Model) Close() { m.adapted.Close() }
