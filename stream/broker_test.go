package stream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/encoding/json"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
)

// The test binary is also the broker's process that the tests kill: with this
// variable set, to the broker's configuration as JSON, it runs nothing else.
const brokerChildEnv = "SERALM_TEST_BROKER_CHILD"

func brokerChild(spec string) {
	var cfg config.Config
	err := json.Unmarshal([]byte(spec), &cfg)
	if err == nil {
		var b *Broker
		if b, err = StartBroker(cfg); err == nil {
			fmt.Fprintln(os.Stdout, b.Addr())
			_, err = io.Copy(io.Discard, os.Stdin) // until the test's process is gone
		}
	}
	fmt.Fprintln(os.Stderr, "broker process:", err)
}

// startChild starts a broker in a process of its own; kill is kill -9.
func startChild(t *testing.T, cfg config.Config) (c *testCluster, kill func()) {
	t.Helper()
	c, cmd := startProcess(t, cfg, os.Stderr)
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // "signal: killed"
	})
	t.Cleanup(kill)
	return c, kill
}

// startProcess starts one that the caller waits for.
func startProcess(t *testing.T, cfg config.Config, log io.Writer) (*testCluster, *exec.Cmd) {
	t.Helper()
	spec, err := json.Marshal(cfg)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), brokerChildEnv+"="+string(spec))
	cmd.Stderr = log
	_, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	addr, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return clientOf(t, strings.TrimSpace(addr)), cmd
}

func startBroker(t *testing.T, cfg config.Config) (*testCluster, *Broker) {
	t.Helper()
	b, err := StartBroker(cfg)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return clientOf(t, b.Addr()), b
}

// clientOf connects to a broker, whose topics keep their names from life to life.
func clientOf(t *testing.T, addr string) *testCluster {
	t.Helper()
	c := &testCluster{t: t, cfg: config.Default().Kafka}
	c.cfg.Brokers = []string{addr}
	c.cl = c.client()
	c.adm = kadm.NewClient(c.cl)
	return c
}

func embedded(t *testing.T) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.DataDir = t.TempDir()
	return cfg
}

func (c *testCluster) bounds(topic string) (earliest, latest int64) {
	c.t.Helper()
	starts, err := c.adm.ListStartOffsets(c.t.Context(), topic)
	require.NoError(c.t, err)
	ends, err := c.adm.ListEndOffsets(c.t.Context(), topic)
	require.NoError(c.t, err)
	return starts[topic][0].Offset, ends[topic][0].Offset
}

func TestEverythingSurvivesCloseAndReopen(t *testing.T) {
	cfg := embedded(t)
	c, b := startBroker(t, cfg)
	topic := c.topic("t", 2, "retention.ms", "123456789")
	c.produce(record(topic, 0, 1, "a"), record(topic, 1, 1, "b"))
	txn := openTxnWriter(t, c, "w")
	for i, end := range []func(context.Context) error{txn.Commit, txn.Abort} {
		require.NoError(t, txn.Begin())
		require.NoError(t, txn.Produce(t.Context(), record(topic, 0, 1, fmt.Sprint("c", i))))
		require.NoError(t, txn.CommitOffsets(t.Context(), "g", topic, map[int32]int64{0: int64(2 + i)}))
		require.NoError(t, end(t.Context()))
	}
	want := []string{"a", "b", "c0"}
	require.ElementsMatch(t, want, c.visible(topic))
	_, end := c.bounds(topic)
	txn.Close()
	c.cl.Close()
	b.Close()
	b.Close() // again is nothing

	c, _ = startBroker(t, cfg)
	require.ElementsMatch(t, want, c.visible(topic))
	require.Equal(t, map[int32]int64{0: 2}, c.committed(t.Context(), "g", topic))
	configs, err := c.adm.DescribeTopicConfigs(t.Context(), topic)
	require.NoError(t, err)
	have := map[string]string{}
	for _, kv := range configs[0].Configs {
		have[kv.Key] = kv.MaybeValue()
	}
	require.Equal(t, "123456789", have["retention.ms"])
	c.produce(record(topic, 0, 2, "d"))
	_, after := c.bounds(topic)
	require.Equal(t, end+1, after)
	require.ElementsMatch(t, append(want, "d"), c.visible(topic))
}

