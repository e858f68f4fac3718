package stream

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Sample is what a policy is taught with: texts about an item that an older version
// of the policy wrote, and what each is worth to a recommender on the instance (x, y)
// (the paper's Algorithm 1). It holds all that learning from it needs: the same sample
// teaches the same, whatever became of the item since.
type Sample struct {
	User string   `json:"user,omitempty"`
	X    []string `json:"x"`    // the user's items before y, oldest first
	Y    string   `json:"y"`    // what the user took
	Item string   `json:"item"` // whose texts these are: y, or one of x
	// Instance is where the interaction is that y was taken in: who learns from the sample
	// before it has learnt that interaction knows what it is yet to be tested on.
	Instance Place `json:"instance"`
	// Base is p(y|x) of a frozen recommender without texts; 0 where there is none.
	Base float64 `json:"p_base,omitempty"`
	// Prompt is what the texts answer, PromptHash identifies it (prompts.Template.Hash).
	Prompt     SamplePrompt   `json:"prompt"`
	PromptHash string         `json:"prompt_hash"`
	Versions   SampleVersions `json:"versions"`
	Reward     RewardKind     `json:"reward"`
	View       RewardView     `json:"view"`
	// Temperature of the policy softmax(logits / temperature), which the texts are
	// samples of and which all log-probabilities are under.
	Temperature float64           `json:"temperature"`
	Candidates  []SampleCandidate `json:"candidates"`
	Time        time.Time         `json:"time"`
}

// Place is where a record of a topic is.
type Place struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
}

// SamplePrompt is a prompt in the two parts of a chat.
type SamplePrompt struct {
	System string `json:"system,omitempty"`
	User   string `json:"user"`
}

// SampleVersions name the models that a sample depends on.
type SampleVersions struct {
	Policy      ModelVersion    `json:"policy"`
	Recommender SnapshotVersion `json:"recommender"`
	Encoder     string          `json:"encoder"`
	Knowledge   string          `json:"knowledge"` // of the prompt's template, which says what a text is to hold
}

// SnapshotVersion names a published model.
type SnapshotVersion struct {
	Name  string `json:"name"`
	Epoch int64  `json:"epoch"`
	Step  int64  `json:"step"`
}

// RewardKind says what the reward of a text is.
type RewardKind string

// The kinds: p(y|x,s) of the one instance, or the change of the whole objective in
// nats when the item has this text, for each instance that draws the item.
const (
	RewardInstance  RewardKind = "instance"
	RewardCatalogue RewardKind = "catalogue"
)

// RewardView says how the item is seen when its texts are judged.
type RewardView string

// The views: with its id, or as one of which nothing is known but the text.
const (
	ViewWarm RewardView = "warm"
	ViewCold RewardView = "cold"
)

// SampleCandidate is one text. Tokens include the one that ended it;
// Behaviour and Reference are their log-probabilities under the policy that wrote it
// and under the model that the policy began as.
type SampleCandidate struct {
	Text      string  `json:"text"`
	Tokens    []int32 `json:"tokens"`
	Behaviour Vector  `json:"logp_behaviour"`
	Reference Vector  `json:"logp_ref"`
	Vector    Vector  `json:"vector,omitempty"` // of the text
	PY        float64 `json:"p_y"`              // p(y|x,s)
	Reward    float64 `json:"reward"`
}

// Bounds of a sample.
const (
	MaxSampleHistory    = 512     // items of x
	MaxSamplePrompt     = 8 << 10 // bytes of each part
	MaxSampleText       = 8 << 10 // bytes
	MaxSampleTokens     = 1024
	MaxSampleCandidates = 64
	// MaxReward is far above the nats of any objective: one broken sample must not drown
	// all others in the deviation that advantages are scaled by.
	MaxReward = 1e9
)

// maxLogProbability is above 0 by what a rounded log 1 may be.
const maxLogProbability = 1e-3

