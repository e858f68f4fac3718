package replay

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/producers/dataset"
)

// childEnv makes the test binary a replay: "brokers|topic prefix|folder".
const childEnv = "SERALM_TEST_REPLAY_CHILD"

// Few enough records, and a speed, that a child lives long enough to be killed.
var childLimits = limits{records: 8 * chunkRecords, saveEach: 20 * time.Millisecond, patience: time.Minute, flush: time.Second}

const childSpeed = 3e8 // the set's 22 years in some seconds

func child(spec string) error {
	f := strings.Split(spec, "|")
	data, err := dataset.Open(context.Background(), dataset.Options{Path: small})
	if err != nil {
		return err
	}
	cfg := config.Default().Kafka
	cfg.Brokers, cfg.TopicPrefix = strings.Split(f[0], ","), f[1]
	_, err = run(context.Background(), Options{Data: data, Kafka: cfg, Dir: f[2], Items: true, Speed: childSpeed}, childLimits)
	return err
}

func TestKilledAtAnyMomentNothingIsLostAndLittleRepeated(t *testing.T) {
	l, dir := newLog(t), t.TempDir()
	data := open(t, dataset.Options{})
	start := func() (*exec.Cmd, *strings.Builder) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{strings.Join(l.cfg.Brokers, ","), l.cfg.TopicPrefix, dir}, "|"))
		var out strings.Builder
		cmd.Stderr = &out
		require.NoError(t, cmd.Start())
		return cmd, &out
	}
	kills := 0
	kill := func(topic string, records int) {
		cmd, out := start()
		l.awaitCount(topic, records)
		require.NoError(t, cmd.Process.Kill()) // SIGKILL
		var exit *exec.ExitError
		if err := cmd.Wait(); errors.As(err, &exit) {
			require.Equal(t, -1, exit.ExitCode(), "the child failed: %s", out)
			kills++
		}
	}
	kill(l.items(), 1+rand.IntN(4000))
	for reached := 1 + rand.IntN(12_000); reached < 75_000; {
		kill(l.interactions(), reached)
		reached = l.count(l.interactions()) + 1 + rand.IntN(12_000)
	}
	cmd, out := start()
	require.NoError(t, cmd.Wait(), out)

	repeated := l.requireStream(data)
	t.Logf("%d kills, %d of %d events repeated", kills, repeated, data.Len())
	require.GreaterOrEqual(t, kills, 5)
	require.LessOrEqual(t, repeated, kills*(childLimits.records+chunkRecords))
	require.LessOrEqual(t, l.count(l.items()), 9742+kills*(childLimits.records+chunkRecords))
	require.Len(t, l.titles(), 9742)
}
