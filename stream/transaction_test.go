package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func openTxnWriter(t testing.TB, c *testCluster, id string) *Txn {
	t.Helper()
	txn, err := NewTxn(t.Context(), c.cfg, c.cfg.TopicPrefix+id, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	t.Cleanup(txn.Close)
	return txn
}

// settled returns when no transaction of the topic is open, nor being ended: a real
// cluster answers a commit when it is decided, and tells the partitions after that.
func (c *testCluster) settled(topic string) string {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		stable, err := c.adm.ListCommittedOffsets(c.t.Context(), topic)
		require.NoError(c.t, err)
		ends, err := c.adm.ListEndOffsets(c.t.Context(), topic)
		require.NoError(c.t, err)
		return maps.Equal(stable.Offsets()[topic], ends.Offsets()[topic])
	}, 30*time.Second, 5*time.Millisecond, "a transaction stays open")
	return topic
}

// committed returns a group's offsets of a topic; see kadm.RequireStable for ctx.
func (c *testCluster) committed(ctx context.Context, group, topic string) map[int32]int64 {
	c.t.Helper()
	out := map[int32]int64{}
	var resp kadm.OffsetResponses
	var err error
	// The first use of groups makes a real cluster create the topic it keeps them in.
	require.Eventually(c.t, func() bool {
		resp, err = c.adm.FetchOffsets(ctx, group)
		return !kerr.IsRetriable(err)
	}, 30*time.Second, 20*time.Millisecond)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return out
	}
	require.NoError(c.t, err)
	for p, o := range resp.Offsets()[topic] {
		out[p] = o.At
	}
	return out
}

// visible returns what a reader of the whole topic sees now.
func (c *testCluster) visible(topic string) []string {
	c.t.Helper()
	if recs := c.records(topic); len(recs) > 0 {
		return values(recs)
	}
	return nil
}

func (c *testCluster) records(topic string) (out []*kgo.Record) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	err := Follow(ctx, c.cfg, topic, func(rec *kgo.Record) error {
		out = append(out, rec)
		return nil
	}, cancel)
	require.ErrorIs(c.t, err, context.Canceled)
	return out
}

func TestRecordsAndOffsetsBecomeVisibleTogether(t *testing.T) {
	c := newTestCluster(t)
	in, out := c.topic("in", 2), c.topic("out", 1)
	group := c.cfg.TopicPrefix + "g"
	txn := openTxnWriter(t, c, "w")

	for round := range 3 {
		require.NoError(t, txn.Begin())
		require.NoError(t, txn.Produce(t.Context(), record(out, 0, 1, fmt.Sprint("a", round)), record(out, 0, 1, fmt.Sprint("b", round))))
		next := map[int32]int64{0: int64(10 * (round + 1)), 1: int64(round)}
		before := c.committed(t.Context(), group, in)
		require.NoError(t, txn.CommitOffsets(t.Context(), group, in, next))
		require.Len(t, c.visible(out), 2*round, "nothing before the commit")
		require.Equal(t, before, c.committed(t.Context(), group, in))
		require.NoError(t, txn.Commit(t.Context()))
		require.Len(t, c.visible(c.settled(out)), 2*(round+1))
		require.Equal(t, next, c.committed(kadm.RequireStable(t.Context()), group, in))
	}
}

func TestAnAbortIsInvisible(t *testing.T) {
	c := newTestCluster(t)
	in, out := c.topic("in", 1), c.topic("out", 1)
	group := c.cfg.TopicPrefix + "g"
	txn := openTxnWriter(t, c, "w")
	write := func(value string, at int64) {
		require.NoError(t, txn.Begin())
		require.NoError(t, txn.Produce(t.Context(), record(out, 0, 1, value)))
		require.NoError(t, txn.CommitOffsets(t.Context(), group, in, map[int32]int64{0: at}))
	}
	write("kept", 1)
	require.NoError(t, txn.Commit(t.Context()))
	write("dropped", 2)
	require.NoError(t, txn.Abort(t.Context()))
	require.NoError(t, txn.Abort(t.Context()), "again is nothing")
	require.Equal(t, []string{"kept"}, c.visible(c.settled(out)))
	require.Equal(t, map[int32]int64{0: 1}, c.committed(kadm.RequireStable(t.Context()), group, in))
	write("kept too", 3)
	require.NoError(t, txn.Commit(t.Context()))
	require.Equal(t, []string{"kept", "kept too"}, c.visible(c.settled(out)))
	require.Equal(t, map[int32]int64{0: 3}, c.committed(kadm.RequireStable(t.Context()), group, in))
}

