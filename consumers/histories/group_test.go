package histories

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/encoding/json"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/feature"
)

// load produces events at a steady pace until it has produced n.
func (s *system) load(n int) (done chan struct{}) {
	done = make(chan struct{})
	recs := s.clicks(0, n)
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for len(recs) > 0 {
			<-tick.C
			batch := recs[:min(20, len(recs))]
			recs = recs[len(batch):]
			for _, rec := range batch {
				s.cl.Produce(context.Background(), rec, func(_ *kgo.Record, err error) {
					if err != nil {
						s.t.Error(err)
					}
				})
			}
		}
		if err := s.cl.Flush(context.Background()); err != nil {
			s.t.Error(err)
		}
	}()
	return done
}

func TestMembersShareThePartitions(t *testing.T) {
	s := newSystem(t, 4)
	a := s.join()
	s.eventually("one member reads all", func() bool { return len(a.partitions()) == 4 })
	b := s.join()
	s.eventually("two share", func() bool { return len(a.partitions()) == 2 && len(b.partitions()) == 2 })
	require.NotEqual(t, a.partitions(), b.partitions())
	a.leave()
	s.eventually("the other takes over", func() bool { return len(b.partitions()) == 4 })
	b.leave()
}

func TestMembersThatComeAndGoUnderLoadLoseAndRepeatNothing(t *testing.T) {
	s := newSystem(t, 6)
	const n = 3000
	done := s.load(n)
	rng := rand.New(rand.NewPCG(1, 2))
	all := []*member{s.join()}
	running := []*member{all[0]}
	produced := func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
	for i := 0; i < 8 || !produced(); i++ {
		if len(running) < 3 && (len(running) < 2 || rng.IntN(2) == 0) {
			m := s.join()
			all, running = append(all, m), append(running, m)
			s.eventually("it has its share", func() bool { return len(m.partitions()) > 0 })
		} else {
			k := rng.IntN(len(running))
			running[k].leave()
			running = append(running[:k], running[k+1:]...)
		}
	}
	s.caughtUp()
	applied, duplicate, old := 0, 0, 0
	for _, m := range running {
		m.leave()
	}
	for _, m := range all {
		applied += m.applied()
		duplicate += m.duplicate()
		old += m.old()
	}
	s.requireView()
	t.Logf("%d members, %d events applied, %d repeated, %d read again", len(all), applied, duplicate, old)
	require.Equal(t, n*9/10, applied)
	require.Equal(t, n/10, duplicate)
}

// The test binary is also the process that is killed.
const childEnv = "SERALM_TEST_HISTORIES_CHILD"

type childSpec struct {
	Config  config.Config
	Session time.Duration
}

func child(spec string) error {
	var s childSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return err
	}
	store, err := feature.Open(context.Background(), s.Config.Redis)
	if err != nil {
		return err
	}
	c := New(s.Config, store, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	c.session = s.Session
	return c.Run(context.Background())
}

// kill -9 at random points, with a neighbour in the group half of the time: the view
// is the one that a single run makes.
func TestKillingAMemberChangesNothing(t *testing.T) {
	s := newSystem(t, 4)
	spec := childSpec{Config: s.cfg, Session: 500 * time.Millisecond}
	if os.Getenv("SERALM_TEST_KAFKA") != "" {
		spec.Session = 6 * time.Second
	}
	encoded, err := json.Marshal(spec)
	require.NoError(t, err)
	const n, kills = 20_000, 8
	s.produce(s.clicks(0, n)...)
	held := func() (sum int64) {
		offsets, err := s.store.Offsets(t.Context())
		require.NoError(t, err)
		for _, next := range offsets {
			sum += next
		}
		return sum
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range kills {
		var neighbour *member
		if i%2 == 1 {
			neighbour = s.join()
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+string(encoded))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		require.NoError(t, cmd.Start())
		until := held() + 1 + rng.Int64N(n/kills)
		s.eventually("it reads on", func() bool { return held() >= min(until, n) })
		require.NoError(t, cmd.Process.Kill())
		require.ErrorContains(t, cmd.Wait(), "killed", stderr.String())
		if neighbour != nil {
			neighbour.leave()
		}
	}
	m := s.join()
	s.caughtUp()
	m.leave()
	s.requireView()
}
