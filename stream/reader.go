package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"seralm/config"
)

// stall is how long a reader that knows there is more to come waits for a record
// before it asks the broker what lies between (see settle).
const stall = 100 * time.Millisecond

// LostError says that the log does not hold the records that were asked for:
// retention or a deletion took them (Wanted < Earliest), or the log was truncated
// or made anew (Wanted > Latest). Going on elsewhere would silently lose events,
// so nothing here ever does.
type LostError struct {
	Topic     string
	Partition int32
	Wanted    int64 // next offset asked for
	Earliest  int64 // first offset the log holds
	Latest    int64 // end of the log
}

// Count returns how many offsets are gone.
func (e *LostError) Count() int64 {
	if e.Wanted > e.Latest {
		return e.Wanted - e.Latest
	}
	return e.Earliest - e.Wanted
}

func (e *LostError) Error() string {
	where := fmt.Sprintf("topic %s partition %d: %d records are lost: offset %d is wanted, the log holds [%d, %d)",
		e.Topic, e.Partition, e.Count(), e.Wanted, e.Earliest, e.Latest)
	if e.Wanted > e.Latest {
		return where + " (the log was truncated or made anew; start from an empty state, or restore the log)"
	}
	return where + " (retention deleted them before they were read; start from an empty state to accept the gap, and lengthen retention)"
}

// reader reads the partitions of a topic without a group, and knows exactly how
// far it got. A consumer's records alone do not tell: behind the last of them may
// lie transaction markers, aborted records, or what compaction left of a batch, so
// "did I reach the end?" has no answer. Markers are asked for (and kept from
// callers), and what remains is settled by asking the broker directly.
type reader struct {
	cl    *kgo.Client
	topic string
	id    [16]byte
	// next offset per partition: every visible record before it was handed out.
	next map[int32]int64
}

// openReader starts reading every partition of topic at the given next offsets;
// a partition that is not among them starts at the first record the log holds.
func openReader(ctx context.Context, cfg config.Kafka, topic string, start map[int32]int64, extra ...kgo.Opt) (*reader, error) {
	cl, err := newClient(cfg, append([]kgo.Opt{
		kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(time.Second),
	}, extra...)...)
	if err != nil {
		return nil, err
	}
	r := &reader{cl: cl, topic: topic, next: map[int32]int64{}}
	if err := r.open(ctx, start); err != nil {
		cl.Close()
		return nil, fmt.Errorf("reading topic %s: %w", topic, err)
	}
	return r, nil
}

func (r *reader) open(ctx context.Context, start map[int32]int64) error {
	listed, err := kadm.NewClient(r.cl).ListTopics(ctx, r.topic)
	if err != nil {
		return err
	}
	detail := listed[r.topic]
	if detail.Err != nil {
		return detail.Err
	}
	r.id = detail.ID
	var partitions []int32
	for p := range detail.Partitions {
		partitions = append(partitions, p)
	}
	earliest, latest, err := r.bounds(ctx, partitions)
	if err != nil {
		return err
	}
	for p, at := range start {
		if _, ok := earliest[p]; !ok {
			return fmt.Errorf("there is no partition %d, whose offset %d is wanted (was the topic made anew with fewer?)", p, at)
		}
	}
	at := map[int32]kgo.Offset{}
	for _, p := range partitions {
		next, ok := start[p]
		if !ok {
			next = earliest[p]
		}
		if next < earliest[p] || next > latest[p] {
			return &LostError{r.topic, p, next, earliest[p], latest[p]}
		}
		r.next[p] = next
		at[p] = kgo.NewOffset().At(next)
	}
	r.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{r.topic: at})
	return nil
}

// grow starts to read partitions that were added to the topic since, from their
// start, and returns them. It looks at the client's own metadata only.
func (r *reader) grow(ctx context.Context) ([]int32, error) {
	var added []int32
	for {
		p := int32(len(r.next) + len(added))
		if leader, _, _ := r.cl.PartitionLeader(r.topic, p); leader < 0 {
			break
		}
		added = append(added, p)
	}
	if len(added) == 0 {
		return nil, nil
	}
	earliest, _, err := r.bounds(ctx, added)
	if err != nil {
		return nil, err
	}
	at := map[int32]kgo.Offset{}
	for _, p := range added {
		r.next[p] = earliest[p]
		at[p] = kgo.NewOffset().At(earliest[p])
	}
	r.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{r.topic: at})
	return added, nil
}

// poll waits for records and hands out each partition's, in order of offset and
// without transaction markers. It returns after one round; a done ctx is not an
// error but a round that brought nothing.
func (r *reader) poll(ctx context.Context, fn func(partition int32, recs []*kgo.Record) error) error {
	var failed error
	r.cl.PollFetches(ctx).EachPartition(func(p kgo.FetchTopicPartition) {
		if failed != nil {
			return
		}
		if p.Err != nil {
			failed = r.explain(ctx, p)
			return
		}
		if len(p.Records) == 0 {
			return
		}
		r.next[p.Partition] = p.Records[len(p.Records)-1].Offset + 1
		if recs := withoutMarkers(p.Records); len(recs) > 0 {
			failed = fn(p.Partition, recs)
		}
	})
	return failed
}

