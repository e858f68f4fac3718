// Package adapted makes the policy that alignment is about of a language model
// (models/llm): the model that writes knowledge, with the adapter that the configuration
// describes. The generator samples it, the policy's trainer teaches it; each has one of
// its own.
//
// It imports models, stream and config. It must never say what is sampled or learnt.
package adapted

import (
	"fmt"
	"strings"

	"seralm/config"
	"seralm/consumers/pregenerator/native"
	"seralm/models/llm"
	"seralm/models/snapshot"
	"seralm/stream"
)

// Policy is a language model with an adapter. Close it after use.
type Policy struct {
	*llm.Policy
	Model *llm.Model
	name  string
}

// Load reads the language model that the configuration names, and adapts it. The texts of
// a group are sampled in one batch: a token reads all weights, for how many texts ever.
func Load(cfg config.Config) (*Policy, error) {
	cfg.Knowledge.Batch = max(cfg.Knowledge.Batch, cfg.Alignment.Group*cfg.Alignment.Candidates)
	m, version, err := native.LoadModel(cfg)
	if err != nil {
		return nil, err
	}
	return New(m, version.Name, cfg.Alignment)
}

// New adapts a model, which becomes the policy's; name is the model's.
func New(m *llm.Model, name string, a config.Alignment) (*Policy, error) {
	p, err := m.Adapt(llm.LoRA{
		Rank: a.Rank, Alpha: a.Scale, Targets: a.Targets, Seed: a.Seed, LearningRate: a.LearningRate, ClipNorm: a.ClipNorm,
	})
	if err != nil {
		m.Close()
		return nil, err
	}
	return &Policy{p, m, fmt.Sprintf("%s+%s-lora-r%d-a%g-%s", name, a.Name, a.Rank, a.Scale, strings.Join(a.Targets, ","))}, nil
}

// Name says which model it is, of which alignment, and of what kind its adapter is; what
// was learnt is not in it. Without the alignment's name, one that begins anew beside an
// older would take its samples, and its texts would pass for those of the same step.
func (p *Policy) Name() string { return p.name }

// Chats turns prompts into tokens.
func (p *Policy) Chats(prompts []stream.SamplePrompt) ([]llm.Prompt, error) {
	out := make([]llm.Prompt, len(prompts))
	for i, ask := range prompts {
		var err error
		if out[i], err = p.Model.Chat(ask.System, ask.User); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Adapter is what is needed to sample, as snapshots carry it.
func (p *Policy) Adapter() ([]byte, error) {
	state, err := p.State()
	return encode(state, err)
}

// Save is what is needed to go on learning to the bit.
func (p *Policy) Save() ([]byte, error) {
	state, err := p.FullState()
	return encode(state, err)
}

func encode(state map[string]snapshot.Tensor, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return snapshot.EncodeTensors(state)
}

// Take is the inverse of Adapter; the optimiser begins anew.
func (p *Policy) Take(adapter []byte) error { return decode(adapter, p.Policy.Restore) }

// Resume is the inverse of Save.
func (p *Policy) Resume(saved []byte) error { return decode(saved, p.RestoreFull) }

func decode(raw []byte, restore func(map[string]snapshot.Tensor) error) error {
	state, err := snapshot.DecodeTensors(raw)
	if err != nil {
		return fmt.Errorf("the tensors of an adapter: %w", err)
	}
	return restore(state)
}

// Close frees the model.
func (p *Policy) Close() { p.Model.Close() }
