package replay

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"seralm/producers/dataset"
	"seralm/stream"
)

// produces is called with every request that writes.
func (l *log) produces(fn func(*kmsg.ProduceRequest) (kmsg.Response, error, bool)) {
	l.fake.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		l.fake.KeepControl()
		return fn(req.(*kmsg.ProduceRequest))
	})
}

// A refused batch must be the last of its partition: what came behind the hole would
// be out of order once the next run fills it.
func TestARefusedBatchIsTheLastOfItsPartition(t *testing.T) {
	l := newFakeLog(t)
	opts, err := stream.ClientOptions(l.cfg)
	require.NoError(t, err)
	cl, err := kgo.NewClient(append(opts, producer...)...)
	require.NoError(t, err)
	defer cl.Close()
	w := &writer{cl: cl, limits: defaults}
	const users = 50
	sent := 0
	send := func(n int) error {
		recs := make([]*kgo.Record, n)
		for i := range recs {
			recs[i] = &kgo.Record{Topic: l.interactions(), Key: []byte(strconv.Itoa(sent % users)), Value: []byte(strconv.Itoa(sent))}
			sent++
		}
		return w.send(t.Context(), recs)
	}
	require.NoError(t, send(1000)) // the client knows the topic, and would send at once
	var refused atomic.Bool
	l.produces(func(req *kmsg.ProduceRequest) (kmsg.Response, error, bool) {
		if refused.CompareAndSwap(false, true) {
			return stream.Refuse(req, kerr.InvalidRecord), nil, true
		}
		return nil, nil, false
	})
	require.ErrorIs(t, send(90_000), kerr.InvalidRecord)
	next := map[string]int{}
	l.read(l.interactions(), func(rec *kgo.Record) {
		user := string(rec.Key)
		first, err := strconv.Atoi(user)
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(first+users*next[user]), string(rec.Value), "a record of user %s", user)
		next[user]++
	})
	require.Len(t, next, users)
}

// And of whole runs: whatever was refused, the next one leaves the stream itself.
func TestWhatWasRefusedComesWithTheNextRun(t *testing.T) {
	for request, code := range map[int64]*kerr.Error{1: kerr.MessageTooLarge, 2: kerr.InvalidRecord, 3: kerr.TopicAuthorizationFailed} {
		t.Run(fmt.Sprintf("%s at request %d", code.Message, request), func(t *testing.T) {
			l, dir := newFakeLog(t), t.TempDir()
			data := open(t, dataset.Options{Limit: 40_000})
			var requests atomic.Int64
			l.produces(func(req *kmsg.ProduceRequest) (kmsg.Response, error, bool) {
				if requests.Add(1) == request {
					return stream.Refuse(req, code), nil, true
				}
				return nil, nil, false
			})
			o := Options{Data: data, Kafka: l.cfg, Dir: dir}
			r, err := Run(t.Context(), o)
			require.ErrorIs(t, err, code)
			require.ErrorContains(t, err, "writing to topic "+l.interactions())
			require.Equal(t, data.Len(), r.Events+r.Left)
			require.Positive(t, r.Left)

			again, err := Run(t.Context(), o)
			require.NoError(t, err)
			require.Equal(t, r.Left, again.Events)
			require.LessOrEqual(t, l.requireStream(data), defaults.records+chunkRecords)
		})
	}
}

func TestABrokerThatStopsAnsweringIsGivenUpWithARightCursor(t *testing.T) {
	l, dir := newFakeLog(t), t.TempDir()
	data := open(t, dataset.Options{Limit: 40_000})
	var requests atomic.Int64
	var away atomic.Bool
	away.Store(true)
	l.produces(func(req *kmsg.ProduceRequest) (kmsg.Response, error, bool) {
		if away.Load() && requests.Add(1) > 2 {
			return stream.Refuse(req, kerr.NotEnoughReplicas), nil, true // the client retries this for ever
		}
		return nil, nil, false
	})
	o := Options{Data: data, Kafka: l.cfg, Dir: dir}
	short := defaults
	short.patience = time.Second
	r, err := run(t.Context(), o, short)
	require.ErrorContains(t, err, "did not acknowledge what was sent for 1s")
	require.ErrorContains(t, err, l.cfg.Brokers[0])
	require.LessOrEqual(t, r.Events, l.count(l.interactions()))
	require.Equal(t, data.Len(), r.Events+r.Left)

	away.Store(false)
	again, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, r.Events, again.SkippedEvents)
	l.requireStream(data)
}

// Retries that the broker asks for are no error, and change no order.
func TestTroubleThatPassesIsNotSeen(t *testing.T) {
	l := newFakeLog(t)
	data := open(t, dataset.Options{Limit: 40_000})
	var requests atomic.Int64
	l.produces(func(req *kmsg.ProduceRequest) (kmsg.Response, error, bool) {
		if n := requests.Add(1); n < 15 && n%5 == 3 {
			return stream.Refuse(req, kerr.NotLeaderForPartition), nil, true
		}
		return nil, nil, false
	})
	r, err := Run(t.Context(), Options{Data: data, Kafka: l.cfg, Dir: t.TempDir()})
	require.NoError(t, err)
	require.Equal(t, data.Len(), r.Events)
	require.Zero(t, l.requireStream(data))
}
