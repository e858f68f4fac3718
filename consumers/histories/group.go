package histories

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/stream"
)

// join makes the client, which joins the group by itself.
//
// The group is a classic one that rebalances cooperatively: members keep what they
// keep while the rest moves. KIP-848 would move it a little faster, but leaves to
// the broker's configuration (45 s) how long a killed member keeps its partitions.
func (c *Consumer) join() error {
	opts, err := stream.ClientOptions(c.cfg.Kafka)
	if err != nil {
		return err
	}
	c.client, err = kgo.NewClient(append(opts,
		kgo.ConsumerGroup(c.group),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(c.session),
		kgo.HeartbeatInterval(c.session/10), // a rebalance is heard of this late
		kgo.RebalanceTimeout(max(c.session, 30*time.Second)),
		kgo.BlockRebalanceOnPoll(),
		kgo.DisableAutoCommit(),
		kgo.AdjustFetchOffsetsFn(c.assigned),
		kgo.OnPartitionsRevoked(c.revoked),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { c.drop(lost[c.topic]) }),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // see lost
		kgo.KeepControlRecords(),                    // the view's offset moves over them
		// A fetch returns as soon as there is a record. This bounds how long a
		// partition that was just assigned waits for the fetch under way.
		kgo.FetchMaxWait(250*time.Millisecond),
	)...)
	if err != nil {
		return fmt.Errorf("configuring the Kafka client: %w", err)
	}
	c.admin = kadm.NewClient(c.client)
	c.letters = stream.NewDeadLetters(c.client, stream.NamesOf(c.cfg.Kafka.TopicPrefix), "histories", c.reg).Limit(c.poison)
	c.client.AddConsumeTopics(c.topic) // only now: from here on, assigned may be called at any time
	return nil
}

// assigned is called with partitions that became this member's and the offsets that
// the group committed, which it replaces by the view's. It waits for Redis as long
// as the assignment stands.
func (c *Consumer) assigned(ctx context.Context, committed map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	offsets := committed[c.topic]
	if len(offsets) == 0 {
		return committed, nil
	}
	partitions := make([]int32, 0, len(offsets))
	c.mu.Lock()
	for p, at := range offsets {
		partitions = append(partitions, p)
		c.awaited[p] = max(0, at.EpochOffset().Offset)
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, p := range partitions {
			delete(c.awaited, p)
		}
	}()
	next, err := backoff.Retry(ctx, func() (map[int32]int64, error) {
		next, err := c.resume(ctx, partitions)
		if final(err) {
			return nil, backoff.Permanent(err)
		}
		return next, err
	}, backoff.WithBackOff(newBackOff()), backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(err error, _ time.Duration) { c.complain(ctx, err) }))
	if err != nil {
		if final(err) {
			c.fail(err)
		}
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p, at := range next {
		c.parts[p] = &part{next: at}
		offsets[p] = kgo.NewOffset().At(at)
	}
	return committed, nil
}

// revoked is called between polls, so nothing is being applied: what is pending is
// left to the next owner.
func (c *Consumer) revoked(ctx context.Context, _ *kgo.Client, revoked map[string][]int32) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	if offsets := c.drop(revoked[c.topic]); len(offsets[c.topic]) > 0 && !embedded(c.cfg) {
		c.client.CommitOffsetsSync(ctx, offsets, nil)
	}
}

// drop forgets partitions and returns how far each was applied.
func (c *Consumer) drop(partitions []int32) map[string]map[int32]kgo.EpochOffset {
	c.mu.Lock()
	defer c.mu.Unlock()
	offsets := map[int32]kgo.EpochOffset{}
	for _, partition := range partitions {
		if p := c.parts[partition]; p != nil {
			offsets[partition] = kgo.EpochOffset{Epoch: -1, Offset: p.next}
			delete(c.parts, partition)
		}
	}
	return map[string]map[int32]kgo.EpochOffset{c.topic: offsets}
}

// commit tells the group how far the view is. Nothing reads it but people, so that
// one may fail; an embedded view has no future that could need it.
func (c *Consumer) commit(ctx context.Context) {
	if embedded(c.cfg) {
		return
	}
	c.mu.Lock()
	offsets := make(map[int32]kgo.EpochOffset, len(c.parts))
	for partition, p := range c.parts {
		offsets[partition] = kgo.EpochOffset{Epoch: -1, Offset: p.next}
	}
	c.mu.Unlock()
	if len(offsets) > 0 {
		c.client.CommitOffsets(ctx, map[string]map[int32]kgo.EpochOffset{c.topic: offsets}, nil)
	}
}
