package histories

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"seralm/config"
	"seralm/feature"
	"seralm/stream"
)

func TestAnEmptiedRedisIsFilledAgainWithoutAnEventArriving(t *testing.T) {
	s := newSystem(t, 4)
	s.produce(s.clicks(0, 400)...)
	m := s.join()
	s.caughtUp()
	want := s.expected()
	for range 2 {
		s.empty()
		s.caughtUp()
		require.Equal(t, want, s.held(want))
	}
	m.leave()
}

// empty removes every key of the view at one instant, as FLUSHALL does: no mark, no
// order.
func (s *system) empty() {
	s.t.Helper()
	const script = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end return 1"
	require.NoError(s.t, s.redis.Eval(s.t.Context(), script, nil, s.cfg.Redis.KeyPrefix+"*").Err())
}

func TestARedisThatIsEmptiedUnderLoadIsFilledAgain(t *testing.T) {
	s := newSystem(t, 4)
	a, b := s.join(), s.join()
	for i := range 6 {
		s.produce(s.clicks(1000*i, 1000*(i+1))...)
		if i%2 == 1 {
			s.empty()
		}
	}
	s.caughtUp()
	s.requireView()
	a.leave()
	b.leave()
}

func TestAWipedViewIsRebuiltAndEqual(t *testing.T) {
	s := newSystem(t, 4)
	s.produce(s.clicks(0, 1000)...)
	m := s.join()
	s.caughtUp()
	want := s.expected()
	require.Equal(t, want, s.held(want))
	removed, err := s.store.Wipe(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2*len(want.Histories), removed)
	s.caughtUp()
	require.Equal(t, want, s.held(want))
	m.leave()
}

// Whoever wipes died half-way. Nothing is written until somebody finishes it.
func TestNothingIsWrittenWhileTheViewIsWiped(t *testing.T) {
	s := newSystem(t, 2)
	s.produce(s.clicks(0, 100)...)
	m := s.join()
	s.caughtUp()
	before, err := s.store.Offsets(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.redis.Set(t.Context(), s.cfg.Redis.KeyPrefix+":wiping", "dead", 0).Err())
	s.produce(s.clicks(100, 200)...)
	s.eventually("the member waits", func() bool { return m.complainedAt().After(epoch) })
	late := s.join() // it waits in joining
	s.eventually("the other waits, too", func() bool { return late.complainedAt().After(epoch) })
	held, err := s.store.Offsets(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, held)
	_, err = s.store.Wipe(t.Context())
	require.NoError(t, err)
	s.caughtUp()
	s.requireView()
	m.leave()
	late.leave()
}

func (m *member) complainedAt() time.Time {
	m.complaints.Lock()
	defer m.complaints.Unlock()
	return m.complained
}

// Redis failed over to a replica that lacked the newest writes, or came back from a
// backup: the offsets went back with the histories.
func TestAViewThatWentBackIsReadAgainFromThere(t *testing.T) {
	s := newSystem(t, 1)
	s.produce(s.clicks(0, 100)...)
	m := s.join()
	s.caughtUp()
	ctx := t.Context()
	prefix := s.cfg.Redis.KeyPrefix
	old := map[string]string{}
	keys, err := s.redis.Keys(ctx, prefix+"*").Result()
	require.NoError(t, err)
	if s.fake == nil { // the embedded server cannot dump and restore
		for _, key := range keys {
			old[key] = s.redis.Dump(ctx, key).Val()
		}
	}
	s.produce(s.clicks(100, 200)...)
	s.caughtUp()
	if s.fake == nil {
		s.empty()
		for key, dump := range old {
			require.NoError(t, s.redis.Restore(ctx, key, 0, dump).Err())
		}
	} else {
		require.NoError(t, s.redis.HSet(ctx, prefix+":histories", "0", 100).Err())
	}
	s.caughtUp()
	s.produce(s.clicks(200, 300)...)
	s.caughtUp()
	m.leave()
	s.requireView()
}

// failable gives the test an embedded server, which can be told to fail.
func (s *system) failable() {
	s.t.Helper()
	if s.fake != nil {
		return
	}
	s.fake = miniredis.RunT(s.t)
	require.NoError(s.t, s.store.Close())
	s.cfg.Redis.Addr = s.fake.Addr()
	s.store = s.open()
}

func TestAnOutageOfRedisDelaysAndLosesNothing(t *testing.T) {
	s := newSystem(t, 4)
	s.failable()
	m := s.join()
	s.produce(s.clicks(0, 500)...)
	s.caughtUp()
	for i := 1; i < 4; i++ {
		s.fake.SetError("LOADING Redis is loading the dataset in memory")
		s.produce(s.clicks(500*i, 500*(i+1))...)
		s.eventually("it waits", func() bool { return m.busy() })
		s.fake.SetError("")
		s.caughtUp()
	}
	m.leave()
	s.requireView()
}

