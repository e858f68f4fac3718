package loadtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// sleeper is a waiter on the clock of a synctest bubble.
type sleeper struct{}

func (sleeper) until(ctx context.Context, t time.Time) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(t)):
		return ctx.Err()
	}
}

func (sleeper) close() {}

// server is a sender of known behaviour: it takes service for every request, answers
// none during its stall, and keeps a diary.
type server struct {
	service          time.Duration
	stallAt, stallTo time.Duration // since began
	fail             string

	mu    sync.Mutex
	began time.Time
	diary []string
}

func (s *server) send(ctx context.Context, a arrival, deadline time.Time) outcome {
	now := time.Now()
	s.mu.Lock()
	s.diary = append(s.diary, fmt.Sprintf("%v %v %s %s", now.Sub(s.began), a.planned.Sub(s.began), a.user, a.item))
	s.mu.Unlock()
	done := now.Add(s.service)
	if since := now.Sub(s.began); since >= s.stallAt && since < s.stallTo {
		done = s.began.Add(s.stallTo + s.service)
	}
	select {
	case <-ctx.Done():
		return outcome{class: "connection_lost"}
	case <-time.After(time.Until(deadline)):
		return outcome{class: "timeout"}
	case <-time.After(time.Until(done)):
		return outcome{class: s.fail}
	}
}

func (s *server) close() {}

func fast() Options {
	o := Defaults()
	o.Users, o.Items = []string{"ann", "bob", "eve"}, []string{"x", "y"}
	o.Warmup, o.EventsShare = 0, 0
	return o
}

// simulate runs o against s on a fake clock.
func simulate(t *testing.T, ctx context.Context, o Options, s *server) Report {
	t.Helper()
	require.NoError(t, o.Validate())
	r := newRun(o, func() sender { return s }, sleeper{})
	s.began = time.Now().Add(lead)
	rep, err := r.measure(ctx)
	require.NoError(t, err)
	return rep
}

func TestEveryRequestIsSentAtItsPlannedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := fast()
		o.Rate, o.Duration = 1000, 10*time.Second
		rep := simulate(t, t.Context(), o, &server{service: 3 * time.Millisecond})
		require.EqualValues(t, 10_000, rep.All.OK)
		require.Zero(t, rep.All.Late)
		require.Zero(t, rep.SendDelay.Max-1e-6, "sent at the nanosecond it was planned for")
		require.InDelta(t, 3, rep.All.Latency.P50, 0.01)
		require.InDelta(t, 3, rep.All.Latency.Max, 0.01)
		require.InDelta(t, 1000, rep.Rate, 0.1)
		require.Len(t, rep.Timeline, 10)
	})
}

// The open model's reason to exist: at 100 requests/s for 10 s, a stall of one second
// makes 100 requests wait 1 s, 0.99 s, ... so p99 is 0.9 s. A closed loop of one
// connection meets the same stall with one request of thousands.
func TestAStallIsChargedToEverybodyWhoWouldHaveCome(t *testing.T) {
	stalling := func() *server {
		return &server{service: time.Millisecond, stallAt: 5 * time.Second, stallTo: 6 * time.Second}
	}
	t.Run("open model", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := fast()
			o.Rate, o.Duration = 100, 10*time.Second
			rep := simulate(t, t.Context(), o, stalling())
			require.EqualValues(t, 1000, rep.All.OK)
			require.InDelta(t, 1001, rep.All.Latency.Max, 2)
			require.InDelta(t, 911, rep.All.Latency.P99, 15)
			require.InDelta(t, 1, rep.All.Latency.P50, 0.01)
		})
	})
	t.Run("open model, few connections", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := fast()
			o.Rate, o.Duration, o.MaxInFlight = 100, 10*time.Second, 4
			rep := simulate(t, t.Context(), o, stalling())
			require.EqualValues(t, 1000, rep.All.OK)
			require.InDelta(t, 911, rep.All.Latency.P99, 40, "waiting for a connection is waiting")
			require.Greater(t, rep.All.Late, int64(90), "and the report says that they were sent late")
		})
	})
	t.Run("closed loop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := fast()
			o.Saturate, o.Duration = 1, 10*time.Second
			rep := simulate(t, t.Context(), o, stalling())
			require.InDelta(t, 9000, rep.All.OK, 10)
			require.InDelta(t, 1, rep.All.Latency.P999, 0.01, "the naive measure does not see the stall")
		})
	})
}

