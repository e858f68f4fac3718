package rollout

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/consumers/internal/instances"
	"seralm/stream"
)

// instance is what a user had taken and took next, in item ids.
type instance struct {
	user string
	x    []string // oldest first, at least one
	y    string
}

// remembered is an instance in the rows of the reader's vocabulary.
type remembered struct {
	instances.Instance
	time time.Time
}

// heldOut returns the newest interactions, at most so many, that lie at or behind the
// offsets, oldest first: those that a model which learnt up to there has not. It reads
// the topic from its start, for a history is what the log says it is. A user's events
// are in one partition, whose order is theirs.
func heldOut(ctx context.Context, cfg config.Config, from map[int32]int64, length, most int) ([]instance, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	users := instances.New(length, cfg.Trainer.MaxUsers, cfg.Trainer.DedupWindow)
	newest := map[int32]*ring{} // by partition
	caughtUp := false
	err := stream.Follow(ctx, cfg.Kafka, stream.NamesOf(cfg.Kafka.TopicPrefix).Interactions(), func(rec *kgo.Record) error {
		ev, err := stream.DecodeInteraction(rec)
		if err != nil {
			return nil //nolint:nilerr // the trainer dead-letters it
		}
		in, ok := users.Take(ev)
		if !ok || rec.Offset < from[rec.Partition] {
			return nil
		}
		if newest[rec.Partition] == nil {
			newest[rec.Partition] = &ring{most: most}
		}
		newest[rec.Partition].add(remembered{in, ev.Time})
		return nil
	}, func() { caughtUp = true; cancel() })
	if !caughtUp {
		return nil, err
	}
	var all []remembered
	for _, r := range newest {
		all = append(all, r.held...)
	}
	slices.SortFunc(all, func(a, b remembered) int {
		return cmp.Or(a.time.Compare(b.time), cmp.Compare(a.User, b.User))
	})
	var out []instance
	for _, r := range all[max(0, len(all)-most):] {
		in := instance{user: r.User, y: users.Items.ID(r.Y)}
		for _, row := range r.X {
			in.x = append(in.x, users.Items.ID(row))
		}
		out = append(out, in)
	}
	return out, nil
}

// ring holds the last so many.
type ring struct {
	most, next int
	held       []remembered
}

func (r *ring) add(in remembered) {
	if len(r.held) < r.most {
		r.held = append(r.held, in)
		return
	}
	r.held[r.next] = in
	r.next = (r.next + 1) % r.most
}
