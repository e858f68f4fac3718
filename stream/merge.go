package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
)

// Bounds of what a Merge holds: all lanes together, and at least so much each.
const (
	mergeBytes  = 128 << 20
	laneBytes   = 1 << 20
	recordBytes = 256 // of a record besides key and value, roughly
)

// Merge reads all partitions of a topic as one sequence: of the partitions' next
// records always the one with the earliest event time, and of equal ones that of
// the lowest partition. The order within a partition is kept even where its clock
// runs backwards, so a user's events stay in the order they were written.
//
// The sequence is a function of the log: a record is handed out only when every
// other partition has shown its next one or is known to have none. What is "known"
// is asked for anew in every call, so records that were in the log when a batch
// was begun are always considered, whatever the network does. At the live end the
// arrival of records decides, and the journal (Taken, Ranges) keeps what was.
//
// A Merge belongs to one goroutine, but for Idle.
type Merge struct {
	r     *reader
	lanes []*lane // by partition
	heap  []*lane // those with a record, ordered by less
	ends  map[int32]int64

	limit   int           // bytes per lane
	pending []*kgo.Record // taken from the lanes, not yet returned: a call's ctx ended
	ranges  []Range       // of the batch last returned
	order   []int32
	failed  error

	idle atomic.Pointer[map[int32]int64]
}

// lane is the buffer of one partition.
type lane struct {
	partition int32
	queue     [][]*kgo.Record // non-empty runs, in offset order
	when      int64           // event time of the head, ms
	bytes     int
	paused    bool
	returned  int64 // next offset after the last record returned to the caller
}

// NewMerge starts reading topic at the given next offset of each partition;
// partitions that are not among them start at the first record the log holds.
// Offsets that the log no longer holds, or does not hold yet, are a *LostError.
func NewMerge(ctx context.Context, cfg config.Kafka, topic string, start map[int32]int64) (*Merge, error) {
	r, err := openReader(ctx, cfg, topic, start)
	if err != nil {
		return nil, err
	}
	m := &Merge{r: r, ends: map[int32]int64{}}
	for p := range int32(len(r.next)) {
		m.add(p)
	}
	return m, nil
}

func (m *Merge) add(partition int32) {
	m.lanes = append(m.lanes, &lane{partition: partition, returned: m.r.next[partition]})
	m.limit = max(laneBytes, mergeBytes/len(m.lanes))
}

// Batch returns the next records in merge order: most of them, or fewer when the
// log's end is reached and linger has passed since it was with one or more taken.
// It waits for the first for as long as ctx allows. When ctx ends, nothing is
// lost: what was taken leads the next batch.
func (m *Merge) Batch(ctx context.Context, most int, linger time.Duration) ([]*kgo.Record, error) {
	if m.failed != nil {
		return nil, m.failed
	}
	if err := m.gather(ctx, most, linger); err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil, err
		}
		m.failed = err
		if len(m.pending) == 0 {
			return nil, err
		}
		// What was read before the failure is sound; the next call tells of it.
	}
	n := min(most, len(m.pending))
	batch := m.pending[:n:n]
	m.pending = m.pending[n:]
	m.note(batch)
	return batch, nil
}

// Ready returns the next records in merge order that the log holds as the call begins, most
// of them at most, none if there are none: it waits for the network, and for nobody to
// write. What is read when ctx ends leads the next batch.
func (m *Merge) Ready(ctx context.Context, most int) ([]*kgo.Record, error) {
	return m.Batch(ctx, most, noLinger)
}

// noLinger asks for no wait at the end of the log, with nothing taken either.
const noLinger = -1

// Next returns the next record in merge order.
func (m *Merge) Next(ctx context.Context) (*kgo.Record, error) {
	recs, err := m.Batch(ctx, 1, 0)
	if err != nil {
		return nil, err
	}
	return recs[0], nil
}

// Taken returns what to journal of the batch last returned: the offsets it covers
// in each partition, and the order in which they alternate (see EncodeOrder).
func (m *Merge) Taken() (ranges []Range, order []int32) { return m.ranges, m.order }

// Offsets returns the next offset of every partition: what to hand to NewMerge to
// go on after the batch last returned.
func (m *Merge) Offsets() map[int32]int64 {
	next := make(map[int32]int64, len(m.lanes))
	for _, l := range m.lanes {
		next[l.partition] = l.returned
	}
	return next
}

// Idle returns how far each partition was read when there was last nothing left to
// return; nil before that. It is further than Offsets where the log ends with what is no
// record, such as the marks of transactions. Any goroutine may ask.
func (m *Merge) Idle() map[int32]int64 {
	if at := m.idle.Load(); at != nil {
		return *at
	}
	return nil
}

// rest notes that all lanes are at their end.
func (m *Merge) rest() {
	if len(m.pending) == 0 {
		next := maps.Clone(m.r.next)
		m.idle.Store(&next)
	}
}

// Lag returns how many offsets lie between what was returned and the log's end.
func (m *Merge) Lag(ctx context.Context) (int64, error) {
	ends, err := m.r.ends(ctx)
	if err != nil {
		return 0, err
	}
	var lag int64
	for _, l := range m.lanes {
		lag += max(0, ends[l.partition]-l.returned)
	}
	return lag, nil
}

// Close stops reading.
func (m *Merge) Close() { m.r.close() }

// note remembers what was just returned.
func (m *Merge) note(batch []*kgo.Record) {
	m.order, m.ranges = EncodeOrder(batch), nil
	at := map[int32]int{}
	for _, rec := range batch {
		i, ok := at[rec.Partition]
		if !ok {
			i = len(m.ranges)
			at[rec.Partition] = i
			m.ranges = append(m.ranges, Range{Partition: rec.Partition, From: m.lanes[rec.Partition].returned})
		}
		m.ranges[i].To = rec.Offset + 1
		m.lanes[rec.Partition].returned = rec.Offset + 1
	}
}

