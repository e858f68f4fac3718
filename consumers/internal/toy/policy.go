// Package toy is an alignment that can be checked by hand, for the tests of the two
// jobs: a policy that is a table of logits, an encoder that counts letters, and a
// recommender whose user vector is the mean of the items' rows. All of it is plain
// arithmetic, a function of its inputs to the bit, and quick.
//
// It is imported by tests only.
package toy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"seralm/consumers/generator"
	"seralm/consumers/trainer/policy"
	"seralm/stream"
)

// Sizes of the policy: a text is up to Length letters, the first Letters-1 of the
// alphabet; token 0 ends it.
const (
	Letters = 6
	Length  = 3
)

// Policy is softmax(Theta[position] / temperature) at each position, whatever was asked
// and whatever stands before. It is a generator's policy and a trainer's model.
type Policy struct {
	Kind         string // of its name: the "rank" of its adapter
	LearningRate float64
	Break        func(step int64) bool // steps whose gradient is not finite; nil = none
	state
	version int64
}

type state struct {
	Theta, M, V [Length][Letters]float64
	Steps       int64
}

// Name implements policy.Model.
func (p *Policy) Name() string { return "toy+" + p.Kind }

// Version implements generator.Policy.
func (p *Policy) Version() stream.ModelVersion {
	return stream.ModelVersion{Name: p.Name(), Step: p.version}
}

// Load implements generator.Policy.
func (p *Policy) Load(s stream.PolicySnapshot) error {
	if s.Policy.Name != p.Name() {
		return fmt.Errorf("it is of %s, not of %s", s.Policy.Name, p.Name())
	}
	p.version = s.Policy.Step
	return json.Unmarshal(s.Adapter, &p.Theta)
}

func logSoftmax(theta [Letters]float64, temperature float64) (out [Letters]float64) {
	sum := 0.0
	for _, z := range theta {
		sum += math.Exp(z / temperature)
	}
	for i, z := range theta {
		out[i] = z/temperature - math.Log(sum)
	}
	return out
}

// Sample implements generator.Policy.
func (p *Policy) Sample(_ context.Context, prompts []stream.SamplePrompt, k int, seed uint64) ([][]generator.Text, error) {
	out := make([][]generator.Text, len(prompts))
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range prompts {
		for range k {
			var t generator.Text
			for at := range Length {
				logp := logSoftmax(p.Theta[at], Temperature)
				token, u := 0, r.Float64()
				for u -= math.Exp(logp[0]); u > 0 && token < Letters-1; u -= math.Exp(logp[token]) {
					token++
				}
				if at == 0 && token == 0 {
					token = 1 // a text says something
				}
				t.Tokens = append(t.Tokens, int32(token))
				t.Behaviour = append(t.Behaviour, float32(logp[token]))
				t.Reference = append(t.Reference, float32(-math.Log(Letters)))
				if token == 0 {
					break
				}
				t.Text += string(rune('a' + token - 1))
			}
			out[i] = append(out[i], t)
		}
	}
	return out, nil
}

// Temperature that the toy samples at.
const Temperature = 1.0

// Check implements policy.Model.
func (p *Policy) Check(t policy.Text) error {
	if len(t.Tokens) > Length {
		return fmt.Errorf("its %d tokens exceed the context of %d", len(t.Tokens), Length)
	}
	for _, id := range t.Tokens {
		if id < 0 || id >= Letters {
			return fmt.Errorf("token %d is not among the model's %d", id, Letters)
		}
	}
	return nil
}

// LogProbs implements policy.Model.
func (p *Policy) LogProbs(_ context.Context, texts []policy.Text, temperature float64) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i, t := range texts {
		for at, id := range t.Tokens {
			out[i] = append(out[i], float32(logSoftmax(p.Theta[at], temperature)[id]))
		}
	}
	return out, nil
}

// Train implements policy.Model: Adam on the exact gradient.
func (p *Policy) Train(_ context.Context, texts []policy.Text, temperature float64) (policy.Update, error) {
	var gradient [Length][Letters]float64
	for _, t := range texts {
		for at, id := range t.Tokens {
			c := float64(t.Coefficients[at]) / temperature
			for i, logp := range logSoftmax(p.Theta[at], temperature) {
				gradient[at][i] -= c * math.Exp(logp)
			}
			gradient[at][id] += c
		}
	}
	p.Steps++
	norm := 0.0
	for at := range gradient {
		for _, g := range gradient[at] {
			norm += g * g
		}
	}
	if p.Break != nil && p.Break(p.Steps) || math.IsNaN(norm) {
		return policy.Update{}, fmt.Errorf("gradient norm is NaN: %w", policy.ErrNotFinite)
	}
	const b1, b2, eps = 0.9, 0.999, 1e-8
	n := float64(p.Steps)
	for at := range gradient {
		for i, g := range gradient[at] {
			p.M[at][i] = b1*p.M[at][i] + (1-b1)*g
			p.V[at][i] = b2*p.V[at][i] + (1-b2)*g*g
			p.Theta[at][i] += p.LearningRate * p.M[at][i] / (1 - math.Pow(b1, n)) / (math.Sqrt(p.V[at][i]/(1-math.Pow(b2, n))) + eps)
		}
	}
	return policy.Update{Norm: math.Sqrt(norm)}, nil
}

// Adapter implements policy.Model.
func (p *Policy) Adapter() ([]byte, error) { return json.Marshal(p.Theta) }

// Save implements policy.Model.
func (p *Policy) Save() ([]byte, error) { return json.Marshal(p.state) }

// Restore implements policy.Model.
func (p *Policy) Restore(saved []byte) error {
	d := json.NewDecoder(bytes.NewReader(saved))
	d.DisallowUnknownFields()
	return d.Decode(&p.state)
}

// Share of n texts that the policy writes with the letter in them.
func (p *Policy) Share(letter string, n int) float64 {
	texts, _ := p.Sample(context.Background(), make([]stream.SamplePrompt, 1), n, 7) // it never fails
	with := 0.0
	for _, t := range texts[0] {
		if strings.Contains(t.Text, letter) {
			with++
		}
	}
	return with / float64(n)
}
