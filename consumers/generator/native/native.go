// Package native makes what the generator computes with: its policy of a language model
// on libtorch (models/llm), and user vectors of a recommender's snapshot with ONNX
// Runtime (models/onnx), as they are served. Its encoder is that of knowledge
// (pregenerator/native.LoadEncoder).
//
// It is apart from package generator so that the latter can be tested, under the race
// detector too, without native libraries.
package native

import (
	"context"
	"fmt"
	"slices"

	"seralm/config"
	"seralm/consumers/generator"
	"seralm/consumers/internal/adapted"
	"seralm/models/llm"
	"seralm/models/onnx"
	"seralm/models/snapshot"
	"seralm/stream"
)

// Policy implements generator.Policy. Close it after use.
type Policy struct {
	adapted  *adapted.Policy
	step     int64
	sampling llm.Sampling
}

// LoadPolicy reads the language model that the configuration names. Its adapter has
// learnt nothing yet.
func LoadPolicy(cfg config.Config) (*Policy, error) {
	p, err := adapted.Load(cfg)
	if err != nil {
		return nil, err
	}
	return newPolicy(p, cfg.Alignment), nil
}

// NewPolicy makes a policy of a model that is there already, and becomes the policy's.
func NewPolicy(m *llm.Model, name string, a config.Alignment) (*Policy, error) {
	p, err := adapted.New(m, name, a)
	if err != nil {
		return nil, err
	}
	return newPolicy(p, a), nil
}

func newPolicy(p *adapted.Policy, a config.Alignment) *Policy {
	return &Policy{adapted: p, sampling: llm.Sampling{Temperature: a.Temperature, MaxTokens: a.MaxTokens}}
}

// Version implements generator.Policy.
func (p *Policy) Version() stream.ModelVersion {
	return stream.ModelVersion{Name: p.adapted.Name(), Step: p.step}
}

// Load implements generator.Policy.
func (p *Policy) Load(s stream.PolicySnapshot) error {
	if s.Policy.Name != p.adapted.Name() {
		return fmt.Errorf("it is of %s, the model and adapter here are %s", s.Policy.Name, p.adapted.Name())
	}
	if err := p.adapted.Take(s.Adapter); err != nil {
		return err
	}
	p.step = s.Policy.Step
	return nil
}

// Sample implements generator.Policy. Log-probabilities are computed as the trainer
// does, all texts in one company: see llm.Policy.LogProbs.
func (p *Policy) Sample(ctx context.Context, prompts []stream.SamplePrompt, k int, seed uint64) ([][]generator.Text, error) {
	chats, completions, err := p.write(ctx, prompts, k, seed)
	if err != nil {
		return nil, err
	}
	tokens := make([][]int32, len(completions))
	for i, c := range completions {
		tokens[i] = c.Tokens
	}
	behaviour, reference, err := p.adapted.LogProbs(ctx, chats, tokens, p.sampling.Temperature)
	if err != nil {
		return nil, err
	}
	texts := make([]generator.Text, len(completions))
	for i, c := range completions {
		texts[i] = generator.Text{Text: c.Text, Tokens: c.Tokens, Behaviour: behaviour[i], Reference: reference[i]}
	}
	return slices.Collect(slices.Chunk(texts, k)), nil
}

// Write samples k texts to each prompt, as Sample does, without what is needed to learn
// from them.
func (p *Policy) Write(ctx context.Context, prompts []stream.SamplePrompt, k int, seed uint64) ([][]string, error) {
	_, completions, err := p.write(ctx, prompts, k, seed)
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(completions))
	for i, c := range completions {
		texts[i] = c.Text
	}
	return slices.Collect(slices.Chunk(texts, k)), nil
}

// Answer returns the tokens that a text has as one of the policy's own: cut where those
// are.
func (p *Policy) Answer(text string) ([]int32, error) {
	tokens, err := p.adapted.Model.Answer(text)
	return tokens[:min(len(tokens), p.sampling.MaxTokens)], err
}

// write samples k texts to each prompt in turn.
func (p *Policy) write(ctx context.Context, prompts []stream.SamplePrompt, k int, seed uint64) ([]llm.Prompt, []llm.Completion, error) {
	chats, err := p.adapted.Chats(prompts)
	if err != nil {
		return nil, nil, err
	}
	each := make([]llm.Prompt, 0, k*len(chats))
	for _, chat := range chats {
		for range k {
			each = append(each, chat)
		}
	}
	o := p.sampling
	o.Seed = seed
	completions, err := p.adapted.Model.Generate(ctx, each, o)
	return each, completions, err
}

// Close frees the model.
func (p *Policy) Close() { p.adapted.Close() }

// Open implements generator.Open. onnx.Init comes before.
func Open(s *snapshot.Snapshot, extra int) (generator.Users, error) {
	return onnx.NewUsers(s, extra)
}
