package stream

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func headersOf(rec *kgo.Record) map[string]string {
	out := map[string]string{}
	for _, h := range rec.Headers {
		out[h.Key] = string(h.Value)
	}
	return out
}

// letters reads the dead-letter topic.
func (c *testCluster) letters() (recs []*kgo.Record) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	err := Follow(ctx, c.cfg, NamesOf(c.cfg.TopicPrefix).DeadLetters(), func(rec *kgo.Record) error {
		recs = append(recs, rec)
		return nil
	}, cancel)
	require.ErrorIs(c.t, err, context.Canceled)
	return recs
}

func newDeadLetters(t *testing.T, c *testCluster, reg prometheus.Registerer) *DeadLetters {
	t.Helper()
	c.topic("dead-letters", 1)
	return NewDeadLetters(c.client(kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil))), NamesOf(c.cfg.TopicPrefix), "histories", reg)
}

func TestADeadLetterIsTheRecordWithTheReason(t *testing.T) {
	c := newTestCluster(t)
	reg := prometheus.NewRegistry()
	d := newDeadLetters(t, c, reg)
	rec := &kgo.Record{
		Topic: "interactions", Partition: 3, Offset: 42, Key: []byte("u"), Value: []byte("{broken"),
		Headers: []kgo.RecordHeader{{Key: HeaderID, Value: []byte("id")}, {Key: "mine", Value: []byte("kept")}},
	}
	require.NoError(t, d.Put(t.Context(), rec, "invalid", &InvalidError{"value", "not JSON"}))

	got := c.letters()
	require.Len(t, got, 1, "written when Put returns")
	require.Equal(t, "u", string(got[0].Key))
	require.Equal(t, "{broken", string(got[0].Value))
	require.Equal(t, map[string]string{
		HeaderID: "id", "mine": "kept",
		HeaderDeadReason: "invalid", HeaderDeadError: "invalid value: not JSON", HeaderDeadRole: "histories",
		HeaderDeadTopic: "interactions", HeaderDeadPartition: "3", HeaderDeadOffset: "42", HeaderDeadAttempt: "1",
	}, headersOf(got[0]))

	// An operator repaired the consumer and wrote it back; it fails again.
	back := *got[0]
	back.Topic, back.Offset = "interactions", 99
	require.NoError(t, d.Put(t.Context(), &back, "invalid", nil))
	again := headersOf(c.letters()[1])
	require.Equal(t, "2", again[HeaderDeadAttempt])
	require.Equal(t, "99", again[HeaderDeadOffset])
	require.NotContains(t, again, HeaderDeadError)

	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP seralm_stream_dead_letters_total Records set aside as unusable, by the role that read them and the reason.
# TYPE seralm_stream_dead_letters_total counter
seralm_stream_dead_letters_total{reason="invalid",role="histories"} 2
`)))
}

func TestARecordTooLargeToSetAsideWholeIsCutShort(t *testing.T) {
	c := newTestCluster(t)
	d := newDeadLetters(t, c, prometheus.NewRegistry())
	value := noise(MaxRecordBytes)
	require.NoError(t, d.Put(t.Context(), &kgo.Record{Topic: "t", Key: []byte("u"), Value: []byte(value)}, "large", nil))
	require.NoError(t, d.Put(t.Context(), &kgo.Record{
		Topic: "t", Key: []byte(noise(MaxRecordBytes)), Value: []byte(value),
		Headers: []kgo.RecordHeader{{Key: "h", Value: []byte(noise(MaxRecordBytes))}},
	}, "large", errors.New(strings.Repeat("why ", 1000))))

	got := c.letters()
	require.Len(t, got, 2)
	require.Equal(t, "1048577", headersOf(got[0])[HeaderDeadSize])
	require.Equal(t, value[:len(got[0].Value)], string(got[0].Value))
	require.Len(t, got[1].Key, MaxName)
	require.Len(t, headersOf(got[1])[HeaderDeadError], 1024)
	require.NotContains(t, headersOf(got[1]), "h")
}

func TestTooManyDeadLettersAreRefused(t *testing.T) {
	c := newTestCluster(t)
	d := newDeadLetters(t, c, prometheus.NewRegistry()).Limit(3)
	rec := &kgo.Record{Topic: "interactions", Partition: 1, Offset: 7, Value: []byte("x")}
	for range 3 {
		require.NoError(t, d.Put(t.Context(), rec, "invalid", nil))
	}
	err := d.Put(t.Context(), rec, "invalid", nil)
	require.ErrorIs(t, err, ErrTooManyDeadLetters)
	require.ErrorContains(t, err, "histories: topic interactions partition 1 offset 7 (invalid)")
	require.Len(t, c.letters(), 3, "it was not set aside, so its offset must not move")
}

func TestRolesOfOneProcessShareTheMetric(t *testing.T) {
	c := newTestCluster(t)
	reg := prometheus.NewRegistry()
	d := newDeadLetters(t, c, reg)
	other := NewDeadLetters(c.cl, NamesOf(c.cfg.TopicPrefix), "trainer", reg)
	require.Same(t, d.put, other.put)
}

// Put must not return before the broker has the record: the caller's next act is to
// move the offset. Injected faults need the embedded engine.
func TestPutFailsWhenTheBrokerDoesNotTakeTheLetter(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "dead-letters"))
	require.NoError(t, err)
	defer fake.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.MetadataMinAge(1e7))
	require.NoError(t, err)
	defer cl.Close()
	reg := prometheus.NewRegistry()
	d := NewDeadLetters(cl, NamesOf(""), "histories", reg)
	rec := &kgo.Record{Topic: "interactions", Value: []byte("x")}

	fault := fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition, Count: 2})
	require.NoError(t, d.Put(t.Context(), rec, "invalid", nil), "what passes is waited out")
	require.Equal(t, 2, fault.Hits())

	fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: 1})
	err = d.Put(t.Context(), rec, "invalid", nil)
	require.ErrorIs(t, err, kerr.TopicAuthorizationFailed)
	require.EqualValues(t, 1, fake.PartitionInfo("dead-letters", 0).HighWatermark)
	require.EqualValues(t, 1, testutil.ToFloat64(d.put.WithLabelValues("histories", "invalid")), "only what was written counts")
}
