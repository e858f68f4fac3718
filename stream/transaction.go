package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"seralm/config"
)

var (
	// ErrFenced says that a newer writer took over the transactional id, or that
	// the broker gave this one up. It can never write again: stop.
	ErrFenced = errors.New("fenced: another writer has taken over this transactional id")
	// ErrAborted says that the broker aborted the transaction: nothing of it is
	// visible, and the same records may be written in a new one.
	ErrAborted = errors.New("the transaction was aborted")
	// ErrUnknownOutcome says that a commit got no answer. Only the log knows: read
	// it back (the journal) before writing more, with a new Txn.
	ErrUnknownOutcome = errors.New("the transaction's outcome is unknown")
)

const (
	transactionTimeout = 60 * time.Second
	endTimeout         = 30 * time.Second
)

// Txn is the one writer of a transactional id. Records and the offsets that led to
// them become visible together or not at all.
//
// It belongs to one goroutine: Begin, any number of Produce and CommitOffsets,
// then Commit or Abort.
type Txn struct {
	cl     *kgo.Client
	id     string
	topics map[string]kadm.TopicID

	open  bool
	wrote bool  // a record, in this transaction
	dead  error // no call can succeed any more
}

// NewTxn registers a transactional id, which fences every older writer of it and
// aborts what that one left open.
func NewTxn(ctx context.Context, cfg config.Kafka, id string, extra ...kgo.Opt) (*Txn, error) {
	cl, err := newClient(cfg, append([]kgo.Opt{
		kgo.TransactionalID(id),
		kgo.TransactionTimeout(transactionTimeout),
	}, extra...)...)
	if err != nil {
		return nil, err
	}
	if _, _, err := cl.ProducerID(ctx); err != nil {
		cl.Close()
		return nil, fmt.Errorf("registering transactional id %q: %w", id, err)
	}
	return &Txn{cl: cl, id: id, topics: map[string]kadm.TopicID{}}, nil
}

// Begin starts a transaction.
func (t *Txn) Begin() error {
	if t.dead != nil {
		return t.dead
	}
	if t.open {
		return errors.New("BUG: a transaction is open already")
	}
	if err := t.cl.BeginTransaction(); err != nil {
		return t.fail("beginning a transaction", err)
	}
	t.open, t.wrote = true, false
	return nil
}

// Produce writes records within the transaction, and returns when the broker has
// them all.
func (t *Txn) Produce(ctx context.Context, recs ...*kgo.Record) error {
	if err := t.usable(); err != nil {
		return err
	}
	if err := t.cl.ProduceSync(ctx, recs...).FirstErr(); err != nil {
		return t.fail("writing in a transaction", err)
	}
	t.wrote = t.wrote || len(recs) > 0
	return nil
}

// CommitOffsets makes next, per partition of topic, the offsets of group, as part
// of the transaction. There need be no member in the group.
func (t *Txn) CommitOffsets(ctx context.Context, group, topic string, next map[int32]int64) error {
	if err := t.usable(); err != nil {
		return err
	}
	topicID, err := t.topicID(ctx, topic)
	if err != nil {
		return err
	}
	id, epoch, err := t.cl.ProducerID(ctx)
	if err != nil {
		return t.fail("committing offsets", err)
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = t.id, id, epoch, group
	if err := t.retry(ctx, func() error {
		resp, err := add.RequestWith(ctx, t.cl)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	}); err != nil {
		return t.fail("adding offsets to the transaction", err)
	}
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.ProducerID, commit.ProducerEpoch, commit.Group = t.id, id, epoch, group
	commit.Generation = -1 // no member: the partitions are assigned by hand
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = topic, topicID
	for p, at := range next {
		rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset = p, at
		rt.Partitions = append(rt.Partitions, rp)
	}
	commit.Topics = append(commit.Topics, rt)
	if err := t.retry(ctx, func() error {
		resp, err := commit.RequestWith(ctx, t.cl)
		if err != nil {
			return err
		}
		for _, rt := range resp.Topics {
			for _, rp := range rt.Partitions {
				if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
					return fmt.Errorf("partition %d: %w", rp.Partition, err)
				}
			}
		}
		return nil
	}); err != nil {
		return t.fail("committing offsets in the transaction", err)
	}
	return nil
}

