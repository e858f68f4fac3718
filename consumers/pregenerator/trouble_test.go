package pregenerator

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"seralm/stream"
	"seralm/stream/streamtest"
)

// onceEach requires that every item has one title vector and one text in the log.
func (s *system) onceEach(items int) {
	s.t.Helper()
	type made struct{ item, prompt, origin string }
	times := map[made]int{}
	for _, ev := range s.written() {
		times[made{ev.Body.Item, ev.Body.PromptHash, string(ev.Body.Origin)}]++
	}
	require.Len(s.t, times, 2*items)
	for m, n := range times {
		require.Equal(s.t, 1, n, "%v", m)
	}
}

// A broker whose disk is full, or that is starting, is waited for.
func TestABrokerThatCannotWriteIsWaitedFor(t *testing.T) {
	broker := streamtest.Fake(t)
	s := on(t, broker.ListenAddrs())
	s.announce(0, 8)
	var refused atomic.Int32
	broker.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		if refused.Add(1) > 3 {
			return nil, nil, false
		}
		return stream.Refuse(req.(*kmsg.ProduceRequest), kerr.KafkaStorageError), nil, true
	})
	m := &model{name: "fake"}
	s.finish(Options{Writer: m})
	require.Greater(t, refused.Load(), int32(3))
	require.Len(t, m.order(), 8, "no text was lost and written again")
	s.onceEach(8)
}

// A refusal that stays ends the role and names the topic. What was not published is
// written by the next one.
func TestABrokerThatRefusesEndsTheRoleAndLosesNothing(t *testing.T) {
	broker := streamtest.Fake(t)
	s := on(t, broker.ListenAddrs())
	s.announce(0, 8)
	var refuse atomic.Bool
	var seen atomic.Int32
	broker.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		if seen.Add(1); !refuse.Load() {
			return nil, nil, false
		}
		return stream.Refuse(req.(*kmsg.ProduceRequest), kerr.TopicAuthorizationFailed), nil, true
	})
	m := &model{name: "fake", hold: make(chan struct{})}
	r := s.start(Options{Writer: m})
	m.hold <- struct{}{}
	s.eventually("the second batch", func() bool { return len(m.order()) == 8 })
	refuse.Store(true)
	close(m.hold)
	err := r.failure()
	require.ErrorIs(t, err, kerr.TopicAuthorizationFailed)
	require.ErrorContains(t, err, "publishing to topic "+s.names().Knowledge())
	refuse.Store(false)
	s.finish(Options{})
	s.onceEach(8)
}

// A commit that gets no useful answer may have happened or not: only the log knows.
func TestACommitWithoutAnAnswerIsLookedUpInTheLog(t *testing.T) {
	broker := streamtest.Fake(t)
	s := on(t, broker.ListenAddrs())
	s.announce(0, 8)
	var ends atomic.Int32
	broker.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		if ends.Add(1) != 3 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.EndTxnResponse)
		resp.ErrorCode = kerr.UnknownServerError.Code
		return resp, nil, true
	})
	s.finish(Options{})
	require.Greater(t, ends.Load(), int32(3))
	s.onceEach(8)
}