func TestANewerWriterFencesTheOlderWhereverItIs(t *testing.T) {
	for name, older := range map[string]func(t *testing.T, c *testCluster, old *Txn, out string) error{
		"writing": func(t *testing.T, _ *testCluster, old *Txn, out string) error {
			return old.Produce(t.Context(), record(out, 0, 1, "late"))
		},
		"committing offsets": func(t *testing.T, c *testCluster, old *Txn, out string) error {
			return old.CommitOffsets(t.Context(), c.cfg.TopicPrefix+"g", out, map[int32]int64{0: 1})
		},
		"committing": func(t *testing.T, _ *testCluster, old *Txn, _ string) error { return old.Commit(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCluster(t)
			out := c.topic("out", 1)
			old := openTxnWriter(t, c, "w")
			require.NoError(t, old.Begin())
			require.NoError(t, old.Produce(t.Context(), record(out, 0, 1, "of the older")))

			newer := openTxnWriter(t, c, "w")
			require.ErrorIs(t, older(t, c, old, out), ErrFenced)
			require.ErrorIs(t, old.Begin(), ErrFenced, "for good")
			require.ErrorIs(t, old.Commit(t.Context()), ErrFenced)
			require.ErrorIs(t, old.Abort(t.Context()), ErrFenced)

			require.NoError(t, newer.Begin())
			require.NoError(t, newer.Produce(t.Context(), record(out, 0, 1, "of the newer")))
			require.NoError(t, newer.Commit(t.Context()))
			require.Equal(t, []string{"of the newer"}, c.visible(c.settled(out)))
		})
	}
}

func TestAnIdleOlderWriterIsFencedAtItsNextTransaction(t *testing.T) {
	c := newTestCluster(t)
	out := c.topic("out", 1)
	old := openTxnWriter(t, c, "w")
	require.NoError(t, old.Begin())
	require.NoError(t, old.Produce(t.Context(), record(out, 0, 1, "one")))
	require.NoError(t, old.Commit(t.Context()))
	newer := openTxnWriter(t, c, "w")
	require.NoError(t, newer.Begin())
	require.NoError(t, newer.Produce(t.Context(), record(out, 0, 1, "two")))
	require.NoError(t, newer.Commit(t.Context()))

	err := old.Begin()
	if err == nil {
		err = old.Produce(t.Context(), record(out, 0, 1, "zombie"))
	}
	require.ErrorIs(t, err, ErrFenced)
	require.Equal(t, []string{"one", "two"}, c.visible(c.settled(out)))
}

func TestMisuseOfATransactionIsABug(t *testing.T) {
	c := newTestCluster(t)
	txn := openTxnWriter(t, c, "w")
	require.ErrorContains(t, txn.Produce(t.Context()), "BUG: no transaction is open")
	require.ErrorContains(t, txn.Commit(t.Context()), "BUG: no transaction is open")
	require.NoError(t, txn.Begin())
	require.ErrorContains(t, txn.Begin(), "BUG: a transaction is open already")
	require.ErrorContains(t, txn.Commit(t.Context()), "BUG: a transaction without a record")
	require.NoError(t, txn.Abort(t.Context()))
}

// A snapshot of 8 MiB goes through in one transaction, in chunks and in one piece. An
// adapter is kept with its roll-out in the same way.
func TestLargeSnapshots(t *testing.T) {
	names := NamesOf("")
	for _, topic := range []string{names.Snapshots(), names.Rollouts()} {
		t.Run(topic, func(t *testing.T) { largeSnapshots(t, topic) })
	}
}

