package stream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
)

// maintainOften is what Broker does every minute.
func maintainOften(b *Broker) {
	b.wg.Add(1)
	go b.maintain(5 * time.Millisecond)
}

// diskBytes is the size of a topic's files.
func diskBytes(t *testing.T, dir, topic string) (n int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "kafka", "partitions", topic+"-*", "*.dat"))
	require.NoError(t, err)
	for _, f := range files {
		info, err := os.Stat(f)
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted meanwhile
		}
		require.NoError(t, err)
		n += info.Size()
	}
	return n
}

func TestRetentionBoundsEveryPartitionInEveryLife(t *testing.T) {
	cfg := embedded(t)
	cfg.Kafka.Embedded.RetentionBytes = 2 << 20
	value := noise(64 << 10)
	for life := range 3 {
		c, b := startBroker(t, cfg)
		if life == 0 {
			c.topic("t", 1)
		}
		maintainOften(b)
		_, before := c.bounds("t")
		for i := range 160 { // 10 MiB
			c.produce(record("t", 0, 1, fmt.Sprint(life, "/", i, " ", value)))
		}
		await(t, "old files go", func() bool { return diskBytes(t, cfg.DataDir, "t") <= 3<<20 }) // and one file more
		first, end := c.bounds("t")
		require.Equal(t, before+160, end)
		require.Less(t, first, end-20, "the newest 1.3 MiB are there")
		kept := c.visible("t")
		// Retention goes on between the two looks.
		require.LessOrEqual(t, len(kept), int(end-first))
		require.Greater(t, len(kept), 20)
		newest, _, _ := strings.Cut(kept[len(kept)-1], " ")
		require.Equal(t, fmt.Sprint(life, "/159"), newest)
		c.cl.Close()
		b.Close()
	}
}

// A partition whose newest record grew too old is empty; offsets go on all the same.
func TestAPartitionEmptiedByRetentionKeepsItsOffsets(t *testing.T) {
	hourAgo := time.Now().Add(-time.Hour)
	for name, retention := range map[string]time.Duration{"gone at once": 30 * time.Minute, "gone in half an hour": 90 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			cfg := embedded(t)
			c, b := startBroker(t, cfg)
			c.topic("t", 1, "retention.ms", fmt.Sprint(retention.Milliseconds()))
			for _, value := range []string{"a", "b", "c"} {
				rec := record("t", 0, 1, value)
				rec.Timestamp = hourAgo
				c.produce(rec)
			}
			maintainOften(b)
			await(t, "the offsets are kept", func() bool { _, end := c.bounds("t"); return end == 4 })
			if retention < time.Hour {
				await(t, "all records go", func() bool { return len(c.visible("t")) == 0 })
			}
			left := c.visible("t")
			for name, next := range map[string]config.Config{"after a kill": crashed(t, cfg), "after Close": cfg} {
				if next.DataDir == cfg.DataDir {
					c.cl.Close()
					b.Close()
				}
				c, b := startBroker(t, next)
				b.cluster.ApplyRetention() // after a kill, what was in a file with newer records is back
				require.Equal(t, left, c.visible("t"), name)
				c.produce(record("t", 0, 1, "d"))
				_, end := c.bounds("t")
				require.EqualValues(t, 5, end, name)
				require.NoError(t, b.keepOffsets())
				_, end = c.bounds("t")
				require.EqualValues(t, 5, end, "%s: once is enough", name)
			}
		})
	}
}

// crashed is the folder as a kill would leave it now: what a process wrote is in the
// page cache, and outlives it.
func crashed(t *testing.T, cfg config.Config) config.Config {
	t.Helper()
	from := cfg.DataDir
	cfg.DataDir = t.TempDir()
	require.NoError(t, os.CopyFS(cfg.DataDir, os.DirFS(from)))
	return cfg
}

func TestCompactionKeepsTheLatestOfEveryKeyInEveryLife(t *testing.T) {
	cfg := embedded(t)
	value := noise(128 << 10)
	want := map[string]string{}
	for life := range 2 {
		c, b := startBroker(t, cfg)
		if life == 0 {
			c.topic("t", 1, "cleanup.policy", "compact", "retention.ms", "-1", "retention.bytes", "-1")
		}
		maintainOften(b)
		write := func(i int) {
			key := fmt.Sprint("k", i%7)
			if i < 3 {
				key = fmt.Sprint("only in life ", life, " ", i)
			}
			want[key] = fmt.Sprint(life, "/", i)
			c.produce(&kgo.Record{Topic: "t", Key: []byte(key), Value: []byte(want[key] + " " + value)})
		}
		i := 0
		for ; int64(i*len(value)) < 2*dirtyBytes; i++ { // 64 MiB
			write(i)
		}
		// Compaction comes ahead of a write.
		await(t, "old values go", func() bool { write(i); i++; return diskBytes(t, cfg.DataDir, "t") < dirtyBytes })
		requireLatest(t, c, want)
		c.cl.Close()
		b.Close()
	}
	c, _ := startBroker(t, cfg)
	requireLatest(t, c, want)
}

