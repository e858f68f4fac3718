package stream

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestOneRecordIsReadFromTheMiddleOfABatch(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 2)
	c.produce(record(topic, 1, 1, "a"), record(topic, 1, 2, "b"), record(topic, 1, 3, "c"))
	c.produce(record(topic, 1, 4, strings.Repeat("d", 1<<16)))

	rec, err := ReadRecord(t.Context(), c.cfg, topic, 1, 1)
	require.NoError(t, err)
	require.Equal(t, "b", string(rec.Value))
	require.EqualValues(t, 1, rec.Offset)
	require.Equal(t, time.UnixMilli(2).UTC(), EventTime(rec))

	rec, err = ReadRecord(t.Context(), c.cfg, topic, 1, 3)
	require.NoError(t, err)
	require.Len(t, rec.Value, 1<<16, "a record larger than what was asked for is sent nevertheless")
}

func TestAnAbortedRecordIsNotTheOneThatWasSeen(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 1)
	writer := c.client(kgo.TransactionalID(topic))
	require.NoError(t, writer.BeginTransaction())
	require.NoError(t, writer.ProduceSync(t.Context(), record(topic, 0, 1, "aborted")).FirstErr())
	require.NoError(t, writer.EndTransaction(t.Context(), kgo.TryAbort))
	c.produce(record(topic, 0, 2, "kept"))

	_, err := ReadRecord(t.Context(), c.cfg, topic, 0, 0)
	require.ErrorIs(t, err, ErrGone)
}

func TestARecordThatRetentionTookIsAnErrorAndNotTheNext(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 1)
	c.produce(record(topic, 0, 1, "a"), record(topic, 0, 2, "b"))
	c.trim(topic, 0, 1)
	_, err := ReadRecord(t.Context(), c.cfg, topic, 0, 0)
	require.ErrorContains(t, err, "reading topic "+topic+" partition 0 offset 0: ")
}

func TestARecordThatIsNotThereYetIsWaitedFor(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 1)
	type answer struct {
		rec *kgo.Record
		err error
	}
	got := make(chan answer)
	go func() {
		rec, err := ReadRecord(t.Context(), c.cfg, topic, 0, 0)
		got <- answer{rec, err}
	}()
	c.produce(record(topic, 0, 1, "a"))
	a := <-got
	require.NoError(t, a.err)
	require.Equal(t, "a", string(a.rec.Value))
}

func TestReadingARecordOfATopicThatDoesNotExistEndsWithItsContext(t *testing.T) {
	c := newTestCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := ReadRecord(ctx, c.cfg, c.cfg.TopicPrefix+"nowhere", 0, 0)
	require.Error(t, err)
}
