package serving

import (
	"context"
	"errors"
	"fmt"
	"time"

	"seralm/stream"
)

// Current returns an item whole, as the log has it, and whether there is one. The
// catalogue holds no texts, only where the item's newest record is; that is read.
//
// The answer is not older than the records at the offsets of after, by partition:
// who has just written there sees it. It waits until ctx ends for the catalogue to
// get so far.
func (s *Server) Current(ctx context.Context, id string, after map[int32]int64) (stream.Item, bool, error) {
	for !s.itemsWhole.Load() || !s.items.Reached(after) {
		select {
		case <-ctx.Done():
			return stream.Item{}, false, fmt.Errorf("the items topic has not been read far enough: %w", ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	item, ok := s.items.Get(id)
	if !ok || item.Entry() == nil {
		if size := s.items.Size(); size.Refused > 0 {
			return stream.Item{}, false, fmt.Errorf("the item may be one of %d that the catalogue had no room for (serving.catalogue is %d)", size.Refused, size.Limit)
		}
		return stream.Item{}, false, nil
	}
	e := item.Entry()
	if e.Deleted {
		return stream.Item{}, false, nil
	}
	topic := stream.NamesOf(s.cfg.Kafka.TopicPrefix).Items()
	rec, err := stream.ReadRecord(ctx, s.cfg.Kafka, topic, e.Partition, e.Offset)
	if err != nil {
		return stream.Item{}, false, err
	}
	ev, err := stream.DecodeItem(rec)
	if err != nil {
		return stream.Item{}, false, err
	}
	if ev.Body.Item != id {
		return stream.Item{}, false, errors.New("the record is another item's: the topic was made anew")
	}
	return ev.Body, true, nil
}