// requireLatest reads the topic t: the last value of every key, which may be long,
// begins with what is wanted.
func requireLatest(t *testing.T, c *testCluster, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for _, rec := range c.records("t") {
		var begin string
		_, err := fmt.Sscan(string(rec.Value[:min(32, len(rec.Value))]), &begin)
		require.NoError(t, err)
		got[string(rec.Key)] = begin
	}
	require.Equal(t, want, got)
}

// A write that may yet be aborted supersedes nothing.
func TestCompactionWaitsForTheEndOfTransactions(t *testing.T) {
	cfg := embedded(t)
	c, b := startBroker(t, cfg)
	c.topic("t", 1, "cleanup.policy", "compact")
	put := func(value string) *kgo.Record { return record("t", 0, 1, value) } // one key
	c.produce(put("older"))
	c.produce(put("committed"))
	txn := openTxnWriter(t, c, "w")
	require.NoError(t, txn.Begin())
	require.NoError(t, txn.Produce(t.Context(), put("lost")))
	require.NoError(t, txn.Produce(t.Context(), put("lost")))
	done := b.compact()
	require.NoError(t, txn.Produce(t.Context(), put("lost")))
	select {
	case <-done:
		require.Fail(t, "compacted in the middle of a transaction")
	default:
	}
	killed, _ := startBroker(t, crashed(t, cfg))
	require.Equal(t, []string{"older", "committed"}, killed.visible(killed.settled("t")))

	require.NoError(t, txn.Abort(t.Context()))
	require.NoError(t, txn.Begin())
	require.NoError(t, txn.Produce(t.Context(), put("newest")))
	<-done
	require.NoError(t, txn.Abort(t.Context()))
	require.Equal(t, []string{"committed"}, c.visible("t"))
	killed, _ = startBroker(t, crashed(t, cfg))
	require.Equal(t, []string{"committed"}, killed.visible(killed.settled("t")))
}

// kfake compacts in place: a kill in between has lost the partition, and the copy
// made before is put back.
func TestAKillDuringCompactionLosesNothing(t *testing.T) {
	for name, at := range map[string]func(t *testing.T, b *Broker){
		"while copying": func(t *testing.T, b *Broker) {
			require.NoError(t, os.MkdirAll(b.path(copyingDir+"/t-0"), 0o755))
		},
		"while compacting": func(t *testing.T, b *Broker) {
			require.NoError(t, backUp(b.dir, []string{"t"}))
			spoil(t, b)
		},
		"and again while the copy was put back": func(t *testing.T, b *Broker) {
			require.NoError(t, backUp(b.dir, []string{"t"}))
			spoil(t, b)
			require.NoError(t, os.RemoveAll(b.path("partitions/t-1")))
			require.NoError(t, os.Rename(b.path(compactDir+"/t-1"), b.path("partitions/t-1")))
			require.NoError(t, os.RemoveAll(b.path("partitions/t-0")))
		},
		"after it": func(t *testing.T, b *Broker) {
			require.NoError(t, backUp(b.dir, []string{"t"}))
			require.NoError(t, os.Rename(b.path(compactDir), b.path(compactedDir)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := embedded(t)
			c, b := startBroker(t, cfg)
			c.topic("t", 2, "cleanup.policy", "compact")
			c.produce(record("t", 0, 1, "a"), record("t", 1, 1, "b"))
			c.cl.Close()
			b.Close()
			at(t, b)
			require.NoError(t, os.WriteFile(b.path(runningFile), nil, 0o644))

			c, b = startBroker(t, cfg)
			require.ElementsMatch(t, []string{"a", "b"}, c.visible("t"))
			left, err := os.ReadDir(b.dir)
			require.NoError(t, err)
			for _, dir := range []string{copyingDir, compactDir, compactedDir} {
				require.False(t, slices.ContainsFunc(left, func(e os.DirEntry) bool { return e.Name() == dir }), dir)
			}
		})
	}
}

// spoil empties the partitions of t.
func spoil(t *testing.T, b *Broker) {
	t.Helper()
	files, err := filepath.Glob(b.path("partitions/t-*/*.dat"))
	require.NoError(t, err)
	require.Len(t, files, 2)
	for _, f := range files {
		require.NoError(t, os.Remove(f))
	}
}
