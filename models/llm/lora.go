package llm

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"seralm/models/tensor"
)

// LoRA is what a policy learns: of some linear layers y = x Wᵀ a low-rank addition
// (Hu et al. 2022)
//
//	y = x Wᵀ + alpha/rank (x Aᵀ) Bᵀ,    A [rank, in], B [out, rank]
//
// with B zero at first, where the model is what it was.
type LoRA struct {
	Rank    int
	Alpha   float64
	Targets []string // of Targets(); each in every layer
	Seed    uint64   // of A, with its name

	LearningRate float64 // of Adam
	ClipNorm     float64 // of the gradient; 0 = off
	// PassTokens bounds the tokens, padding included, that Train computes at a time: its
	// memory. Gradients add up, so the step is the same. 0 = 2,048.
	PassTokens int
}

const defaultPassTokens = 2048

// Targets are the linear layers that can be adapted.
func Targets() []string { return []string{"q", "k", "v", "o", "gate", "up", "down"} }

func (o LoRA) validate() error {
	switch {
	case o.Rank < 1 || o.Rank > 1024:
		return fmt.Errorf("rank %d: it is 1 to 1024", o.Rank)
	case !(o.Alpha > 0 && o.Alpha <= 1e6):
		return fmt.Errorf("alpha %v: it is above 0", o.Alpha)
	case len(o.Targets) == 0:
		return fmt.Errorf("no targets: name some of %s", strings.Join(Targets(), ", "))
	case !(o.LearningRate > 0 && o.LearningRate <= 1):
		return fmt.Errorf("learning rate %v: it is above 0 and at most 1", o.LearningRate)
	case !(o.ClipNorm >= 0):
		return fmt.Errorf("clip norm %v: it is above 0, or 0 for none", o.ClipNorm)
	case o.PassTokens < 0:
		return fmt.Errorf("%d tokens a pass: it is above 0, or 0 for %d", o.PassTokens, defaultPassTokens)
	}
	for i, t := range o.Targets {
		if !slices.Contains(Targets(), t) {
			return fmt.Errorf("target %q: it is one of %s", t, strings.Join(Targets(), ", "))
		}
		if slices.Contains(o.Targets[:i], t) {
			return fmt.Errorf("target %q is named twice", t)
		}
	}
	return nil
}

// delta is the addition to one linear layer.
type delta struct {
	policy *Policy
	name   string // of the layer; Params has A and B under it
}

// apply computes with A and B, which are float32, in the model's own type, as its
// activations are; but few rows in float32, which takes libtorch less than half as long.
func (d *delta) apply(s *tensor.Scope, x *tensor.Tensor) *tensor.Tensor {
	p := d.policy
	kind := p.model.kind
	if int64(x.Numel())/x.Dim(-1) <= skinny {
		kind = tensor.Float32
	}
	get := func(part string) *tensor.Tensor { return s.To(p.params.Get(d.name+part), kind) }
	down := s.MulScalar(s.Linear(s.To(x, kind), get(partA), nil), p.lora.Alpha/float64(p.lora.Rank))
	return s.To(s.Linear(down, get(partB), nil), p.model.kind)
}

// Names of an adapter's tensors are those of PEFT, Hugging Face's library.
const (
	adapterPrefix = "base_model.model."
	partA         = ".lora_A.weight"
	partB         = ".lora_B.weight"
)

// adapted is a linear layer that the adapter adds to.
type adapted struct {
	linear  *linear
	name    string
	in, out int64
}

// adapts lists the layers of the model that the targets name.
func (m *Model) adapts(o LoRA) (out []adapted) {
	for i := range m.layers {
		l := &m.layers[i]
		for _, t := range []struct {
			target, part string
			linear       *linear
		}{
			{"q", "self_attn.q_proj", &l.q}, {"k", "self_attn.k_proj", &l.k}, {"v", "self_attn.v_proj", &l.v}, {"o", "self_attn.o_proj", &l.o},
			{"gate", "mlp.gate_proj", &l.gate}, {"up", "mlp.up_proj", &l.up}, {"down", "mlp.down_proj", &l.down},
		} {
			if slices.Contains(o.Targets, t.target) {
				shape := m.config.tensors()[layerName(i, t.part)]
				name := adapterPrefix + strings.TrimSuffix(layerName(i, t.part), ".weight")
				out = append(out, adapted{t.linear, name, shape[1], shape[0]})
			}
		}
	}
	return out
}

// named is a tensor of the adapter.
type named struct {
	name  string
	shape []int64
}

// tensors lists those of the adapter.
func (p *Policy) tensors() (out []named) {
	rank := int64(p.lora.Rank)
	for _, l := range p.model.adapts(p.lora) {
		out = append(out, named{l.name + partA, []int64{rank, l.in}}, named{l.name + partB, []int64{l.out, rank}})
	}
	return out
}

// drawA fills in A from U(-1/sqrt(in), 1/sqrt(in)), as PEFT does: a function of seed and
// name.
func drawA(values []float32, seed uint64, name string, in int64) {
	state := mix(seed)
	for _, b := range []byte(name) {
		state = mix(state ^ uint64(b))
	}
	bound := 1 / math.Sqrt(float64(in))
	for i := range values {
		u := float64(mix(state+uint64(i))>>40) / (1 << 24)
		values[i] = float32(bound * (2*u - 1))
	}
}
