package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
)

var errNotYet = errors.New("BUG: not built yet")

// ClientOptions returns what every client of the log needs: seed brokers, TLS, SASL.
func ClientOptions(cfg config.Kafka) ([]kgo.Opt, error) { return nil, errNotYet }

// Ensure creates the topics that are missing and verifies those that exist.
func Ensure(ctx context.Context, adm *kadm.Client, cfg config.Kafka) error { return errNotYet }

// Broker is the embedded broker.
type Broker struct{}

// StartBroker starts the embedded broker on cfg.DataDir/kafka.
func StartBroker(cfg config.Config) (*Broker, error) { return nil, errNotYet }

// Addr is the broker's host:port.
func (b *Broker) Addr() string { return "" }

// Close stops the broker and releases its folder.
func (b *Broker) Close() {}

// ErrTooManyDeadLetters says that so many records are unusable that stopping is wiser than going on.
var ErrTooManyDeadLetters = errors.New("too many dead letters")

// DeadLetters writes what a consumer cannot use.
type DeadLetters struct{}

// NewDeadLetters returns the dead-letter writer of a role.
func NewDeadLetters(client *kgo.Client, names Names, role string, reg prometheus.Registerer) *DeadLetters {
	return &DeadLetters{}
}

// Put writes rec to the dead letters and returns when the broker has it.
func (d *DeadLetters) Put(ctx context.Context, rec *kgo.Record, reason string, err error) error {
	return errNotYet
}

// LostError says that the log no longer holds records that were asked for.
type LostError struct {
	Topic            string
	Partition        int32
	Wanted, Earliest int64
}

// Count is how many offsets are gone.
func (e *LostError) Count() int64 { return e.Earliest - e.Wanted }

func (e *LostError) Error() string {
	return fmt.Sprintf("topic %s partition %d: offset %d was wanted, the log starts at %d", e.Topic, e.Partition, e.Wanted, e.Earliest)
}

// Merge reads the partitions of a topic as one sequence ordered by (timestamp, partition, offset).
type Merge struct{}

// NewMerge starts reading topic at the given next offsets (absent partitions: the start of the log).
func NewMerge(ctx context.Context, cfg config.Kafka, topic string, start map[int32]int64) (*Merge, error) {
	return nil, errNotYet
}

// Batch returns up to max records in merge order. It returns fewer when every
// partition is at its end and linger has passed with at least one record.
func (m *Merge) Batch(ctx context.Context, max int, linger time.Duration) ([]*kgo.Record, error) {
	return nil, errNotYet
}

// Next returns the next record in merge order, waiting for it.
func (m *Merge) Next(ctx context.Context) (*kgo.Record, error) { return nil, errNotYet }

// Ranges reads exactly the given ranges again, in the journalled order, and moves the merge behind them.
func (m *Merge) Ranges(ctx context.Context, ranges []Range, order []int32) ([]*kgo.Record, error) {
	return nil, errNotYet
}

// Offsets returns the next offset of every partition.
func (m *Merge) Offsets() map[int32]int64 { return nil }

// Taken returns the ranges and order of a batch just returned by Batch, for the journal.
func (m *Merge) Taken() (ranges []Range, order []int32) { return nil, nil }

// Close stops reading.
func (m *Merge) Close() {}

// ChunkRecords splits a snapshot into records; the manifest comes last.
func ChunkRecords(topic, key string, slot int, id string, manifest, payload []byte, maxChunk int) []*kgo.Record {
	return nil
}

// Blob is a complete, verified snapshot.
type Blob struct {
	Key               string
	Slot              int
	ID                string
	Manifest, Payload []byte
}

// ChunkReader puts chunks together.
type ChunkReader struct{}

// NewChunkReader returns a reader that holds at most maxBytes of incomplete payloads.
func NewChunkReader(maxBytes int64) *ChunkReader { return &ChunkReader{} }

// Add takes the next record and returns the blob it completes, if any.
func (c *ChunkReader) Add(rec *kgo.Record) (*Blob, error) { return nil, errNotYet }

// Follow reads a topic from its start and then tails it, without a group, until ctx ends or fn fails.
func Follow(ctx context.Context, cfg config.Kafka, topic string, fn func(*kgo.Record) error, caughtUp func()) error {
	return errNotYet
}

// ErrFenced says that a newer writer with the same transactional id has taken over.
var ErrFenced = errors.New("fenced by a newer writer")

// Txn writes records and consumer offsets in one transaction.
type Txn struct{}

// NewTxn registers the transactional id, which fences every older writer that has it.
func NewTxn(ctx context.Context, cfg config.Kafka, id string, opts ...kgo.Opt) (*Txn, error) {
	return nil, errNotYet
}

// Begin starts a transaction.
func (t *Txn) Begin() error { return errNotYet }

// Produce writes records within the transaction and waits for the broker to have them.
func (t *Txn) Produce(ctx context.Context, recs ...*kgo.Record) error { return errNotYet }

// CommitOffsets adds the group's next offsets of a topic to the transaction.
func (t *Txn) CommitOffsets(ctx context.Context, group, topic string, next map[int32]int64) error {
	return errNotYet
}

// Commit makes everything since Begin visible at once.
func (t *Txn) Commit(ctx context.Context) error { return errNotYet }

// Abort drops everything since Begin.
func (t *Txn) Abort(ctx context.Context) error { return errNotYet }

// Close leaves an open transaction to be aborted.
func (t *Txn) Close() {}
