package pregenerator

import (
	"context"
	"errors"
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

// childEnv makes the test binary a pregenerator: "brokers|topic prefix".
const childEnv = "SERALM_TEST_PREGENERATOR_CHILD"

func child(spec string) error {
	f := strings.Split(spec, "|")
	cfg := config.Default()
	cfg.Kafka.Brokers, cfg.Kafka.TopicPrefix = strings.Split(f[0], ","), f[1]
	cfg.Knowledge.Domain, cfg.Knowledge.Batch = "movies", 4
	p, err := New(cfg, Options{
		Writer: &model{name: "fake"}, Encoder: hashes("v1"), Once: true,
		Registry: prometheus.NewRegistry(), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	return p.Run(context.Background())
}

// length of the knowledge topic, markers of transactions included.
func (s *system) length() (n int) {
	s.t.Helper()
	ends, err := kadm.NewClient(s.cl).ListEndOffsets(s.t.Context(), s.names().Knowledge())
	require.NoError(s.t, err)
	ends.Each(func(o kadm.ListedOffset) { n += int(o.Offset) })
	return n
}

func TestKilledAtAnyMomentNoTextIsWrittenTwiceAndNoneIsMissing(t *testing.T) {
	s := newSystem(t)
	const items = 120
	s.announce(0, items)
	start := func() (*exec.Cmd, chan error, *strings.Builder) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{strings.Join(s.cfg.Kafka.Brokers, ","), s.cfg.Kafka.TopicPrefix}, "|"))
		var out strings.Builder
		cmd.Stderr = &out
		require.NoError(t, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		return cmd, ended, &out
	}
	kills := 0
	for len(s.written()) < 2*items-20 {
		cmd, ended, out := start()
		reached := s.length() + 1 + rand.IntN(60)
		s.eventually("it writes", func() bool { return s.length() >= reached || len(ended) > 0 })
		_ = cmd.Process.Kill() // SIGKILL, unless it has ended
		var exit *exec.ExitError
		if errors.As(<-ended, &exit) {
			require.Equal(t, -1, exit.ExitCode(), "the child failed: %s", out)
			kills++
		}
	}
	_, ended, out := start()
	require.NoError(t, <-ended, out)

	t.Logf("%d kills, %d records", kills, len(s.written()))
	require.GreaterOrEqual(t, kills, 3)
	s.onceEach(items)
	for item, k := range s.known() {
		require.Equal(t, stream.OriginLLM, k.Origin, item)
	}
}
