package loadtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// shop is a server like SeRALM in what a load test sees: it recommends what a user
// has not clicked, and learns of clicks after a delay.
type shop struct {
	delay time.Duration // between a click and its being known
	deaf  bool          // clicks are never known

	mu     sync.Mutex
	clicks map[string][]click
	posts  []string
}

type click struct {
	item  string
	known time.Time
}

func (s *shop) start(t *testing.T, wrap func(http.Handler) http.Handler) string {
	s.clicks = map[string][]click{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/recommendations/{user}", func(w http.ResponseWriter, r *http.Request) {
		var doc struct {
			Source string              `json:"source"`
			Items  []map[string]string `json:"items"`
		}
		doc.Source = "popular"
		s.mu.Lock()
		defer s.mu.Unlock()
		seen := s.clicks[r.PathValue("user")]
		for i := 0; len(doc.Items) < 10; i++ {
			id := fmt.Sprint("item", i)
			if !slices.ContainsFunc(seen, func(c click) bool { return c.item == id && !time.Now().Before(c.known) }) {
				doc.Items = append(doc.Items, map[string]string{"item": id})
			}
		}
		_ = json.NewEncoder(w).Encode(doc)
	})
	mux.HandleFunc("POST /v1/interactions", func(w http.ResponseWriter, r *http.Request) {
		var e struct{ User, Item, Type string }
		if json.NewDecoder(r.Body).Decode(&e) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.posts = append(s.posts, e.Item)
		if !s.deaf {
			s.clicks[e.User] = append(s.clicks[e.User], click{e.Item, time.Now().Add(s.delay)})
		}
		w.WriteHeader(http.StatusAccepted)
	})
	var h http.Handler = mux
	if wrap != nil {
		h = wrap(mux)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// stall makes a server answer nothing for a second, once, after it is armed.
type stall struct {
	mu         sync.RWMutex
	from, for_ time.Duration
	armed      time.Time
}

func (s *stall) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.RLock()
		since := time.Since(s.armed)
		s.mu.RUnlock()
		if since >= s.from && since < s.from+s.for_ {
			time.Sleep(s.from + s.for_ - since)
		}
		next.ServeHTTP(w, r)
	})
}

// The self-test of the whole generator, on real sockets and the real clock: a server
// that stalls for 1 s in 4 has a p99 of about a second, and we must say so. The
// naive closed loop, on the same server, reports a p99 of next to nothing.
func TestARealStallOfOneSecondIsSeen(t *testing.T) {
	measure := func(t *testing.T, change func(*Options)) Report {
		s := &stall{from: time.Second, for_: time.Second}
		o := fast()
		o.Target, o.Duration = (&shop{}).start(t, s.wrap), 3*time.Second
		change(&o)
		s.mu.Lock()
		s.armed = time.Now()
		s.mu.Unlock()
		rep, err := Run(t.Context(), o)
		require.NoError(t, err)
		require.Zero(t, rep.All.Failed)
		require.Zero(t, rep.All.Dropped)
		return rep
	}
	t.Run("open model", func(t *testing.T) {
		t.Parallel()
		rep := measure(t, func(o *Options) { o.Rate, o.EventsShare = 200, 0.1 })
		require.EqualValues(t, 600, rep.All.Planned)
		require.Greater(t, rep.All.Latency.P99, 900.0)
		require.Less(t, rep.All.Latency.P50, 100.0)
		objectives, err := ParseSLO("p99=100ms,errors=0")
		require.NoError(t, err)
		require.ErrorIs(t, rep.Check(objectives), ErrSLO)
	})
	t.Run("closed loop", func(t *testing.T) {
		t.Parallel()
		rep := measure(t, func(o *Options) { o.Saturate = 1 })
		require.Less(t, rep.All.Latency.P99, 100.0)
		require.Greater(t, rep.All.Latency.Max, 900.0)
	})
}

func TestEventsClickWhatTheServerRecommends(t *testing.T) {
	s := &shop{}
	o := fast()
	o.Target, o.Items, o.EventsShare, o.Rate, o.Duration = s.start(t, nil), nil, 1, 200, 200*time.Millisecond
	rep, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.EqualValues(t, 40, rep.Events.OK)
	require.Len(t, s.posts, 40)
	for _, item := range s.posts {
		require.Regexp(t, `^item\d$`, item)
	}
}

func TestFreshnessIsTheTimeUntilALookUpKnowsOfTheClick(t *testing.T) {
	o := fast()
	o.Target, o.Rate, o.Duration, o.ProbeFreshness = (&shop{delay: 30 * time.Millisecond}).start(t, nil), 10, time.Second, 20
	rep, err := Run(t.Context(), o)
	require.NoError(t, err)
	f := rep.Freshness
	require.Greater(t, f.Probes, int64(5))
	require.Zero(t, f.Lost)
	require.Empty(t, f.Errors)
	require.GreaterOrEqual(t, f.Latency.P50, 30.0)
	require.Less(t, f.Latency.P50, 1000.0)
	objectives, err := ParseSLO("freshness.p50=1s")
	require.NoError(t, err)
	require.NoError(t, rep.Check(objectives))
}

func TestAnEventThatNeverShowsMissesTheFreshnessObjective(t *testing.T) {
	rep := Report{Freshness: &Freshness{Probes: 0, Lost: 3, histogram: newHistogram()}}
	objectives, err := ParseSLO("freshness.p50=10s")
	require.NoError(t, err)
	require.ErrorIs(t, rep.Check(objectives), ErrSLO)
}

func TestARunAgainstNobodyFailsAtOnce(t *testing.T) {
	for want, wrap := range map[string]http.HandlerFunc{
		"status 404":             func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"not answer like":        func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") },
		"recommends nothing yet": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"items":[]}`) },
	} {
		srv := httptest.NewServer(wrap)
		o := fast()
		o.Target, o.Items, o.EventsShare = srv.URL, nil, 0.5
		_, err := Run(t.Context(), o)
		srv.Close()
		require.ErrorContains(t, err, want)
	}
	o := fast()
	o.Target = "http://127.0.0.1:1"
	_, err := Run(t.Context(), o)
	require.ErrorContains(t, err, "is the server up")
}
