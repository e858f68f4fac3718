package histories

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/feature"
	"seralm/stream"
)

// resume asks the view where each partition must be read from. A view that has
// never seen a partition begins where the log does. If the log does not reach to
// where the view ends, events are lost, which is a *stream.LostError.
func (c *Consumer) resume(ctx context.Context, partitions []int32) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	topics, err := c.admin.ListTopics(ctx, c.topic)
	if err == nil {
		err = topics[c.topic].Err
	}
	if err != nil {
		return nil, fmt.Errorf("describing topic %s: %w", c.topic, err)
	}
	first, err := c.offsets(ctx, partitions, c.admin.ListStartOffsets)
	if err != nil {
		return nil, err
	}
	held, err := c.writer.Start(ctx, topics[c.topic].ID.String(), first)
	if err != nil {
		return nil, err
	}
	// Asked after Start: another member may have moved the view on meanwhile.
	end, err := c.offsets(ctx, partitions, c.admin.ListEndOffsets)
	if err != nil {
		return nil, err
	}
	for p, next := range held {
		if next < first[p] || next > end[p] {
			return nil, c.lost(p, next, first[p], end[p])
		}
	}
	return held, nil
}

func (c *Consumer) lost(partition int32, wanted, earliest, latest int64) error {
	return fmt.Errorf("%w: run `seralm rebuild` to make the views from what the log holds",
		&stream.LostError{Topic: c.topic, Partition: partition, Wanted: wanted, Earliest: earliest, Latest: latest})
}

// outOfRange explains why the log refused an offset that it had a moment ago.
func (c *Consumer) outOfRange(ctx context.Context, partition int32) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	first, err := c.offsets(ctx, []int32{partition}, c.admin.ListStartOffsets)
	if err != nil {
		return err
	}
	end, err := c.offsets(ctx, []int32{partition}, c.admin.ListEndOffsets)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.parts[partition]
	if p == nil {
		return nil
	}
	return c.lost(partition, p.next, first[partition], end[partition])
}

// offsets lists one offset for each of the partitions.
func (c *Consumer) offsets(ctx context.Context, partitions []int32, list func(context.Context, ...string) (kadm.ListedOffsets, error)) (map[int32]int64, error) {
	listed, err := list(ctx, c.topic)
	if err != nil {
		return nil, fmt.Errorf("listing the offsets of topic %s: %w", c.topic, err)
	}
	out := make(map[int32]int64, len(partitions))
	for _, p := range partitions {
		o, ok := listed.Lookup(c.topic, p)
		if !ok {
			return nil, fmt.Errorf("listing the offsets of topic %s: the broker knows no partition %d", c.topic, p)
		}
		if o.Err != nil {
			return nil, fmt.Errorf("listing the offsets of topic %s partition %d: %w", c.topic, p, o.Err)
		}
		out[p] = o.Offset
	}
	return out, nil
}

// final reports whether trying again cannot help.
func final(err error) bool {
	var lost *stream.LostError
	var other *feature.OtherLogError
	return errors.As(err, &lost) || errors.As(err, &other)
}

// audit compares the view's offsets with ours: whoever emptied Redis or put an older
// copy in its place need not wait for an event to have it noticed.
func (c *Consumer) audit(ctx context.Context) {
	held, err := c.store.Offsets(ctx)
	if err != nil {
		c.complain(ctx, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for partition, p := range c.parts {
		if next, ok := held[partition]; !ok || next < p.next {
			p.behind = true
		}
	}
}

// rewind sends the partitions whose view lost something back to where it ends now.
// On an error they stay to be rewound.
func (c *Consumer) rewind(ctx context.Context) error {
	behind := map[int32]*part{}
	c.mu.Lock()
	for partition, p := range c.parts {
		if p.behind {
			behind[partition] = p
		}
	}
	c.mu.Unlock()
	if len(behind) == 0 {
		return nil
	}
	next, err := c.resume(ctx, slices.Collect(maps.Keys(behind)))
	if err != nil {
		return err
	}
	offsets := map[int32]kgo.EpochOffset{}
	c.mu.Lock()
	for partition, p := range behind {
		c.log.Warn("the view lost what it held; reading it again", "partition", partition, "held", p.next, "from", next[partition])
		p.next, p.behind = next[partition], false
		offsets[partition] = kgo.EpochOffset{Epoch: -1, Offset: p.next}
	}
	c.mu.Unlock()
	c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{c.topic: offsets})
	return nil
}
