package histories

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/feature"
	"seralm/stream"
)

// pending is a run that was read, with the time at which each of its events was
// produced.
type pending struct {
	run      feature.Run
	produced []time.Time
}

// take turns what a poll brought into pending runs. Its error is final; what was
// read before it is pending still, so that it need not be read again.
func (c *Consumer) take(ctx context.Context, fetches kgo.Fetches) error {
	var failed error
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		if f.Err != nil {
			failed = errors.Join(failed, c.explain(ctx, f))
		}
		c.mu.Lock()
		p := c.parts[f.Partition]
		c.mu.Unlock()
		if p == nil || len(f.Records) == 0 {
			return
		}
		read := p.pending
		if read == nil {
			read = &pending{run: feature.Run{Partition: f.Partition, From: p.next, To: p.next}}
		}
		failed = errors.Join(failed, c.read(ctx, read, f.Records))
		if read.run.To > read.run.From {
			c.mu.Lock()
			p.pending = read
			c.mu.Unlock()
		}
	})
	return failed
}

// read adds a partition's records to its run. On an error the run ends before the
// record that could not be dealt with.
func (c *Consumer) read(ctx context.Context, into *pending, recs []*kgo.Record) error {
	into.run.Events = slices.Grow(into.run.Events, len(recs))
	into.produced = slices.Grow(into.produced, len(recs))
	for _, rec := range recs {
		if !rec.Attrs.IsControl() {
			ev, err := stream.DecodeInteraction(rec)
			switch {
			case err == nil:
				into.run.Events = append(into.run.Events, feature.HistoryEvent{
					// No name holds a line break, so no two pairs make the same id.
					User: ev.Body.User, Item: ev.Body.Item, ID: ev.Source + "\n" + ev.ID, Offset: rec.Offset, Time: ev.Time,
				})
				into.produced = append(into.produced, rec.Timestamp)
			case stream.IsInvalid(err):
				if err := c.letters.Put(ctx, rec, "invalid", err); err != nil {
					return err
				}
			default:
				return fmt.Errorf("topic %s partition %d offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
			}
		}
		into.run.To = rec.Offset + 1
	}
	return nil
}

// explain says whether an error that came instead of records is final. The client
// itself retries what passes.
func (c *Consumer) explain(ctx context.Context, f kgo.FetchTopicPartition) error {
	var loss *kgo.ErrDataLoss
	var answered *kerr.Error
	var session *kgo.ErrGroupSession
	switch {
	case errors.Is(f.Err, context.Canceled), errors.Is(f.Err, context.DeadlineExceeded):
		return nil
	case errors.As(f.Err, &loss):
		return &stream.LostError{Topic: c.topic, Partition: loss.Partition, Wanted: loss.ConsumedTo, Latest: loss.ResetTo}
	case errors.Is(f.Err, kerr.OffsetOutOfRange):
		return c.outOfRange(ctx, f.Partition)
	case errors.Is(f.Err, kerr.GroupAuthorizationFailed):
		return fmt.Errorf("joining group %s: %w (allow this user to read the group)", c.group, f.Err)
	case errors.As(f.Err, &answered) && !answered.Retriable && !errors.As(f.Err, &session):
		return fmt.Errorf("reading topic %s partition %d: %w", c.topic, f.Partition, f.Err)
	}
	c.complain(ctx, f.Err)
	return nil
}

// apply applies the pending runs, all of them in as few round trips as they need.
// It returns the trouble that left one pending, which may pass.
func (c *Consumer) apply(ctx context.Context) error {
	var parts []*part
	var runs []feature.Run
	c.mu.Lock()
	for _, p := range c.parts {
		if p.pending != nil {
			parts, runs = append(parts, p), append(runs, p.pending.run)
		}
	}
	c.mu.Unlock()
	if len(runs) == 0 {
		return nil
	}
	// What is being applied when the role ends is applied: redis.timeout bounds it.
	outcomes := c.writer.Apply(context.WithoutCancel(ctx), runs...)
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	var trouble error
	for i, out := range outcomes {
		p := parts[i]
		var behind *feature.BehindError
		switch {
		case out.Err == nil:
			c.metrics.applied(out.Verdicts, p.pending.produced, now)
			p.next, p.pending = p.pending.run.To, nil
		case errors.As(out.Err, &behind):
			p.behind, p.pending = true, nil
		default:
			trouble = out.Err
		}
	}
	return trouble
}
