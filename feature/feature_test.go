package feature

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"seralm/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// bounds are small, so that a test reaches them with few events.
var bounds = config.Histories{Length: 4, Popular: 100, SeenTTL: time.Hour}

// everywhere runs a test on the embedded server, and on the real Redis at
// SERALM_TEST_REDIS when that is set.
func everywhere(t *testing.T, test func(t *testing.T, s *Store)) {
	t.Run("embedded", func(t *testing.T) { test(t, open(t, config.Redis{KeyPrefix: "test", Timeout: 5 * time.Second})) })
	if addr := os.Getenv("SERALM_TEST_REDIS"); addr != "" {
		t.Run("redis", func(t *testing.T) {
			// Tests share the server: each has its own prefix and leaves nothing.
			prefix := "test-" + strings.ReplaceAll(t.Name(), "/", "-")
			s := open(t, config.Redis{Addr: addr, KeyPrefix: prefix, Timeout: 5 * time.Second})
			empty := func() {
				_, err := s.Wipe(context.Background())
				require.NoError(t, err)
				_, err = s.WipeKnowledge(context.Background())
				require.NoError(t, err)
			}
			empty()
			t.Cleanup(empty)
			test(t, s)
		})
	}
}

func open(t testing.TB, cfg config.Redis) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// event is the interaction at an offset; its id is its offset unless changed.
func event(offset int64, user, item string) HistoryEvent {
	return HistoryEvent{
		User: user, Item: item, ID: fmt.Sprintf("app/%d", offset), Offset: offset,
		Time: epoch.Add(time.Duration(offset) * time.Second),
	}
}

// run is the events of partition 0 as one run, from the first to behind the last.
func run(events ...HistoryEvent) Run {
	return Run{From: events[0].Offset, To: events[len(events)-1].Offset + 1, Events: events}
}

func begin(t testing.TB, w *Writer, partitions ...int32) {
	t.Helper()
	start := map[int32]int64{}
	for _, p := range partitions {
		start[p] = 0
	}
	_, err := w.Start(t.Context(), "topic-1", start)
	require.NoError(t, err)
}

func apply(t testing.TB, w *Writer, runs ...Run) string {
	t.Helper()
	var verdicts strings.Builder
	for _, out := range w.Apply(t.Context(), runs...) {
		require.NoError(t, out.Err)
		for _, v := range out.Verdicts {
			verdicts.WriteByte(byte(v))
		}
	}
	return verdicts.String()
}

func history(t testing.TB, s *Store, user string, n int) []string {
	t.Helper()
	items, err := s.History(t.Context(), user, n)
	require.NoError(t, err)
	return items
}

// Who can wait for Redis is told that it is away, and finds it when it comes; a server
// that answers and refuses is an error to everybody.
func TestARedisThatIsAwayIsWaitedFor(t *testing.T) {
	server := miniredis.NewMiniRedis()
	require.NoError(t, server.Start())
	addr := server.Addr()
	server.Close()
	cfg := config.Redis{Addr: addr, KeyPrefix: "test", Timeout: time.Second}
	_, err := Open(t.Context(), cfg)
	require.ErrorContains(t, err, "connecting to Redis at redis.addr")
	var away error
	s, err := OpenPatiently(t.Context(), cfg, func(err error) { away = err })
	require.NoError(t, err)
	require.Error(t, away)
	defer s.Close()
	require.Error(t, s.Ping(t.Context()))
	require.NoError(t, server.StartAddr(addr))
	defer server.Close()
	require.NoError(t, s.Ping(t.Context()))

	server.SetError("LOADING Redis is loading the dataset in memory")
	s, err = OpenPatiently(t.Context(), cfg, func(err error) { away = err })
	require.NoError(t, err)
	defer s.Close()
	require.ErrorContains(t, away, "LOADING")
	server.SetError("")

	server.RequireAuth("secret")
	_, err = OpenPatiently(t.Context(), cfg, func(err error) { t.Error("it is not away:", err) })
	require.ErrorContains(t, err, "NOAUTH")
	require.ErrorContains(t, err, "SERALM_REDIS_PASSWORD")
}
