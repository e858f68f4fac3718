package stream

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/segmentio/encoding/json"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
)

// PolicySnapshot is a policy as it leaves its trainer: what a language model has
// learnt, beside which the model itself is needed. It lies in the snapshots topic in
// slots of the policy's name.
type PolicySnapshot struct {
	Format  int             `json:"format"`
	Kind    string          `json:"kind"`
	Policy  ModelVersion    `json:"policy"` // name of model and adapter, and the iterations learnt
	Epoch   int64           `json:"epoch"`
	Offsets map[int32]int64 `json:"offsets"` // next offset of each partition of samples
	Created time.Time       `json:"created"`
	Adapter []byte          `json:"-"` // safetensors
}

const policyFormat = 1

// KindAdapter is the kind of a policy's snapshot in its manifest.
const KindAdapter = "adapter"

// Newer reports whether s comes after t: of a later trainer, or further on.
func (s PolicySnapshot) Newer(t PolicySnapshot) bool {
	return s.Epoch > t.Epoch || s.Epoch == t.Epoch && s.Policy.Step > t.Policy.Step
}

// Records makes the records that publish the snapshot, in the next slot.
func (s PolicySnapshot) Records(slots *Slots, topic string) ([]*kgo.Record, error) {
	s.Format, s.Kind = policyFormat, KindAdapter
	manifest, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding the snapshot of policy %s: %w", s.Policy, err)
	}
	return slots.Records(topic, fmt.Sprintf("%s/%d/%d", slots.key, s.Epoch, s.Policy.Step), manifest, s.Adapter, DefaultChunk), nil
}

// DecodePolicySnapshot is the inverse of Records. Errors are *InvalidError.
func DecodePolicySnapshot(b *Blob) (PolicySnapshot, error) {
	var s PolicySnapshot
	if err := json.Unmarshal(b.Manifest, &s); err != nil {
		return s, &InvalidError{"manifest", fmt.Sprintf("not the JSON of a policy's snapshot: %.200s", err)}
	}
	switch {
	case s.Kind != KindAdapter:
		return s, &InvalidError{"kind", fmt.Sprintf("%.32q is not %s: another model has the name of the policy", s.Kind, KindAdapter)}
	case s.Format != policyFormat:
		return s, &InvalidError{"format", fmt.Sprintf("%d, this program reads %d", s.Format, policyFormat)}
	case s.Epoch < 0 || s.Policy.Step < 0:
		return s, &InvalidError{"policy", "a number of its version is negative"}
	}
	if err := checkName("policy", s.Policy.Name, true); err != nil {
		return s, err
	}
	s.Adapter = b.Payload
	return s, nil
}

// ReadSlots returns the slots that the snapshots topic has for a key, after everything
// in it, and the newest snapshot there (nil if none). A writer registers its
// transactional id first: then nothing of the writer before can still come.
func ReadSlots(ctx context.Context, cfg config.Kafka, key string, keep int) (*Slots, *Blob, error) {
	topic := NamesOf(cfg.TopicPrefix).Snapshots()
	cl, err := newClient(cfg)
	if err != nil {
		return nil, nil, err
	}
	defer cl.Close()
	if err := AwaitSettled(ctx, kadm.NewClient(cl), topic); err != nil {
		return nil, nil, fmt.Errorf("reading what %s has published: %w", key, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	slots, chunks := NewSlots(key, keep), NewChunkReader(MaxIncomplete)
	var last *Blob
	caughtUp := false
	err = Follow(ctx, cfg, topic, func(rec *kgo.Record) error {
		if !strings.HasPrefix(string(rec.Key), key+"/") {
			return nil
		}
		slots.Observe(rec)
		if blob, err := chunks.Add(rec); err == nil && blob != nil { // what is damaged is as good as not there
			last = blob
		}
		return nil
	}, func() { caughtUp = true; cancel() })
	if !caughtUp {
		return nil, nil, err
	}
	return slots, last, nil
}
