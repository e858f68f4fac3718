package generator

import (
	"context"
	"fmt"

	"seralm/models/vocab"
)

// recent holds the newest instances of the stream, which catalogue rewards are summed
// over. What a snapshot makes of them is computed when it is asked for, and once.
type recent struct {
	ring []remembered
	next int
	by   *judge // that computed what is remembered
}

type remembered struct {
	Instance
	asked bool
	known *encoded // nil where the model cannot predict the target
}

// encoded is an instance as one snapshot has it.
type encoded struct {
	scored
	y    int32
	logZ float64
}

func newRecent(capacity int) *recent { return &recent{ring: make([]remembered, 0, capacity)} }

// add puts an instance in, in the place of the oldest when there is no other.
func (r *recent) add(in Instance) {
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, remembered{Instance: in})
		return
	}
	r.ring[r.next] = remembered{Instance: in}
	r.next = (r.next + 1) % cap(r.ring)
}

// encodeBatch is how many instances are encoded in one call.
const encodeBatch = 256

// encode returns the instances as the judge's snapshot has them, oldest first.
func (r *recent) encode(ctx context.Context, j *judge, own *vocab.Vocabulary) ([]encoded, error) {
	if r.by != j {
		for i := range r.ring {
			r.ring[i].asked, r.ring[i].known = false, nil
		}
		r.by = j
	}
	var todo []*encoded
	var histories [][]int32
	flush := func() error {
		users, err := j.users.Users(ctx, histories, nil)
		if err != nil {
			return fmt.Errorf("computing user vectors of recent instances: %w", err)
		}
		for i, k := range todo {
			k.user = users[i]
			k.logZ = j.logZ(k.scored, vocab.Padding, nil)
		}
		todo, histories = todo[:0], histories[:0]
		return nil
	}
	for i := range r.ring {
		in := &r.ring[i]
		if in.asked {
			continue
		}
		in.asked = true
		if x, y, ok := j.see(in.Instance, own); ok {
			in.known = &encoded{scored: scored{x: x}, y: y}
			todo, histories = append(todo, in.known), append(histories, x)
		}
		if len(todo) == encodeBatch {
			if err := flush(); err != nil {
				r.by = nil
				return nil, err
			}
		}
	}
	if len(todo) > 0 {
		if err := flush(); err != nil {
			r.by = nil
			return nil, err
		}
	}
	out := make([]encoded, 0, len(r.ring))
	for i := range r.ring {
		if k := r.ring[(r.next+i)%len(r.ring)].known; k != nil {
			out = append(out, *k)
		}
	}
	return out, nil
}
