package feature

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"seralm/config"
)

func TestHistoryHoldsTheNewestItemsOldestFirst(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		w := s.Writer(bounds)
		begin(t, w, 0)
		require.Empty(t, history(t, s, "u", 10), "a user nobody has seen")

		require.Equal(t, "aaa", apply(t, w, run(event(0, "u", "a"), event(1, "v", "x"), event(2, "u", "b"))))
		require.Equal(t, []string{"a", "b"}, history(t, s, "u", 10))

		apply(t, w, run(event(3, "u", "c"), event(4, "u", "a"), event(5, "u", "d")))
		require.Equal(t, []string{"b", "c", "a", "d"}, history(t, s, "u", 10), "the oldest leaves when there are more than Length")
		require.Equal(t, []string{"a", "d"}, history(t, s, "u", 2))
		require.Empty(t, history(t, s, "u", 0))
		require.Equal(t, []string{"x"}, history(t, s, "v", 10))
	})
}

// What an app may call a user or an item must not reach another key or the script.
func TestAnyIdIsJustAnId(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		w := s.Writer(bounds)
		begin(t, w, 0)
		ids := []string{"}", "{", "{}", "a}:h", "a", "*", "[x]", "ü ñ 漢", "-1", "1e400", `"'\`, strings.Repeat("x", 512), "%d"}
		for i, id := range ids {
			apply(t, w, run(event(int64(i), id, "item of "+id)))
		}
		for _, id := range ids {
			require.Equal(t, []string{"item of " + id}, history(t, s, id, 10))
		}
		removed, err := s.Wipe(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2*len(ids), removed, "one history and one set of seen ids each")
	})
}

func TestApplyingARunAgainChangesNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		w := s.Writer(bounds)
		begin(t, w, 0)
		r := run(event(0, "u", "a"), event(1, "u", "b"))
		require.Equal(t, "aa", apply(t, w, r))
		require.Equal(t, "oo", apply(t, w, r))
		// The crash came before the second half: the run that is read again overlaps.
		require.Equal(t, "oa", apply(t, w, run(event(1, "u", "b"), event(2, "u", "c"))))
		require.Equal(t, []string{"a", "b", "c"}, history(t, s, "u", 10))
		require.Equal(t, map[int32]int64{0: 3}, offsets(t, s))
		popular, err := s.Popular(t.Context(), 10)
		require.NoError(t, err)
		require.Equal(t, []Scored{{"c", 1}, {"b", 1}, {"a", 1}}, popular)
	})
}

func TestAnIdSeenBeforeIsNotAppliedAgain(t *testing.T) {
	at := func(offset int64, id string, after time.Duration) HistoryEvent {
		return HistoryEvent{User: "u", Item: fmt.Sprint("item", offset), ID: id, Offset: offset, Time: epoch.Add(after)}
	}
	for name, c := range map[string]struct {
		events []HistoryEvent
		want   string
	}{
		"sent twice":                          {[]HistoryEvent{at(0, "x", 0), at(1, "x", 0)}, "ad"},
		"sent again later":                    {[]HistoryEvent{at(0, "x", 0), at(1, "x", 50*time.Minute)}, "ad"},
		"sent again in the next window":       {[]HistoryEvent{at(0, "x", 59*time.Minute), at(1, "x", 61*time.Minute)}, "ad"},
		"sent again and again":                {[]HistoryEvent{at(0, "x", 0), at(1, "x", 70*time.Minute), at(2, "x", 130*time.Minute)}, "add"},
		"forgotten after two windows":         {[]HistoryEvent{at(0, "x", 0), at(1, "x", 121*time.Minute)}, "aa"},
		"a late event meets its own window":   {[]HistoryEvent{at(0, "x", 0), at(1, "y", 5*time.Hour), at(2, "x", 0)}, "aad"},
		"another id is another event":         {[]HistoryEvent{at(0, "x", 0), at(1, "y", 0)}, "aa"},
		"windows that alternate keep order":   {[]HistoryEvent{at(0, "a", 0), at(1, "b", 5*time.Hour), at(2, "c", 0)}, "aaa"},
		"before 1970 is a window like others": {[]HistoryEvent{at(0, "a", -60*365*24*time.Hour), at(1, "a", -60*365*24*time.Hour)}, "ad"},
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, s *Store) {
				w := s.Writer(bounds)
				begin(t, w, 0)
				require.Equal(t, c.want, apply(t, w, run(c.events...)))
				var items []string
				for i, v := range c.want {
					if v == 'a' {
						items = append(items, c.events[i].Item)
					}
				}
				require.Equal(t, items, history(t, s, "u", 10))
			})
		})
	}
}

// Redis came back from a backup, or lost its last seconds: what follows must not
// be written over the hole.
func TestAGapIsRefusedAndSaysWhereToReadAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		w := s.Writer(bounds)
		begin(t, w, 0, 1)
		apply(t, w, run(event(0, "u", "a")))

		out := w.Apply(t.Context(), run(event(5, "u", "f")), Run{Partition: 1, From: 0, To: 7, Events: []HistoryEvent{event(6, "v", "x")}})
		var behind *BehindError
		require.ErrorAs(t, out[0].Err, &behind)
		require.Equal(t, BehindError{Partition: 0, Next: 1}, *behind)
		require.NoError(t, out[1].Err, "the other partition is whole")
		require.Equal(t, []string{"a"}, history(t, s, "u", 10))
		require.Equal(t, map[int32]int64{0: 1, 1: 7}, offsets(t, s))
	})
}

func TestAnEmptiedRedisIsNoticed(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		w := s.Writer(bounds)
		begin(t, w, 0)
		apply(t, w, run(event(0, "u", "a")))
		_, err := s.Wipe(t.Context())
		require.NoError(t, err)

		out := w.Apply(t.Context(), run(event(1, "u", "b")))
		var behind *BehindError
		require.ErrorAs(t, out[0].Err, &behind)
		require.EqualValues(t, -1, behind.Next)
		require.Empty(t, history(t, s, "u", 10))
	})
}

func TestStartResumesWhereTheViewIs(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		w := s.Writer(bounds)
		next, err := w.Start(t.Context(), "topic-1", map[int32]int64{0: 0, 1: 40})
		require.NoError(t, err)
		require.Equal(t, map[int32]int64{0: 0, 1: 40}, next, "a new view begins where the log does")

		apply(t, w, run(event(0, "u", "a")), Run{Partition: 1, From: 40, To: 44, Events: nil})
		next, err = w.Start(t.Context(), "topic-1", map[int32]int64{0: 0, 1: 41, 2: 0})
		require.NoError(t, err)
		require.Equal(t, map[int32]int64{0: 1, 1: 44, 2: 0}, next)

		_, err = w.Start(t.Context(), "topic-2", map[int32]int64{0: 0})
		var other *OtherLogError
		require.ErrorAs(t, err, &other)
		require.Equal(t, "topic-1", other.Held)
		require.ErrorContains(t, err, "rebuild")
	})
}

// A member that was thrown out of the group and has not noticed writes beside the
// one that took over.
func TestTwoWritersOfOnePartitionApplyEachEventOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		cfg := bounds
		cfg.Length = 1000
		begin(t, s.Writer(cfg), 0)
		var want []string
		var both sync.WaitGroup
		for range 300 {
			want = append(want, fmt.Sprint("i", len(want)))
		}
		for seed := range uint64(2) {
			both.Go(func() {
				rng := rand.New(rand.NewPCG(seed, 0))
				w := s.Writer(cfg)
				for from := 0; from < len(want); {
					to := min(len(want), from+1+rng.IntN(20))
					var events []HistoryEvent
					for i := from; i < to; i++ {
						events = append(events, event(int64(i), "u", want[i]))
					}
					for _, out := range w.Apply(t.Context(), run(events...)) {
						if out.Err != nil {
							t.Errorf("applying [%d,%d): %v", from, to, out.Err)
						}
					}
					from = to
				}
			})
		}
		both.Wait()
		require.Equal(t, want, history(t, s, "u", 1000))
	})
}

// Any batching, any crash (an event applied, its offset not yet committed, read
// again) and any duplicate leave the histories of a straight run.
func TestHistoriesDoNotDependOnBatchesAndCrashes(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		for seed := range uint64(10) {
			rng := rand.New(rand.NewPCG(seed, 1))
			w := s.Writer(bounds)
			begin(t, w, 0)
			want := map[string][]string{}
			counts := map[string]float64{}
			seen := map[string]bool{}
			var events []HistoryEvent
			for i := range int64(600) {
				e := event(i, fmt.Sprint("u", rng.IntN(12)), fmt.Sprint("i", rng.IntN(30)))
				if i > 0 && rng.IntN(10) == 0 { // an app repeats one of the last requests
					again := events[max(0, i-1-rng.Int64N(20))]
					e.User, e.Item, e.ID = again.User, again.Item, again.ID
				}
				events = append(events, e)
				if !seen[e.User+e.ID] {
					seen[e.User+e.ID] = true
					h := append(want[e.User], e.Item)
					want[e.User] = h[max(0, len(h)-bounds.Length):]
					counts[e.Item]++
				}
			}
			for from := 0; from < len(events); {
				to := min(len(events), from+1+rng.IntN(300))
				apply(t, w, run(events[from:to]...))
				if from = to; rng.IntN(3) == 0 && from < len(events) {
					from -= rng.IntN(from) // crashed before the commit
				}
			}
			for user, items := range want {
				require.Equal(t, items, history(t, s, user, 10), "seed %d", seed)
			}
			popular, err := s.Popular(t.Context(), 100)
			require.NoError(t, err)
			require.Len(t, popular, len(counts))
			for _, p := range popular {
				require.Equal(t, counts[p.Item], p.Score, "seed %d", seed)
			}
			_, err = s.Wipe(t.Context())
			require.NoError(t, err)
		}
	})
}

func TestPopularStaysBoundedAndKeepsTheTop(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		cfg := bounds
		cfg.Popular = 5
		w := s.Writer(cfg)
		begin(t, w, 0)
		offset := int64(0)
		for i := range 300 { // 5 hits among a long tail of items seen once
			hit := event(offset, "u", fmt.Sprint("hit", i%5))
			tail := event(offset+1, "u", fmt.Sprint("tail", i))
			apply(t, w, run(hit, tail))
			offset += 2
		}
		popular, err := s.Popular(t.Context(), 5)
		require.NoError(t, err)
		for _, p := range popular {
			require.True(t, strings.HasPrefix(p.Item, "hit"))
			require.EqualValues(t, 60, p.Score)
		}
		n, err := s.client.ZCard(t.Context(), s.keys.popular()).Result()
		require.NoError(t, err)
		require.LessOrEqual(t, n, int64(popularAbove*cfg.Popular))
	})
}

// A robot with a million events must not fill the memory with their ids.
func TestSeenIdsOfOneUserAreBounded(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		w := s.Writer(bounds)
		begin(t, w, 0)
		var events []HistoryEvent
		for i := range int64(maxSeen + 2000) {
			e := event(i, "robot", "x")
			e.Time = epoch
			events = append(events, e)
		}
		apply(t, w, run(events...))
		n, err := s.client.SCard(t.Context(), s.keys.seen("robot", window(epoch, bounds.SeenTTL))).Result()
		require.NoError(t, err)
		require.LessOrEqual(t, n, int64(maxSeen+eventsPerScript))
	})
}

func TestIdleUsersExpire(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		cfg := bounds
		cfg.TTL = 48 * time.Hour
		w := s.Writer(cfg)
		begin(t, w, 0)
		apply(t, w, run(event(0, "u", "a")))
		ttl := s.client.PTTL(t.Context(), s.keys.history("u")).Val()
		require.InDelta(t, cfg.TTL, ttl, float64(time.Minute))
		ttl = s.client.PTTL(t.Context(), s.keys.seen("u", window(epoch, cfg.SeenTTL))).Val()
		require.InDelta(t, 2*cfg.SeenTTL, ttl, float64(time.Minute))

		w = s.Writer(bounds)
		apply(t, w, run(event(1, "v", "a")))
		require.EqualValues(t, -1, s.client.PTTL(t.Context(), s.keys.history("v")).Val(), "TTL 0 is for ever")
	})
}

// Redis restarted or failed over: it knows no script any more.
func TestScriptsAreLoadedAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		w := s.Writer(bounds)
		begin(t, w, 0)
		apply(t, w, run(event(0, "u", "a")))
		require.NoError(t, s.client.ScriptFlush(t.Context()).Err())
		apply(t, w, run(event(1, "u", "b")))
		require.Equal(t, []string{"a", "b"}, history(t, s, "u", 10))
	})
}

// The hook counts what goes over the wire.
type trips struct{ n int }

func (c *trips) DialHook(next redis.DialHook) redis.DialHook { return next }
func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { c.n++; return next(ctx, cmd) }
}
func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { c.n++; return next(ctx, cmds) }
}

func TestRoundTrips(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		w := s.Writer(bounds)
		begin(t, w, 0, 1)
		apply(t, w, run(event(0, "u", "a")))
		count := &trips{}
		s.client.AddHook(count)

		history(t, s, "u", 50)
		require.Equal(t, 1, count.n, "a look-up is one round trip")

		*count = trips{}
		apply(t, w, run(event(1, "u", "a"), event(2, "v", "b")), Run{Partition: 1, From: 0, To: 1, Events: []HistoryEvent{event(0, "w", "c")}})
		require.Equal(t, 1, count.n, "the runs of all partitions share a round trip")
	})
}

func TestRedisThatIsNotThereIsNamedWithARemedy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	_, err = Open(t.Context(), config.Redis{Addr: addr, KeyPrefix: "test", Timeout: 100 * time.Millisecond})
	require.ErrorContains(t, err, addr)
	require.ErrorContains(t, err, "leave redis.addr empty")
}

// A look-up has a deadline of its own, far below the timeout of the connection.
func TestALookUpEndsWithItsDeadline(t *testing.T) {
	s := open(t, config.Redis{KeyPrefix: "test", Timeout: 10 * time.Second})
	s.embedded.server.Lock() // the server accepts and never answers
	defer s.embedded.server.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := s.History(ctx, "u", 50)
	require.ErrorContains(t, err, "reading a user's history")
	require.Less(t, time.Since(start), 2*time.Second)
}

func TestBadTLSSettingsAreNamed(t *testing.T) {
	_, err := Open(t.Context(), config.Redis{Addr: "127.0.0.1:1", TLS: config.TLS{Enabled: true, CAFile: "testdata/none.pem"}})
	require.ErrorContains(t, err, "redis.tls.ca_file")
	_, err = Open(t.Context(), config.Redis{Addr: "127.0.0.1:1", TLS: config.TLS{Enabled: true, CAFile: "doc.go"}})
	require.ErrorContains(t, err, "no PEM certificate")
	_, err = Open(t.Context(), config.Redis{Addr: "127.0.0.1:1", TLS: config.TLS{Enabled: true, CertFile: "doc.go", KeyFile: "doc.go"}})
	require.ErrorContains(t, err, "redis.tls.cert_file")
}

func offsets(t testing.TB, s *Store) map[int32]int64 {
	t.Helper()
	next, err := s.Offsets(t.Context())
	require.NoError(t, err)
	return next
}