// gather fills pending up to most, or to what the log holds once linger is over.
func (m *Merge) gather(ctx context.Context, most int, linger time.Duration) error {
	if cap(m.pending) == 0 {
		m.pending = make([]*kgo.Record, 0, most)
	}
	var deadline time.Time // end of linger
	fresh := false         // ends were asked for since this call began, or since we last slept at the end
	for len(m.pending) < most {
		lagging := m.lagging()
		switch {
		case len(m.heap) == len(m.lanes): // no end need be known
			for len(m.heap) == len(m.lanes) && len(m.pending) < most {
				m.take()
			}
		case lagging != nil: // it is certain that more is to come
			if err := m.fill(ctx, lagging); err != nil {
				return err
			}
		case !fresh:
			if err := m.refresh(ctx); err != nil {
				return err
			}
			fresh = true
		case len(m.heap) > 0: // the lanes without a record are at their end
			for n := len(m.heap); len(m.heap) == n && len(m.pending) < most; {
				m.take()
			}
		case linger == noLinger: // all are
			m.rest()
			return nil
		default:
			m.rest()
			if len(m.pending) > 0 && deadline.IsZero() {
				deadline = time.Now().Add(linger)
			}
			over, err := m.sleep(ctx, deadline)
			if over || err != nil {
				return err
			}
			fresh = false
		}
	}
	return nil
}

// lagging returns a lane that has no record although the log has one for it.
func (m *Merge) lagging() *lane {
	if len(m.heap) == len(m.lanes) {
		return nil
	}
	for _, l := range m.lanes {
		if len(l.queue) == 0 && m.r.next[l.partition] < m.ends[l.partition] {
			return l
		}
	}
	return nil
}

// refresh asks for the ends of all partitions, and takes in added ones.
func (m *Merge) refresh(ctx context.Context) error {
	added, err := m.r.grow(ctx)
	if err != nil {
		return err
	}
	for _, p := range added {
		m.add(p)
	}
	ends, err := m.r.ends(ctx)
	if err != nil {
		return err
	}
	m.ends = ends
	return nil
}

// fill polls once on behalf of a lane that is known to have more.
func (m *Merge) fill(ctx context.Context, l *lane) error {
	wait, cancel := context.WithTimeout(ctx, stall)
	defer cancel()
	err := m.poll(wait)
	if err != nil || wait.Err() == nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return m.r.settle(ctx, l.partition, m.ends[l.partition])
}

// sleep waits at the end of the log for records, or for the deadline if there is one.
func (m *Merge) sleep(ctx context.Context, deadline time.Time) (over bool, err error) {
	wait := ctx
	if !deadline.IsZero() {
		if !time.Now().Before(deadline) {
			return true, nil
		}
		var cancel context.CancelFunc
		wait, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	if err := m.poll(wait); err != nil {
		return false, err
	}
	return false, ctx.Err()
}

func (m *Merge) poll(ctx context.Context) error {
	return m.r.poll(ctx, func(partition int32, recs []*kgo.Record) error {
		if int(partition) >= len(m.lanes) {
			return fmt.Errorf("BUG: topic %s: records of partition %d before it was added", m.r.topic, partition)
		}
		l := m.lanes[partition]
		l.queue = append(l.queue, recs)
		for _, rec := range recs {
			l.bytes += size(rec)
		}
		if len(l.queue) == 1 {
			m.push(l)
		}
		if !l.paused && l.bytes > m.limit {
			l.paused = true
			m.r.cl.PauseFetchPartitions(map[string][]int32{m.r.topic: {partition}})
		}
		return nil
	})
}

func size(rec *kgo.Record) int { return recordBytes + len(rec.Key) + len(rec.Value) }

// take moves the first record of the heap to pending.
func (m *Merge) take() {
	l := m.heap[0]
	m.pending = append(m.pending, m.pop(l))
	if len(l.queue) == 0 {
		last := len(m.heap) - 1
		m.heap[0] = m.heap[last]
		m.heap = m.heap[:last]
	} else {
		l.when = EventTime(l.queue[0][0]).UnixMilli()
	}
	m.down(0)
}

// pop removes a lane's first record.
func (m *Merge) pop(l *lane) *kgo.Record {
	rec := l.queue[0][0]
	if l.queue[0] = l.queue[0][1:]; len(l.queue[0]) == 0 {
		l.queue[0] = nil
		l.queue = l.queue[1:]
	}
	l.bytes -= size(rec)
	if l.paused && l.bytes <= m.limit/2 {
		l.paused = false
		m.r.cl.ResumeFetchPartitions(map[string][]int32{m.r.topic: {l.partition}})
	}
	return rec
}

func less(a, b *lane) bool {
	if a.when != b.when {
		return a.when < b.when
	}
	return a.partition < b.partition
}

func (m *Merge) push(l *lane) {
	l.when = EventTime(l.queue[0][0]).UnixMilli()
	m.heap = append(m.heap, l)
	for i := len(m.heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if !less(m.heap[i], m.heap[parent]) {
			return
		}
		m.heap[i], m.heap[parent] = m.heap[parent], m.heap[i]
		i = parent
	}
}

func (m *Merge) down(i int) {
	for {
		first := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < len(m.heap) && less(m.heap[child], m.heap[first]) {
				first = child
			}
		}
		if first == i {
			return
		}
		m.heap[i], m.heap[first] = m.heap[first], m.heap[i]
		i = first
	}
}