func largeSnapshots(t *testing.T, name string) {
	c := newTestCluster(t)
	require.NoError(t, Ensure(t.Context(), c.adm, c.cfg))
	topic := c.cfg.TopicPrefix + name
	payload := []byte(noise(8 << 20))
	txn, err := NewTxn(t.Context(), c.cfg, c.cfg.TopicPrefix+"large")
	require.NoError(t, err)
	defer txn.Close()
	for i, chunk := range []int{DefaultChunk, 8 << 20} {
		require.NoError(t, txn.Begin())
		require.NoError(t, txn.Produce(t.Context(), ChunkRecords(topic, "m", i, fmt.Sprint(i), []byte("{}"), payload, chunk)...))
		require.NoError(t, txn.Commit(t.Context()))
	}
	c.settled(topic)
	r := NewChunkReader(64 << 20)
	ctx, cancel := context.WithCancel(t.Context())
	var blobs []*Blob
	err = Follow(ctx, c.cfg, topic, func(rec *kgo.Record) error {
		b, err := r.Add(rec)
		if b != nil {
			blobs = append(blobs, b)
		}
		return err
	}, cancel)
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, blobs, 2)
	for _, b := range blobs {
		require.True(t, bytes.Equal(payload, b.Payload))
	}
}

// In front of an open transaction lie the records of an aborted one: there is
// nothing to read up to the end, and readers must notice.
func TestAnAbortedTailBeforeAnOpenTransactionHoldsNobodyUp(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 2)
	c.produce(record(topic, 0, 1, "plain"), record(topic, 1, 2, "other"))
	first, second := openTxnWriter(t, c, "first"), openTxnWriter(t, c, "second")
	require.NoError(t, first.Begin())
	require.NoError(t, first.Produce(t.Context(), record(topic, 0, 3, "aborted")))
	require.NoError(t, second.Begin())
	require.NoError(t, second.Produce(t.Context(), record(topic, 0, 4, "open")))
	require.NoError(t, first.Abort(t.Context()))

	require.ElementsMatch(t, []string{"plain", "other"}, c.visible(topic))
	m := openMerge(t, c, topic, nil)
	recs, err := m.Batch(t.Context(), 10, time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, []string{"plain", "other"}, values(recs))

	require.NoError(t, second.Commit(t.Context()))
	require.Equal(t, []string{"open"}, values(take(t, m, 1, 1)))
}

// A merge over transactional producers: aborted records and markers take offsets
// and are in no batch; the journal reads the same again.
func TestMergeAndJournalOverAbortedTransactions(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 2)
	txn := openTxnWriter(t, c, "w")
	var want []string
	for i := range 20 {
		require.NoError(t, txn.Begin())
		value := fmt.Sprint("v", i)
		require.NoError(t, txn.Produce(t.Context(), record(topic, int32(i%2), int64(i), value)))
		if i%3 == 0 {
			require.NoError(t, txn.Abort(t.Context()))
			continue
		}
		require.NoError(t, txn.Commit(t.Context()))
		want = append(want, value)
	}
	m := openMerge(t, c, topic, nil)
	again := openMerge(t, c, topic, nil)
	var got []string
	for len(got) < len(want) {
		recs, err := m.Batch(t.Context(), 3, time.Millisecond)
		require.NoError(t, err)
		got = append(got, values(recs)...)
		ranges, order := m.Taken()
		replayed, err := again.Ranges(t.Context(), ranges, order)
		require.NoError(t, err)
		require.Equal(t, values(recs), values(replayed))
	}
	require.Equal(t, want, got)
	require.Equal(t, m.Offsets(), again.Offsets())

	// The log ends with marks: nothing is left, though it is longer than what was returned.
	recs, err := m.Ready(t.Context(), 3)
	require.NoError(t, err)
	require.Empty(t, recs)
	ends, err := m.r.ends(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, ends, m.Offsets())
	require.Equal(t, ends, m.Idle())
	require.Nil(t, again.Idle())
}
