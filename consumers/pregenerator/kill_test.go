package pregenerator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"seralm/config"
	"seralm/stream"
)

// childEnv makes the test binary a pregenerator: "brokers|topic prefix|rolls policies out".
const childEnv = "SERALM_TEST_PREGENERATOR_CHILD"

func child(spec string) error {
	f := strings.Split(spec, "|")
	cfg := config.Default()
	cfg.Kafka.Brokers, cfg.Kafka.TopicPrefix = strings.Split(f[0], ","), f[1]
	cfg.Knowledge.Domain, cfg.Knowledge.Batch = "movies", 4
	cfg.Alignment.Enabled = f[2] == "true"
	p, err := New(cfg, Options{
		Writer: &model{name: "fake"}, Encoder: hashes("v1"), Once: !cfg.Alignment.Enabled,
		Registry: prometheus.NewRegistry(), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	return p.Run(context.Background())
}

// spawn starts the child, which ends by itself unless it rolls policies out.
func (s *system) spawn() (*exec.Cmd, chan error, *strings.Builder) {
	s.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{strings.Join(s.cfg.Kafka.Brokers, ","), s.cfg.Kafka.TopicPrefix, fmt.Sprint(s.cfg.Alignment.Enabled)}, "|"))
	var out strings.Builder
	cmd.Stderr = &out
	require.NoError(s.t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return cmd, ended, &out
}

// length of topics, markers of transactions included.
func (s *system) length(topics ...string) (n int) {
	s.t.Helper()
	ends, err := kadm.NewClient(s.cl).ListEndOffsets(s.t.Context(), topics...)
	require.NoError(s.t, err)
	ends.Each(func(o kadm.ListedOffset) { n += int(o.Offset) })
	return n
}

func TestKilledAtAnyMomentNoTextIsWrittenTwiceAndNoneIsMissing(t *testing.T) {
	s := newSystem(t)
	const items = 120
	s.announce(0, items)
	kills := 0
	for len(s.written()) < 2*items-20 {
		cmd, ended, out := s.spawn()
		reached := s.length(s.names().Knowledge()) + 1 + rand.IntN(60)
		s.eventually("it writes", func() bool { return s.length(s.names().Knowledge()) >= reached || len(ended) > 0 })
		_ = cmd.Process.Kill() // SIGKILL, unless it has ended
		var exit *exec.ExitError
		if errors.As(<-ended, &exit) {
			require.Equal(t, -1, exit.ExitCode(), "the child failed: %s", out)
			kills++
		}
	}
	_, ended, out := s.spawn()
	require.NoError(t, <-ended, out)

	t.Logf("%d kills, %d records", kills, len(s.written()))
	require.GreaterOrEqual(t, kills, 3)
	s.onceEach(items)
	for item, k := range s.known() {
		require.Equal(t, stream.OriginLLM, k.Origin, item)
	}
}

// Whenever it is killed, each draft is written once, each is promoted once, and each text
// comes back once, as it was.
func TestKilledAtAnyMomentARolloutGoesOnWhereItWas(t *testing.T) {
	if racing {
		t.Skip("some thirty processes, minutes under the race detector: tried without it; the other tests of roll-outs are raced")
	}
	s := newSystem(t)
	const items = 160
	s.announce(0, items)
	s.finish(Options{})
	before := s.raw()
	s.cfg.Alignment.Enabled = true
	s.learn(50)
	kills := 0
	// through starts the child and kills it, until the roll-out is in a phase.
	through := func(phase stream.RolloutPhase) {
		t.Helper()
		reached := func() bool { st, _ := s.rolledOut(); return st.Phase == phase }
		for range 50 {
			if reached() {
				return
			}
			cmd, ended, out := s.spawn()
			was := s.length(s.names().Knowledge(), s.names().Rollouts())
			until := was + 1 + rand.IntN(90)
			s.eventually("it goes on", func() bool {
				is := s.length(s.names().Knowledge(), s.names().Rollouts())
				news := is != was // only then is a phase read, which reads a topic and takes the child's time
				was = is
				return is >= until || len(ended) > 0 || news && reached()
			})
			_ = cmd.Process.Kill() // SIGKILL, unless it has ended
			var exit *exec.ExitError
			require.ErrorAs(t, <-ended, &exit, out.String())
			require.Equal(t, -1, exit.ExitCode(), "the child failed: %s", out)
			kills++
		}
		require.True(t, reached())
	}
	through(stream.RolloutJudging)
	st, drafts := s.rolledOut()
	require.Equal(t, items, st.Drafts)
	require.Len(t, drafts, items)
	require.Equal(t, before, s.raw())
	s.decide(stream.ByGate, 1, stream.ActionPromote)
	through(stream.RolloutPromoted)
	st, _ = s.rolledOut()
	require.Equal(t, []int{items, 0}, []int{st.Moved, st.Stale})
	for n := range items {
		require.Equal(t, by(50, n), s.known()[fmt.Sprint("i", n)].Text)
	}
	s.decide(stream.ByOperator, 1, stream.ActionRollback)
	through(stream.RolloutWithdrawn)
	require.Equal(t, before, s.raw())

	seen := map[string]int{}
	for _, ev := range s.written() {
		seen[ev.Body.Item]++
	}
	for item, n := range seen {
		require.Equal(t, 4, n, "%s: its title's vector, a text, the promoted one, the first again", item)
	}
	t.Logf("%d kills", kills)
	require.GreaterOrEqual(t, kills, 6)
}
