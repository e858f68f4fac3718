package generator

import (
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/encoding/json"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/stream"
)

// state is how far a generator is. It stands in the snapshots topic, which keeps the
// newest for ever, and is written in the transaction of the samples that it counts.
type state struct {
	Format  int             `json:"format"`
	Kind    string          `json:"kind"`
	Epoch   int64           `json:"epoch"`
	Next    map[int32]int64 `json:"next_offsets"` // of interactions
	Samples int64           `json:"samples"`      // written since the policy began
	Last    time.Time       `json:"last"`         // of the newest sample
}

const (
	stateFormat = 1
	stateKind   = "generator"
	stateSlots  = 2
)

// stateKey is the key of a generator's state.
func stateKey(policy string) string { return policy + ".generator" }

// readState reads what the generator before left; nil is a beginning.
func readState(b *stream.Blob) (state, error) {
	s := state{Next: map[int32]int64{}}
	if b == nil {
		return s, nil
	}
	if err := json.Unmarshal(b.Manifest, &s); err != nil {
		return s, fmt.Errorf("the state of the generator (snapshots topic, key %s): %w", b.Key, err)
	}
	switch {
	case s.Kind != stateKind:
		return s, fmt.Errorf("key %s of the snapshots topic is no generator's: it is of kind %.32q; set another alignment.name", b.Key, s.Kind)
	case s.Format != stateFormat:
		return s, fmt.Errorf("the state of the generator has format %d, this program reads %d: run the version that wrote it, or set another alignment.name", s.Format, stateFormat)
	case s.Samples < 0 || s.Epoch < 0:
		return s, errors.New("the state of the generator is damaged: it counts below 0; set another alignment.name to begin anew")
	}
	for p, at := range s.Next {
		if p < 0 || at < 0 {
			return s, fmt.Errorf("the state of the generator is damaged: next offset %d of partition %d; set another alignment.name to begin anew", at, p)
		}
	}
	return s, nil
}

func (s state) records(slots *stream.Slots, topic, key string) ([]*kgo.Record, error) {
	s.Format, s.Kind = stateFormat, stateKind
	manifest, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding the state of the generator: %w", err)
	}
	return slots.Records(topic, fmt.Sprintf("%s/%d/%d", key, s.Epoch, s.Samples), manifest, nil, stream.DefaultChunk), nil
}
