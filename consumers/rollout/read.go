package rollout

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/stream"
)

// scan hands what the topic of roll-outs holds now to fn, oldest first. What is invalid
// has no effect for any reader.
func scan(ctx context.Context, cfg config.Kafka, fn func(body any)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	caughtUp := false
	err := stream.Follow(ctx, cfg, stream.NamesOf(cfg.TopicPrefix).Rollouts(), func(rec *kgo.Record) error {
		if body, err := stream.DecodeRolloutRecord(rec); err == nil && body != nil {
			fn(body)
		}
		return nil
	}, func() { caughtUp = true; cancel() })
	if caughtUp {
		return nil
	}
	return err
}

// State returns the newest roll-out; its ID is 0 when there never was one. While its
// drafts are written, it counts those that there are; while it is judged, it has the gate's
// decision before the pregenerator has read it.
func State(ctx context.Context, cfg config.Kafka) (st stream.Rollout, err error) {
	drafts := map[string]int64{} // the roll-out of an item's newest draft
	var gate stream.Decision
	err = scan(ctx, cfg, func(body any) {
		switch b := body.(type) {
		case stream.Rollout:
			st = b
		case stream.Draft:
			drafts[b.Item] = b.Rollout
		case stream.Decision:
			if b.By == stream.ByGate {
				gate = b
			}
		}
	})
	if st.Phase == stream.RolloutJudging && gate.Rollout == st.ID {
		st.Decision = &gate
	}
	if st.Phase == stream.RolloutWriting {
		for _, of := range drafts {
			if of == st.ID {
				st.Drafts++
			}
		}
	}
	return st, err
}

// Since counts the interactions that came to the log since a roll-out began. The gate
// judges by those and by the last before them: what the newest snapshot of the recommender
// from before the roll-out had not learnt.
func Since(ctx context.Context, cfg config.Kafka, st stream.Rollout) (int64, error) {
	opts, err := stream.ClientOptions(cfg)
	if err != nil {
		return 0, err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return 0, fmt.Errorf("connecting to the log: %w", err)
	}
	defer client.Close()
	admin, topic := kadm.NewClient(client), stream.NamesOf(cfg.TopicPrefix).Interactions()
	ends, err := stream.CommittedEnds(ctx, admin, topic)
	if err != nil {
		return 0, err
	}
	from, err := admin.ListOffsetsAfterMilli(ctx, st.Began.UnixMilli(), topic)
	if err == nil {
		err = from.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("asking for the interactions since roll-out %d began: %w", st.ID, err)
	}
	since := int64(0)
	for p, end := range ends {
		at, _ := from.Lookup(topic, p)
		since += max(0, end-at.Offset)
	}
	return since, nil
}

// Text is a text of an item beside the served one.
type Text struct {
	What      string // what it is to a roll-out
	Knowledge stream.Knowledge
}

// Beside returns the texts of an item beside the served one: what the newest roll-out
// proposes, and what a rollback would put back.
func Beside(ctx context.Context, cfg config.Kafka, item string) ([]Text, error) {
	var st stream.Rollout
	drafts := map[int64]stream.Draft{} // by roll-out; there are as many as slots
	err := scan(ctx, cfg, func(body any) {
		switch b := body.(type) {
		case stream.Rollout:
			st = b
		case stream.Draft:
			if b.Item == item {
				drafts[b.Rollout] = b
			}
		}
	})
	if err != nil {
		return nil, err
	}
	var out []Text
	if d, ok := drafts[st.ID]; ok && st.Proposed() {
		out = append(out, Text{fmt.Sprintf("draft of roll-out %d, %s", st.ID, st.Phase), d.Candidate})
	}
	if st.Served != nil && st.Return {
		if d, ok := drafts[st.Served.Rollout]; ok {
			out = append(out, Text{fmt.Sprintf("before roll-out %d", d.Rollout), d.Served})
		}
	}
	return out, nil
}