// Commit makes everything since Begin visible at once. It returns when the outcome is
// decided; readers see it when the cluster has told the partitions, a moment later,
// and the next NewTxn of the id waits for that. After ErrAborted nothing of it is ever
// visible; after ErrUnknownOutcome and ErrFenced this Txn is of no more use.
func (t *Txn) Commit(ctx context.Context) error {
	if err := t.usable(); err != nil {
		return err
	}
	if !t.wrote {
		// The client ends only what records have begun; offsets alone would hang
		// in an open transaction until it times out.
		return errors.New("BUG: a transaction without a record")
	}
	// An interrupted commit has an unknown outcome: let it come to its end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	err := t.cl.EndTransaction(ctx, kgo.TryCommit)
	t.open = false
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.OperationNotAttempted), errors.Is(err, kerr.TransactionAbortable):
		if abort := t.cl.EndTransaction(ctx, kgo.TryAbort); abort != nil {
			return t.fail("aborting what could not be committed", errors.Join(err, abort))
		}
		return fmt.Errorf("committing transaction of %q: %w: %w", t.id, ErrAborted, err)
	case fenced(err):
		return t.fail("committing", err)
	}
	t.dead = fmt.Errorf("committing transaction of %q: %w: %w", t.id, ErrUnknownOutcome, err)
	return t.dead
}

// Abort drops everything since Begin. It is a no-op without an open transaction.
func (t *Txn) Abort(ctx context.Context) error {
	if t.dead != nil || !t.open {
		return t.dead
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	t.open = false
	if err := t.cl.AbortBufferedRecords(ctx); err != nil {
		return t.fail("aborting", err)
	}
	if err := t.cl.EndTransaction(ctx, kgo.TryAbort); err != nil {
		return t.fail("aborting", err)
	}
	return nil
}

// Close leaves what is open to be aborted, by the next writer or by timeout.
func (t *Txn) Close() { t.cl.Close() }

func (t *Txn) usable() error {
	if t.dead == nil && !t.open {
		return errors.New("BUG: no transaction is open")
	}
	return t.dead
}

// fail describes an error, and remembers it when no later call can succeed.
func (t *Txn) fail(doing string, err error) error {
	if fenced(err) {
		t.dead = fmt.Errorf("%s of %q: %w: %w", doing, t.id, ErrFenced, err)
		return t.dead
	}
	return fmt.Errorf("%s of %q: %w", doing, t.id, err)
}

// fenced recognises the answers that a writer gets when its epoch is over: each
// request kind has its own, and an id that the coordinator forgot is over too.
func fenced(err error) bool {
	for _, over := range []*kerr.Error{
		kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.InvalidProducerIDMapping, kerr.InvalidTxnState,
	} {
		if errors.Is(err, over) {
			return true
		}
	}
	return false
}

// retry waits out what passes by itself: the end of the transaction before, and
// coordinators that move.
func (t *Txn) retry(ctx context.Context, fn func() error) error {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := fn()
		if err == nil || !kerr.IsRetriable(err) && !errors.Is(err, kerr.ConcurrentTransactions) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// topicID returns a topic's id, which newer brokers want instead of its name.
func (t *Txn) topicID(ctx context.Context, topic string) (kadm.TopicID, error) {
	if id, ok := t.topics[topic]; ok {
		return id, nil
	}
	listed, err := kadm.NewClient(t.cl).ListTopics(ctx, topic)
	if err == nil {
		err = listed[topic].Err
	}
	if err != nil {
		return kadm.TopicID{}, fmt.Errorf("describing topic %s: %w", topic, err)
	}
	t.topics[topic] = listed[topic].ID
	return t.topics[topic], nil
}