// Validate reports the first rule that the sample breaks, as *InvalidError.
func (s Sample) Validate() error {
	for _, f := range []struct {
		name, value string
		required    bool
	}{
		{"user", s.User, false},
		{"y", s.Y, true},
		{"item", s.Item, true},
		{"prompt_hash", s.PromptHash, true},
	} {
		if err := checkName(f.name, f.value, f.required); err != nil {
			return err
		}
	}
	if len(s.X) == 0 || len(s.X) > MaxSampleHistory {
		return &InvalidError{"x", fmt.Sprintf("it is not of 1 to %d items", MaxSampleHistory)}
	}
	of := s.Item == s.Y
	for _, item := range s.X {
		if err := checkName("x", item, true); err != nil {
			return err
		}
		of = of || item == s.Item
	}
	if !of {
		return &InvalidError{"item", "it is neither y nor one of x"}
	}
	if s.Instance.Partition < 0 || s.Instance.Offset < 0 {
		return &InvalidError{"instance", "a number of it is negative"}
	}
	if !(s.Base >= 0 && s.Base <= 1) {
		return &InvalidError{"p_base", "it is no probability"}
	}
	if err := s.Prompt.validate(); err != nil {
		return err
	}
	if err := s.Versions.validate(); err != nil {
		return err
	}
	if s.Reward != RewardInstance && s.Reward != RewardCatalogue {
		return &InvalidError{"reward", fmt.Sprintf("%.32q is none of instance, catalogue", string(s.Reward))}
	}
	if s.View != ViewWarm && s.View != ViewCold {
		return &InvalidError{"view", fmt.Sprintf("%.32q is none of warm, cold", string(s.View))}
	}
	if !(s.Temperature > 0 && s.Temperature <= 100) {
		return &InvalidError{"temperature", "it is not above 0 and at most 100"}
	}
	if len(s.Candidates) == 0 || len(s.Candidates) > MaxSampleCandidates {
		return &InvalidError{"candidates", fmt.Sprintf("there are not 1 to %d", MaxSampleCandidates)}
	}
	for _, c := range s.Candidates {
		if err := c.validate(); err != nil {
			return err
		}
		if s.Reward == RewardInstance && c.Reward != c.PY {
			return &InvalidError{"candidates.reward", "it is not p_y, which is the reward of an instance"}
		}
	}
	return nil
}

func (p SamplePrompt) validate() error {
	if err := checkText("prompt.system", p.System, MaxSamplePrompt); err != nil {
		return err
	}
	if p.User == "" {
		return &InvalidError{"prompt.user", "it is empty"}
	}
	return checkText("prompt.user", p.User, MaxSamplePrompt)
}

func (v SampleVersions) validate() error {
	for _, f := range []struct {
		name, value string
		numbers     []int64
	}{
		{"versions.policy", v.Policy.Name, []int64{v.Policy.Step}},
		{"versions.recommender", v.Recommender.Name, []int64{v.Recommender.Epoch, v.Recommender.Step}},
		{"versions.encoder", v.Encoder, nil},
		{"versions.knowledge", v.Knowledge, nil},
	} {
		if err := checkName(f.name, f.value, true); err != nil {
			return err
		}
		for _, n := range f.numbers {
			if n < 0 {
				return &InvalidError{f.name, "a number of it is negative"}
			}
		}
	}
	return nil
}

func (c SampleCandidate) validate() error {
	if strings.TrimSpace(c.Text) == "" {
		return &InvalidError{"candidates.text", "it is empty"}
	}
	if err := checkText("candidates.text", c.Text, MaxSampleText); err != nil {
		return err
	}
	if len(c.Tokens) == 0 || len(c.Tokens) > MaxSampleTokens {
		return &InvalidError{"candidates.tokens", fmt.Sprintf("there are not 1 to %d", MaxSampleTokens)}
	}
	for _, id := range c.Tokens {
		if id < 0 {
			return &InvalidError{"candidates.tokens", "one is negative"}
		}
	}
	for _, p := range []struct {
		name   string
		values Vector
	}{{"candidates.logp_behaviour", c.Behaviour}, {"candidates.logp_ref", c.Reference}} {
		if len(p.values) != len(c.Tokens) {
			return &InvalidError{p.name, "there is not one for each token"}
		}
		for _, v := range p.values {
			if !(v <= maxLogProbability) || math.IsInf(float64(v), 0) {
				return &InvalidError{p.name, "one is no logarithm of a probability above 0"}
			}
		}
	}
	if c.Vector != nil {
		if err := checkVector(c.Vector); err != nil {
			return &InvalidError{"candidates.vector", err.(*InvalidError).Reason} //nolint:errorlint // checkVector returns no other
		}
	}
	if !(c.PY > 0 && c.PY <= 1) {
		return &InvalidError{"candidates.p_y", "it is no probability above 0"}
	}
	if !(math.Abs(c.Reward) <= MaxReward) {
		return &InvalidError{"candidates.reward", fmt.Sprintf("it is not a number of at most %.0e", MaxReward)}
	}
	return nil
}

func (s Sample) key() string     { return s.Item }
func (s Sample) when() time.Time { return s.Time }

// DecodeSample reads a record of the samples topic.
func DecodeSample(rec *kgo.Record) (Event[Sample], error) {
	ev, err := decode[Sample](rec, TypeSample, nil)
	ev.Body.Time = ev.Time
	return ev, err
}
