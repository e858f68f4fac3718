package stream

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
)

// Follow hands every record of a topic to fn, from the start of the log on, in
// order within each partition, and goes on as records arrive, until ctx ends
// (it then returns ctx's error) or fn or the log fails. It belongs to no group:
// every follower sees everything. caughtUp is called once, when all that was in
// the log at the call has been handed out.
//
// It is for compacted topics, whose latest record per key is the state: where
// compaction or deletion overtakes the reader, it goes on at what is left.
func Follow(ctx context.Context, cfg config.Kafka, topic string, fn func(*kgo.Record) error, caughtUp func()) error {
	r, err := openReader(ctx, cfg, topic, nil, kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer r.close()
	ends, err := r.ends(ctx)
	if err != nil {
		return fmt.Errorf("following topic %s: %w", topic, err)
	}
	deliver := func(_ int32, recs []*kgo.Record) error {
		for _, rec := range recs {
			if err := fn(rec); err != nil {
				return fmt.Errorf("following topic %s: partition %d offset %d: %w", topic, rec.Partition, rec.Offset, err)
			}
		}
		return nil
	}
	for behind(r.next, ends) != nil {
		if err := catchUp(ctx, r, ends, deliver); err != nil {
			return err
		}
	}
	caughtUp()
	for ctx.Err() == nil {
		if _, err := r.grow(ctx); err != nil {
			return fmt.Errorf("following topic %s: %w", topic, err)
		}
		if err := r.poll(ctx, deliver); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// behind lists the partitions whose end is not reached.
func behind(next, ends map[int32]int64) []int32 {
	var out []int32
	for p, end := range ends {
		if next[p] < end {
			out = append(out, p)
		}
	}
	return out
}

// catchUp polls once; if nothing comes, it finds out whether anything can.
func catchUp(ctx context.Context, r *reader, ends map[int32]int64, deliver func(int32, []*kgo.Record) error) error {
	wait, cancel := context.WithTimeout(ctx, stall)
	defer cancel()
	if err := r.poll(wait, deliver); err != nil {
		return err
	}
	if wait.Err() == nil {
		return nil
	}
	for _, p := range behind(r.next, ends) {
		if err := r.settle(ctx, p, ends[p]); err != nil {
			return err
		}
	}
	return ctx.Err()
}
