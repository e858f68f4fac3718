package apptest

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
)

// installation is a log and views that processes share: the real Kafka and Redis that
// SERALM_TEST_KAFKA and SERALM_TEST_REDIS name, else servers of their protocols here.
func installation(t *testing.T) []string {
	t.Helper()
	kafka, redis := os.Getenv("SERALM_TEST_KAFKA"), os.Getenv("SERALM_TEST_REDIS")
	if kafka == "" {
		fake, err := kfake.NewCluster(kfake.NumBrokers(1))
		require.NoError(t, err)
		t.Cleanup(fake.Close)
		kafka = fake.ListenAddrs()[0]
	}
	if redis == "" {
		redis = miniredis.RunT(t).Addr()
	}
	name := fmt.Sprintf("apptest-%d", time.Now().UnixNano())
	return append([]string{
		"SERALM_KAFKA_BROKERS=" + kafka, "SERALM_KAFKA_TOPIC_PREFIX=" + name + "-",
		"SERALM_REDIS_ADDR=" + redis, "SERALM_REDIS_KEY_PREFIX=" + name, "SERALM_DATA_DIR=" + t.TempDir(),
	}, small...)
}

// As in production: each role is a process, and each is killed or restarted while the
// others go on.
func TestRolesInProcessesOfTheirOwn(t *testing.T) {
	settings := installation(t)
	_, errs, status := call(t, seralm, settings, "train")
	require.NotZero(t, status)
	require.Contains(t, errs, "seralm topics create")
	_, errs, status = call(t, seralm, settings, "topics", "create")
	require.Zero(t, status, errs)

	start := func(args ...string) *program { return run(t, seralm, settings, args...).up() }
	gateway := start("gateway")
	histories := start("up", "--roles=histories")
	trainer := start("train")
	serve := run(t, seralmServe, append(slices.Clone(settings), "SERALM_HTTP_DRAIN_DELAY=3s")).up()

	walk(gateway, 0, 350)
	serve.ready()
	serve.knows("u3")

	histories.kill()
	trainer.kill()
	walk(gateway, 350, 350)
	require.NotEmpty(t, items(serve.get("/v1/recommendations/u3")), "look-ups go on")

	histories, trainer = start("up", "--roles=histories"), start("train")
	whole := func() bool { return len(items(serve.get("/v1/users/u3/history"))) == 100 }
	serve.until("what was posted meanwhile is in the histories", whole)
	serve.until("the trainer that took over has published", func() bool {
		model, ok := serve.get("/v1/status")["model"].(map[string]any)
		return ok && model["epoch"].(float64) >= 2
	})

	out, errs, status := call(t, seralm, settings, "rebuild")
	require.Zero(t, status, errs)
	require.Contains(t, out, "removed")
	require.True(t, whole(), "the views are as they were")

	require.NoError(t, serve.cmd.Process.Signal(syscall.SIGTERM))
	serve.until("a load balancer is told", func() bool {
		status, answer, err := serve.do("GET", "/readyz", nil)
		return err == nil && status == 503 && answer["ready"] == false
	})
	require.NotEmpty(t, items(serve.get("/v1/recommendations/u3")), "and served meanwhile")
	for _, p := range []*program{serve, gateway, histories, trainer} {
		require.NoError(t, p.terminate(), "SIGTERM is a clean end")
	}
}

// Two trainers of one model: the later one takes over, the earlier ends by itself and
// says why.
func TestASecondTrainerFencesTheFirst(t *testing.T) {
	settings := installation(t)
	_, errs, status := call(t, seralm, settings, "topics", "create")
	require.Zero(t, status, errs)
	gateway := run(t, seralm, settings, "gateway").up()
	first := run(t, seralm, settings, "train").up()
	walk(gateway, 0, 70)
	second := run(t, seralm, append(settings, "SERALM_DATA_DIR="+t.TempDir()), "train").up()
	walk(gateway, 70, 700)
	select {
	case <-first.done:
	case <-t.Context().Done():
	}
	require.Error(t, first.exit)
	require.Contains(t, first.err.String(), "fenced")
	require.NoError(t, second.terminate())
}
