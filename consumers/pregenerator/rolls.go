package pregenerator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/stream"
)

// rolls is what a session knows of roll-outs: the log's newest state, which is the
// session's own once the topic was read, and what others write meanwhile.
//
// The writer of texts owns state, plan, silent and short; decisions and the newest policy
// come from the followers.
type rolls struct {
	s        *session
	caughtUp chan struct{} // closed when the topic of roll-outs was read to its end
	news     chan struct{} // told when there may be something to do

	state  stream.Rollout  // ID 0: there never was one
	plan   []string        // items to draft next, in order
	passed map[string]bool // items of this roll-out that the language model had no answer to
	silent bool            // the policy that is served cannot be loaded: no texts are written
	short  bool            // it was told that too few items have a text for the roll-out that is due

	mu       sync.Mutex
	read     bool
	drafted  map[string]int64                            // the newest roll-out with a draft of the item; once read, of this roll-out alone
	adapters [stream.RolloutSlots]*stream.PolicySnapshot // by slot
	gate     *stream.Decision                            // the newest of each
	operator *stream.Decision
	newest   *stream.PolicySnapshot // that its trainer published
	refused  *stream.PolicySnapshot // that could not be loaded
}

func newRolls(s *session) *rolls {
	return &rolls{s: s, caughtUp: make(chan struct{}), news: make(chan struct{}, 1), drafted: map[string]int64{}, passed: map[string]bool{}}
}

func (r *rolls) wake() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// follow reads the topic of roll-outs. What this session writes there itself is known
// before it is read.
func (r *rolls) follow(ctx context.Context) error {
	chunks := stream.NewChunkReader(stream.MaxIncomplete)
	return stream.Follow(ctx, r.s.cfg.Kafka, r.s.names.Rollouts(), func(rec *kgo.Record) error {
		body, err := stream.DecodeRolloutRecord(rec)
		if err == nil && body == nil {
			body, err = adapter(chunks, rec)
		}
		if err != nil {
			if r.s.refused("invalid") {
				r.s.Logger.Warn("a record of a roll-out is invalid and has no effect", "offset", rec.Offset, "error", err)
			}
			return nil
		}
		r.take(body)
		return nil
	}, r.begun)
}

// kept is an adapter in its slot.
type kept struct {
	slot   int
	policy stream.PolicySnapshot
}

// adapter returns the one that a chunk completes, or nil.
func adapter(chunks *stream.ChunkReader, rec *kgo.Record) (any, error) {
	blob, err := chunks.Add(rec)
	if err != nil || blob == nil {
		return nil, err
	}
	if blob.Slot >= stream.RolloutSlots {
		return nil, &stream.InvalidError{Field: "slot", Reason: "there are not so many"}
	}
	p, err := stream.DecodePolicySnapshot(blob)
	return kept{blob.Slot, p}, err
}

func (r *rolls) take(body any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch b := body.(type) {
	case stream.Decision:
		if b.By == stream.ByOperator {
			r.operator = &b
		} else {
			r.gate = &b
		}
		r.wake()
	case stream.Rollout:
		if !r.read {
			r.state = b
		}
	case stream.Draft:
		if !r.read {
			r.drafted[b.Item] = max(r.drafted[b.Item], b.Rollout)
		}
	case kept:
		if !r.read {
			r.adapters[b.slot] = &b.policy
		}
	}
}

// begun ends the reading of what the topic held already.
func (r *rolls) begun() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read = true
	for item, of := range r.drafted {
		if of != r.state.ID {
			delete(r.drafted, item)
		}
	}
	r.s.ledger.serve(r.serves(r.state))
	r.s.rolling.show(r.state, len(r.drafted))
	close(r.caughtUp)
}

// serves says whose texts are good in a state.
func (r *rolls) serves(st stream.Rollout) serves {
	out := serves{base: r.s.base}
	for _, p := range []*stream.ServedPolicy{st.Served, st.Previous} {
		if p != nil {
			out.policies = append(out.policies, p.Policy)
		}
	}
	if st.Undo != nil {
		out.undo = st.Undo.Policy
	}
	return out
}

// followPolicy keeps the newest snapshot of the policy's trainer.
func (r *rolls) followPolicy(ctx context.Context) error {
	if !r.s.cfg.Alignment.Enabled || r.s.Once {
		return nil
	}
	chunks := stream.NewChunkReader(stream.MaxIncomplete)
	return stream.Follow(ctx, r.s.cfg.Kafka, r.s.names.Snapshots(), func(rec *kgo.Record) error {
		if !strings.HasPrefix(string(rec.Key), r.s.cfg.Alignment.Name+"/") {
			return nil
		}
		blob, err := chunks.Add(rec)
		if err == nil && blob != nil {
			var p stream.PolicySnapshot
			if p, err = stream.DecodePolicySnapshot(blob); err == nil {
				r.publishedBy(p)
			}
		}
		if err != nil {
			r.s.Logger.Warn("a policy's snapshot is not usable", "offset", rec.Offset, "error", err)
		}
		return nil
	}, func() {})
}

func (r *rolls) publishedBy(p stream.PolicySnapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.newest == nil || p.Newer(*r.newest) {
		r.newest = &p
		r.wake()
	}
}

// loadServed has the writer write as what is served does. Where it cannot, no text is
// written; roll-outs go on, the way back among them.
func (r *rolls) loadServed() error {
	var err error
	if p := r.state.Served; p == nil {
		err = r.load(nil, r.s.base)
	} else {
		err = r.load(r.adapters[p.Slot], p.Policy)
	}
	if err != nil {
		err = fmt.Errorf("the policy that is served cannot be loaded: set knowledge.model and alignment.rank, scale and targets back, or roll back (seralm rollout rollback): %w", err)
		r.silent = true
		r.s.Logger.Error("no text is written, items keep the vectors of their titles", "error", err)
	}
	return err
}

var errNoAdapter = errors.New("its adapter is not in the topic of roll-outs")

// load has the writer write as a policy does, nil for the model as it is.
func (r *rolls) load(p *stream.PolicySnapshot, version stream.ModelVersion) error {
	switch {
	case r.s.Writer.Version() == version:
		return nil
	case version == r.s.base:
		return r.s.Writer.Load(nil)
	case p == nil || p.Policy != version:
		return errNoAdapter
	}
	return r.s.Writer.Load(p)
}
