package replay

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"seralm/config"
	"seralm/producers/dataset"
	"seralm/stream"
	"seralm/stream/streamtest"
)

const small = "../../testdata/ml-latest-small"

// The test binary is also the replay that the tests kill.
func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		if err := child(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// log is the log of a test.
type log struct {
	t    testing.TB
	cfg  config.Kafka
	cl   *kgo.Client
	adm  *kadm.Client
	fake *kfake.Cluster // nil where it may be a real one
}

func newLog(t testing.TB) *log { return newLogAt(t, nil, streamtest.Brokers(t)) }

// newFakeLog is for failures that a real cluster does not produce on demand.
func newFakeLog(t testing.TB) *log {
	fake := streamtest.Fake(t)
	return newLogAt(t, fake, fake.ListenAddrs())
}

func newLogAt(t testing.TB, fake *kfake.Cluster, brokers []string) *log {
	t.Helper()
	l := &log{t: t, cfg: config.Default().Kafka, fake: fake}
	l.cfg.TopicPrefix, l.cfg.Brokers = streamtest.Prefix(), brokers
	l.cl = streamtest.Topics(t, l.cfg)
	l.adm = kadm.NewClient(l.cl)
	return l
}

func (l *log) interactions() string { return stream.NamesOf(l.cfg.TopicPrefix).Interactions() }
func (l *log) items() string        { return stream.NamesOf(l.cfg.TopicPrefix).Items() }

// count returns how many records a topic holds.
func (l *log) count(topic string) int {
	l.t.Helper()
	ends, err := l.adm.ListEndOffsets(l.t.Context(), topic)
	require.NoError(l.t, err)
	n := 0
	ends.Each(func(o kadm.ListedOffset) {
		require.NoError(l.t, o.Err)
		n += int(o.Offset)
	})
	return n
}

// awaitCount returns when a topic holds at least n records.
func (l *log) awaitCount(topic string, n int) {
	l.t.Helper()
	require.Eventually(l.t, func() bool { return l.count(topic) >= n }, time.Minute, time.Millisecond)
}

// read hands every record of a topic to fn, each partition's in order.
func (l *log) read(topic string, fn func(*kgo.Record)) {
	l.t.Helper()
	opts, err := stream.ClientOptions(l.cfg)
	require.NoError(l.t, err)
	cl, err := kgo.NewClient(append(opts, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	require.NoError(l.t, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(l.t.Context(), 5*time.Minute)
	defer cancel()
	for n := l.count(topic); n > 0; {
		fetches := cl.PollFetches(ctx)
		require.NoError(l.t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) { n--; fn(r) })
	}
}

// requireStream reads the interactions back. What is left of them when a reader drops
// what it has seen must be the data set: every event, and each user's in order. It
// returns how many were repeated.
func (l *log) requireStream(data *dataset.Dataset) (repeated int) {
	l.t.Helper()
	index := make(map[string]int, data.Len())
	for i, e := range data.Interactions(0) {
		index[e.ID] = i
	}
	seen, seq := make([]bool, data.Len()), make([]uint64, data.Users())
	began := time.Now()
	l.read(l.interactions(), func(rec *kgo.Record) {
		got, err := stream.DecodeInteraction(rec)
		require.NoError(l.t, err)
		i, known := index[got.ID]
		require.True(l.t, known, got.ID)
		want := data.At(i)
		if value := want.Body.Value; value != nil && got.Body.Value != nil && *value == *got.Body.Value {
			got.Body.Value = value
		}
		if got.Source != want.Source || !got.Time.Equal(want.Time) || got.Body != want.Body {
			require.Equal(l.t, want, got)
		}
		if rec.Timestamp.Before(began.Add(-time.Hour)) {
			require.Fail(l.t, "a record of long ago", "%s", rec.Timestamp)
		}
		if seen[i] {
			repeated++
			return
		}
		seen[i] = true
		if seq[data.User(i)]++; seq[data.User(i)] != got.Body.Seq {
			require.Fail(l.t, "out of order", "event %s is its user's number %d, and came as number %d", got.ID, got.Body.Seq, seq[data.User(i)])
		}
	})
	for i := range seen {
		if !seen[i] {
			require.Fail(l.t, "an event is missing", "interaction %d", i)
		}
	}
	return repeated
}

func open(t testing.TB, o dataset.Options) *dataset.Dataset {
	t.Helper()
	if o.Path == "" {
		o.Path = small
	}
	data, err := dataset.Open(t.Context(), o)
	require.NoError(t, err)
	return data
}