// A member whose Redis does not answer must not keep the group from rebalancing.
func TestAMemberThatWaitsForRedisCanLeaveAndBeJoined(t *testing.T) {
	s := newSystem(t, 4)
	s.failable()
	m := s.join()
	s.produce(s.clicks(0, 100)...)
	s.caughtUp()
	s.fake.SetError("LOADING Redis is loading the dataset in memory")
	s.produce(s.clicks(100, 300)...)
	s.eventually("it waits", func() bool { return m.busy() })
	other := s.join()
	s.eventually("partitions move", func() bool { return len(m.partitions()) == 2 })
	m.leave()
	s.fake.SetError("")
	s.caughtUp()
	other.leave()
	s.requireView()
}

func TestABrokerThatRestartsDelaysAndLosesNothing(t *testing.T) {
	cfg := config.Default()
	cfg.DataDir = t.TempDir()
	broker, err := stream.StartBroker(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { broker.Close() })
	_, err = fmt.Sscanf(broker.Addr(), "127.0.0.1:%d", &cfg.Kafka.Embedded.Port)
	require.NoError(t, err)
	cfg.Kafka.Brokers = []string{broker.Addr()}
	cfg.Redis.KeyPrefix = fmt.Sprint("test-", time.Now().UnixNano())
	cfg.Redis.Timeout = 10 * time.Second
	s := fill(t, cfg)
	m := s.join()
	for i := range 3 {
		s.produce(s.clicks(200*i, 200*(i+1))...)
		s.caughtUp()
		broker.Close()
		broker, err = stream.StartBroker(cfg)
		require.NoError(t, err)
	}
	s.produce(s.clicks(600, 800)...)
	s.caughtUp()
	s.requireView()
	s.eventually("what the view holds is counted", func() bool { return m.applied() == 720 })

	broker.Close()
	m.leave() // it cannot say goodbye, and ends
	broker, err = stream.StartBroker(cfg)
	require.NoError(t, err)
}

func (s *system) trim(partition int32, before int64) {
	s.t.Helper()
	at := kadm.Offsets{}
	at.Add(kadm.Offset{Topic: s.topic(), Partition: partition, At: before})
	resp, err := s.adm.DeleteRecords(s.t.Context(), at)
	require.NoError(s.t, err)
	require.NoError(s.t, resp.Error())
}

// The role was down for longer than the log keeps events.
func TestEventsThatTheLogLostEndTheRoleWithTheirNumber(t *testing.T) {
	s := newSystem(t, 1)
	s.produce(s.clicks(0, 100)...)
	m := s.join()
	s.caughtUp()
	m.leave()
	s.produce(s.clicks(100, 200)...)
	s.trim(0, 130)

	err := s.join().failure()
	var lost *stream.LostError
	require.ErrorAs(t, err, &lost)
	require.EqualValues(t, 30, lost.Count())
	require.ErrorContains(t, err, "seralm rebuild")

	// The operator accepts the gap: a new view begins where the log does.
	_, err = s.store.Wipe(t.Context())
	require.NoError(t, err)
	m = s.join()
	s.caughtUp()
	m.leave()
	s.requireView()
}

func TestALogThatEndsBeforeTheViewEndsTheRole(t *testing.T) {
	s := newSystem(t, 1)
	s.produce(s.clicks(0, 10)...)
	m := s.join()
	s.caughtUp()
	m.leave()
	require.NoError(t, s.redis.HSet(t.Context(), s.cfg.Redis.KeyPrefix+":histories", "0", 25).Err())
	err := s.join().failure()
	var lost *stream.LostError
	require.ErrorAs(t, err, &lost)
	require.EqualValues(t, 15, lost.Count())
}

func TestATopicThatWasMadeAnewIsNotMixedIntoTheView(t *testing.T) {
	s := newSystem(t, 1)
	s.produce(s.clicks(0, 10)...)
	m := s.join()
	s.caughtUp()
	m.leave()
	_, err := s.adm.DeleteTopic(context.Background(), s.topic())
	require.NoError(t, err)
	s.eventually("deleted", func() bool { // which a real broker says before it is
		topics, err := s.adm.ListTopics(t.Context(), s.topic())
		return err == nil && !topics.Has(s.topic())
	})
	s.eventually("made anew", func() bool { return stream.Ensure(t.Context(), s.adm, s.cfg.Kafka) == nil })
	err = s.join().failure()
	var other *feature.OtherLogError
	require.ErrorAs(t, err, &other)
	require.ErrorContains(t, err, "rebuild")
}