func withoutMarkers(recs []*kgo.Record) []*kgo.Record {
	n := 0
	for _, rec := range recs {
		if !rec.Attrs.IsControl() {
			recs[n] = rec
			n++
		}
	}
	return recs[:n]
}

// explain turns what the client says of a partition into what it means here.
func (r *reader) explain(ctx context.Context, p kgo.FetchTopicPartition) error {
	var loss *kgo.ErrDataLoss
	switch {
	case ctx.Err() != nil && errors.Is(p.Err, ctx.Err()):
		return nil
	case errors.As(p.Err, &loss):
		return &LostError{r.topic, loss.Partition, loss.ConsumedTo, 0, loss.ResetTo}
	case errors.Is(p.Err, kerr.OffsetOutOfRange):
		// The poll's ctx may be about to end; the answer must not depend on it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		earliest, latest, err := r.bounds(ctx, []int32{p.Partition})
		if err != nil {
			return err
		}
		return &LostError{r.topic, p.Partition, r.next[p.Partition], earliest[p.Partition], latest[p.Partition]}
	}
	return fmt.Errorf("reading topic %s partition %d at offset %d: %w", r.topic, p.Partition, r.next[p.Partition], p.Err)
}

// ends returns the end of every partition for a reader of committed records: the
// last stable offset. It waits out brokers that cannot be reached.
func (r *reader) ends(ctx context.Context) (map[int32]int64, error) {
	partitions := make([]int32, 0, len(r.next))
	for p := range r.next {
		partitions = append(partitions, p)
	}
	for {
		ends, err := r.list(ctx, partitions, -1, 1)
		var answered *kerr.Error
		switch {
		case err == nil:
			return ends, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.As(err, &answered), errors.Is(err, kgo.ErrClientClosed):
			return nil, err
		}
		slog.Warn("no broker answers; retrying", "topic", r.topic, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (r *reader) bounds(ctx context.Context, partitions []int32) (earliest, latest map[int32]int64, err error) {
	if earliest, err = r.list(ctx, partitions, -2, 0); err != nil {
		return nil, nil, err
	}
	latest, err = r.list(ctx, partitions, -1, 0)
	return earliest, latest, err
}

// list asks for an offset of each partition: timestamp -2 is the first, -1 the
// end; isolation 1 stops the end at the oldest open transaction.
func (r *reader) list(ctx context.Context, partitions []int32, timestamp int64, isolation int8) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	req.IsolationLevel = isolation
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = r.topic
	for _, p := range partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition = p
		rp.Timestamp = timestamp
		t.Partitions = append(t.Partitions, rp)
	}
	req.Topics = append(req.Topics, t)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		offsets, err := listOnce(ctx, r.cl, req, len(partitions))
		if err == nil {
			return offsets, nil
		}
		if !kerr.IsRetriable(err) {
			return nil, fmt.Errorf("listing offsets: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("listing offsets: %w", errors.Join(err, ctx.Err()))
		case <-time.After(wait):
		}
	}
}

func listOnce(ctx context.Context, cl *kgo.Client, req *kmsg.ListOffsetsRequest, n int) (map[int32]int64, error) {
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	offsets := make(map[int32]int64, n)
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("partition %d: %w", p.Partition, err)
			}
			offsets[p.Partition] = p.Offset
		}
	}
	if len(offsets) != n {
		return nil, fmt.Errorf("the broker listed %d of %d partitions: %w", len(offsets), n, kerr.UnknownTopicOrPartition)
	}
	return offsets, nil
}

// settle asks the broker what lies between the next offset of a partition and
// end. If nothing there can be read (an aborted transaction's records before an
// open one's, or offsets that compaction emptied), next moves over it; else the
// records are on their way and nothing changes.
func (r *reader) settle(ctx context.Context, partition int32, end int64) error {
	leader, _, _ := r.cl.PartitionLeader(r.topic, partition) // -1 with any error
	if leader < 0 {
		return nil // the client is looking for it; ask again at the next stall
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID = -1
	req.MaxBytes = fetchMaxPartition
	req.IsolationLevel = 1
	req.SessionEpoch = -1 // a full fetch outside any session
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = r.topic, r.id
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition = partition
	p.CurrentLeaderEpoch = -1
	p.FetchOffset = r.next[partition]
	p.PartitionMaxBytes = fetchMaxPartition
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := r.cl.Broker(int(leader)).RetriableRequest(ctx, req)
	if err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // callers look at their own ctx; what it cut short is no trouble of the log's
		}
		return fmt.Errorf("asking broker %d for offset %d of topic %s partition %d: %w", leader, p.FetchOffset, r.topic, partition, err)
	}
	for _, t := range resp.(*kmsg.FetchResponse).Topics {
		for i := range t.Partitions {
			if t.Partitions[i].ErrorCode != 0 {
				return nil // the consumer meets the same error and explains it
			}
			got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
				Offset: r.next[partition], IsolationLevel: kgo.ReadCommitted(), Topic: r.topic, Partition: partition,
			}, &t.Partitions[i], kgo.DefaultDecompressor(), nil)
			if got.Err == nil && len(got.Records) == 0 {
				r.next[partition] = max(r.next[partition], min(next, end))
			}
		}
	}
	return nil
}

func (r *reader) close() { r.cl.Close() }