// Life after life, records are written until the process is killed. What was
// acknowledged is there, in order; of what was under way, only a beginning.
func TestEveryAcknowledgedRecordSurvivesKillAfterKill(t *testing.T) {
	for name, synced := range map[string]bool{"in the page cache": false, "with SyncWrites": true} {
		t.Run(name, func(t *testing.T) {
			cfg := embedded(t)
			cfg.Kafka.Embedded.SyncWrites = synced
			acked := map[string]int{}
			for life := range 5 {
				c, kill := startChild(t, cfg)
				if life == 0 {
					c.topic("t", 1)
				}
				found := map[string]int{}
				for _, v := range c.visible("t") {
					of, i, _ := strings.Cut(v, "/")
					require.Equal(t, strconv.Itoa(found[of]), i, "of life %s", of)
					found[of]++
				}
				for of, n := range acked {
					require.GreaterOrEqual(t, found[of], n, "of life %s", of)
				}
				acked[strconv.Itoa(life)] = c.produceUntilKilled("t", life, 200*(life+1), kill)
			}
		})
	}
}

// produceUntilKilled kills the broker when at least so many records are
// acknowledged, while more are under way, and counts those that were.
func (c *testCluster) produceUntilKilled(topic string, life, least int, kill func()) int {
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	enough := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		<-enough
		kill()
		cancel()
	})
	var acked atomic.Int64
	for i := 0; ctx.Err() == nil; i++ {
		c.cl.Produce(ctx, record(topic, 0, int64(i), fmt.Sprint(life, "/", i)), func(_ *kgo.Record, err error) {
			if err == nil && acked.Add(1) == int64(least) {
				close(enough)
			}
		})
	}
	killer.Wait()
	c.cl.Close() // fails what is buffered
	return int(acked.Load())
}

func TestASecondBrokerOnTheFolderIsToldWhoHasIt(t *testing.T) {
	cfg := embedded(t)
	addr, err := RunningBroker(cfg)
	require.NoError(t, err)
	require.Empty(t, addr, "nobody")

	c, kill := startChild(t, cfg)
	_, err = StartBroker(cfg)
	require.ErrorContains(t, err, filepath.Join(cfg.DataDir, "kafka")+" is in use by another embedded broker (process ")
	require.ErrorContains(t, err, "at "+c.cfg.Brokers[0])
	addr, err = RunningBroker(cfg)
	require.NoError(t, err)
	require.Equal(t, c.cfg.Brokers[0], addr)

	c.cl.Close()
	kill()
	addr, err = RunningBroker(cfg)
	require.NoError(t, err)
	require.Empty(t, addr, "a dead process has nothing")
	_, b := startBroker(t, cfg)
	_, err = StartBroker(cfg)
	require.ErrorContains(t, err, fmt.Sprintf("process %d at %s", os.Getpid(), b.Addr()), "of this process too")
}

func TestAPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cfg := embedded(t)
	cfg.Kafka.Embedded.Port = l.Addr().(*net.TCPAddr).Port
	_, err = StartBroker(cfg)
	require.ErrorContains(t, err, fmt.Sprintf("port %d is in use (set kafka.embedded.port to another", cfg.Kafka.Embedded.Port))

	require.NoError(t, l.Close())
	_, b := startBroker(t, cfg) // the folder was let go
	require.Equal(t, l.Addr().String(), b.Addr())
}

func TestAFolderThatCannotBeUsed(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"it cannot be made":   func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"it cannot be locked": func(dir string) error { return os.MkdirAll(filepath.Join(dir, lockFile), 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := embedded(t)
			dir := filepath.Join(cfg.DataDir, "kafka")
			require.NoError(t, spoil(dir))
			_, err := StartBroker(cfg)
			require.ErrorContains(t, err, dir)
			require.ErrorContains(t, err, "set data_dir to a folder that this user may write")
		})
	}
}

// A program of someone else's: no option of ours, a group of its own.
func TestAClientThatKnowsNothingOfUs(t *testing.T) {
	_, b := startBroker(t, embedded(t))
	adm, err := kadm.NewOptClient(kgo.SeedBrokers(b.Addr()))
	require.NoError(t, err)
	defer adm.Close()
	_, err = adm.CreateTopic(t.Context(), 3, 1, nil, "their-topic")
	require.NoError(t, err)
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ConsumerGroup("theirs"), kgo.ConsumeTopics("their-topic"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer cl.Close()
	want := map[string]bool{}
	for i := range 100 {
		want[fmt.Sprint(i)] = true
		cl.Produce(t.Context(), &kgo.Record{Topic: "their-topic", Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)}, nil)
	}
	require.NoError(t, cl.Flush(t.Context()))
	got := map[string]bool{}
	for len(got) < len(want) {
		fetches := cl.PollFetches(t.Context())
		require.NoError(t, errors.Join(fetches.Err0(), t.Context().Err()))
		fetches.EachRecord(func(r *kgo.Record) { got[string(r.Value)] = true })
	}
	require.True(t, maps.Equal(want, got))
	require.NoError(t, cl.CommitUncommittedOffsets(t.Context()))
}

// await polls for what a background goroutine does in its own time.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 30*time.Second, 5*time.Millisecond, what)
}
