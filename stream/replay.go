package stream

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Ranges reads a journalled batch again: exactly the given ranges, in the given
// order (see Taken). It leaves the merge behind them, as Batch did the first time.
// An error leaves the merge unusable: the journal and the log do not agree, or
// records are lost (*LostError).
func (m *Merge) Ranges(ctx context.Context, ranges []Range, order []int32) ([]*kgo.Record, error) {
	if m.failed != nil {
		return nil, m.failed
	}
	recs, err := m.replay(ctx, ranges, order)
	if err != nil {
		m.failed = fmt.Errorf("replaying topic %s from its journal: %w", m.r.topic, err)
		return nil, m.failed
	}
	m.note(recs)
	return recs, nil
}

func (m *Merge) replay(ctx context.Context, ranges []Range, order []int32) ([]*kgo.Record, error) {
	if len(m.pending) > 0 {
		return nil, fmt.Errorf("BUG: a batch was begun and not returned")
	}
	counts, err := countOrder(order)
	if err != nil {
		return nil, err
	}
	read := make(map[int32][]*kgo.Record, len(ranges))
	total := 0
	for _, r := range ranges {
		recs, err := m.readRange(ctx, r, counts[r.Partition])
		if err != nil {
			return nil, err
		}
		read[r.Partition] = recs
		total += len(recs)
		delete(counts, r.Partition)
	}
	for p, n := range counts {
		return nil, fmt.Errorf("the journal orders %d records of partition %d, of which it has no range", n, p)
	}
	m.reheap()
	out := make([]*kgo.Record, 0, total)
	for i := 0; i < len(order); i += 2 {
		p, n := order[i], int(order[i+1])
		out = append(out, read[p][:n]...)
		read[p] = read[p][n:]
	}
	return out, nil
}

func countOrder(order []int32) (map[int32]int, error) {
	if len(order)%2 != 0 {
		return nil, fmt.Errorf("the journal's order has %d numbers; it is made of pairs", len(order))
	}
	counts := map[int32]int{}
	for i := 0; i < len(order); i += 2 {
		if order[i+1] <= 0 {
			return nil, fmt.Errorf("the journal's order has a run of %d records", order[i+1])
		}
		counts[order[i]] += int(order[i+1])
	}
	return counts, nil
}

// readRange takes n records from a lane, which must be all that [From, To) holds.
func (m *Merge) readRange(ctx context.Context, r Range, n int) ([]*kgo.Record, error) {
	if int(r.Partition) >= len(m.lanes) || r.Partition < 0 {
		return nil, fmt.Errorf("the journal names partition %d; the topic has %d", r.Partition, len(m.lanes))
	}
	l := m.lanes[r.Partition]
	if l.returned != r.From {
		return nil, fmt.Errorf("the journal goes on at offset %d of partition %d, the state at %d", r.From, r.Partition, l.returned)
	}
	if n == 0 && r.From != r.To {
		return nil, fmt.Errorf("the journal has no records for offsets [%d, %d) of partition %d", r.From, r.To, r.Partition)
	}
	var recs []*kgo.Record
	for len(recs) < n {
		if err := m.await(ctx, l, r.To); err != nil {
			return nil, err
		}
		if at := l.queue[0][0].Offset; at >= r.To {
			return nil, fmt.Errorf("partition %d holds %d records in [%d, %d), the journal %d", r.Partition, len(recs), r.From, r.To, n)
		}
		recs = append(recs, m.pop(l))
	}
	if n > 0 && recs[n-1].Offset != r.To-1 {
		return nil, fmt.Errorf("record %d of partition %d since offset %d is at %d, in the journal at %d", n, r.Partition, r.From, recs[n-1].Offset, r.To-1)
	}
	return recs, nil
}

// await returns when the lane has a record. The journal says that the log goes up
// to end, so a log that ends before it has lost records.
func (m *Merge) await(ctx context.Context, l *lane, end int64) error {
	for len(l.queue) == 0 {
		if m.r.next[l.partition] >= m.ends[l.partition] {
			if err := m.refresh(ctx); err != nil {
				return err
			}
			if latest := m.ends[l.partition]; latest < end {
				return &LostError{m.r.topic, l.partition, end, 0, latest}
			}
			if m.r.next[l.partition] >= m.ends[l.partition] {
				return fmt.Errorf("partition %d: no record is left before offset %d, which the journal names", l.partition, end)
			}
		}
		if err := m.fill(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// reheap orders the lanes anew, after records were taken past the heap.
func (m *Merge) reheap() {
	m.heap = m.heap[:0]
	for _, l := range m.lanes {
		if len(l.queue) > 0 {
			m.push(l)
		}
	}
}