func TestArrivalsWithoutAConnectionAreDroppedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := fast()
		o.Rate, o.Duration, o.MaxInFlight, o.DropAfter = 100, 10*time.Second, 2, 500*time.Millisecond
		// Two connections, 50 ms each: 40 requests/s fit, 60 do not.
		rep := simulate(t, t.Context(), o, &server{service: 50 * time.Millisecond})
		require.EqualValues(t, 1000, rep.All.Planned)
		require.InDelta(t, 400, rep.All.OK, 25)
		require.Equal(t, 1000-rep.All.OK, rep.All.Dropped)
		require.InDelta(t, 550, rep.All.Latency.Max, 1, "those sent waited at most as long as they may, and were served")
	})
}

func TestWarmUpIsSentAndNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := fast()
		o.Rate, o.Duration, o.Warmup = 100, 2*time.Second, 3*time.Second
		s := &server{service: time.Millisecond, stallAt: 0, stallTo: time.Second}
		rep := simulate(t, t.Context(), o, s)
		require.Len(t, s.diary, 500)
		require.EqualValues(t, 200, rep.All.Planned)
		require.InDelta(t, 1, rep.All.Latency.Max, 0.01)
		require.InDelta(t, 100, rep.Rate, 0.1)
	})
}

func TestTheSameSeedPlansTheSameRun(t *testing.T) {
	diary := func(seed uint64) (d []string) {
		synctest.Test(t, func(t *testing.T) {
			o := fast()
			o.Rate, o.Duration, o.Arrivals, o.EventsShare, o.Seed = 50, 4*time.Second, Poisson, 0.5, seed
			s := &server{}
			simulate(t, t.Context(), o, s)
			d = s.diary
		})
		return d
	}
	first := diary(1)
	require.Equal(t, first, diary(1))
	require.NotEqual(t, diary(1), diary(2))
}

func TestFailuresAreCountedByClassAndNotTimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := fast()
		o.Rate, o.Duration, o.EventsShare = 100, time.Second, 1
		rep := simulate(t, t.Context(), o, &server{fail: "status_503"})
		require.EqualValues(t, 100, rep.Events.Failed)
		require.Equal(t, map[string]int64{"status_503": 100}, rep.All.Errors)
		require.Zero(t, rep.All.Latency)
		require.Zero(t, rep.Lookups.Planned)
	})
}

func TestAUsersPatienceIsCountedFromThePlannedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := fast()
		o.Rate, o.Duration, o.Timeout, o.DropAfter = 10, time.Second, 200*time.Millisecond, 100*time.Millisecond
		rep := simulate(t, t.Context(), o, &server{service: 300 * time.Millisecond})
		require.Equal(t, map[string]int64{"timeout": 10}, rep.All.Errors)
	})
}

func TestAnInterruptedRunReportsWhatItSaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		o := fast()
		o.Rate, o.Duration = 100, time.Hour
		rep := simulate(t, ctx, o, &server{service: 5 * time.Millisecond})
		require.True(t, rep.Interrupted)
		require.InDelta(t, 298, rep.All.OK, 2)
		require.Zero(t, rep.All.Failed, "what we cut off is not the server's failure")
		require.InDelta(t, 100, rep.Rate, 1)
	})
}

func TestAClosedLoopRestsAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := fast()
		o.Saturate, o.Duration = 1, time.Second
		rep := simulate(t, t.Context(), o, &server{fail: "connect"})
		require.InDelta(t, 100, rep.All.Failed, 3)
	})
}

func TestOptionsAreRefusedWithAReason(t *testing.T) {
	for want, spoil := range map[string]func(*Options){
		"rate 0:":                   func(o *Options) { o.Rate = 0 },
		"duration 0s":               func(o *Options) { o.Duration = 0 },
		"no users":                  func(o *Options) { o.Users = nil },
		"events share 1.5":          func(o *Options) { o.EventsShare = 1.5 },
		"arrivals \"bursty\"":       func(o *Options) { o.Arrivals = "bursty" },
		"max in flight 0":           func(o *Options) { o.MaxInFlight = 0 },
		"stage 1 sends nothing":     func(o *Options) { o.Stages = []Stage{{time.Second, 0, 0}} },
		"stage 1 lasts -1s":         func(o *Options) { o.Stages = []Stage{{-time.Second, 1, 1}} },
		"give stages or saturate":   func(o *Options) { o.Stages, o.Saturate = []Stage{{time.Second, 1, 1}}, 1 },
		"freshness probes 1000":     func(o *Options) { o.ProbeFreshness = 1000 },
		"drop after 5s":             func(o *Options) { o.DropAfter = o.Timeout },
		"zipf -1: it must lie in 0": func(o *Options) { o.Zipf = -1 },
	} {
		o := fast()
		spoil(&o)
		_, err := Run(t.Context(), o)
		require.ErrorContains(t, err, want)
	}
}
