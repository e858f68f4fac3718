package stream

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"seralm/config"
)

// The story that recovery.go tells: without the abort marker, the writer's next
// commit would end the killed transaction with it, and after a second kill the
// records of the killed one would count as committed.
func TestATransactionOpenAtTheKillStaysAborted(t *testing.T) {
	cfg := embedded(t)
	var want []string
	for life := range 4 {
		c, kill := startChild(t, cfg)
		if life == 0 {
			c.topic("t", 2)
		}
		require.ElementsMatch(t, want, c.visible(c.settled("t")), "life %d", life)
		txn, other := openTxnWriter(t, c, "w"), openTxnWriter(t, c, "other")
		write := func(txn *Txn, value string) {
			require.NoError(t, txn.Begin())
			require.NoError(t, txn.Produce(t.Context(), record("t", 0, 1, value), record("t", 1, 1, value)))
		}
		write(txn, "kept")
		require.NoError(t, txn.Commit(t.Context()))
		want = append(want, "kept", "kept")
		require.ElementsMatch(t, want, c.visible("t"), "life %d", life)
		write(txn, "lost")
		write(other, "lost")
		txn.Close()
		other.Close()
		c.cl.Close()
		kill()
	}
}

// After an orderly Close it is still open, as on a cluster that was restarted: its
// writer's return ends it, or a kill.
func TestATransactionOpenAtCloseIsNeverCommitted(t *testing.T) {
	cfg := embedded(t)
	var want []string
	for life := range 3 {
		c, b := startBroker(t, cfg)
		if life == 0 {
			c.topic("t", 1)
		}
		require.Equal(t, want, c.visible(c.settled("t")), "life %d", life)
		for closing := range 2 {
			txn := openTxnWriter(t, c, "w")
			require.NoError(t, txn.Begin())
			require.NoError(t, txn.Produce(t.Context(), record("t", 0, 1, "kept")))
			require.NoError(t, txn.Commit(t.Context()))
			want = append(want, "kept")
			require.Equal(t, want, c.visible("t"), "life %d, closed %d times", life, closing)
			require.NoError(t, txn.Begin())
			require.NoError(t, txn.Produce(t.Context(), record("t", 0, 1, "lost")))
			b.Close()
			txn.Close()
			c.cl.Close()
			c, b = startBroker(t, cfg)
			require.Equal(t, want, c.visible("t"), "life %d, closed %d times", life, closing)
		}
		c.cl.Close()
		b.Close()
		c, kill := startChild(t, cfg)
		c.produce(record("t", 0, 1, "plain"))
		want = append(want, "plain")
		c.cl.Close()
		kill()
	}
}

// The last write was under way when the power went: what follows the last whole
// batch is cut off, and writing goes on there.
func TestATornWriteIsCutOff(t *testing.T) {
	for name, garbage := range map[string]func(batch []byte) []byte{
		"half a batch":   func(batch []byte) []byte { return batch[:len(batch)-1] },
		"half a header":  func(batch []byte) []byte { return batch[:batchHeader-1] },
		"zeros":          func([]byte) []byte { return make([]byte, 4096) },
		"noise":          func([]byte) []byte { return []byte(noise(4096)) },
		"a spoilt batch": func(batch []byte) []byte { return append(batch[:len(batch)-1], ^batch[len(batch)-1]) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := embedded(t)
			c, kill := startChild(t, cfg)
			c.topic("t", 1)
			c.produce(record("t", 0, 1, "first"))
			for _, next := range []string{"second", "third"} {
				c.cl.Close()
				kill()
				tear(t, cfg, "t-0", garbage)
				c, kill = startChild(t, cfg)
				c.produce(record("t", 0, 1, next))
			}
			require.Equal(t, []string{"first", "second", "third"}, c.visible("t"))
			_, end := c.bounds("t")
			require.EqualValues(t, 3, end)
		})
	}
}

// tear appends to a partition's only segment; garbage is made of its first batch.
func tear(t *testing.T, cfg config.Config, partition string, garbage func(batch []byte) []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cfg.DataDir, "kafka", "partitions", partition, "*.dat"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	segment, err := os.ReadFile(files[0])
	require.NoError(t, err)
	batch := segment[:12+binary.BigEndian.Uint32(segment[batchLengthAt:])]
	require.NoError(t, os.WriteFile(files[0], append(segment, garbage(bytes.Clone(batch))...), 0o644))
}

// FuzzScanSegment: whatever a killed or a dying machine left in a file, the scan
// comes to an end, and names no more transactions than batches fit in it.
func FuzzScanSegment(f *testing.F) {
	batch := func(attributes int16) []byte {
		b := kmsg.RecordBatch{Magic: 2, Attributes: attributes, ProducerID: 7, ProducerEpoch: 1, Records: []byte("r")}
		b.Length = int32(len(b.AppendTo(nil)) - 12)
		return b.AppendTo(nil)
	}
	open, ended := batch(attributeTransactional), batch(attributeTransactional|attributeControl)
	f.Add([]byte(nil))
	f.Add(batch(0))
	f.Add(open)
	f.Add(append(bytes.Clone(open), ended...))
	f.Add(append(bytes.Clone(open), ended[:len(ended)-1]...))
	f.Add(make([]byte, 2*batchHeader))
	f.Add(bytes.Repeat([]byte{0xff}, 2*batchHeader))
	f.Fuzz(func(t *testing.T, segment []byte) {
		found := map[int64]int16{}
		if err := scanSegment(bytes.NewReader(segment), found); err != nil {
			t.Fatal(err)
		}
		if len(found) > len(segment)/batchHeader {
			t.Fatalf("%d transactions in %d bytes", len(found), len(segment))
		}
	})
}

func TestOnlyAWholeEndMarkerEndsATransaction(t *testing.T) {
	b := kmsg.RecordBatch{Magic: 2, Attributes: attributeTransactional, ProducerID: 7, ProducerEpoch: 3}
	b.Length = int32(len(b.AppendTo(nil)) - 12)
	segment := b.AppendTo(nil)
	b.Attributes |= attributeControl
	end := b.AppendTo(nil)
	for name, tc := range map[string]struct {
		segment []byte
		want    map[int64]int16
	}{
		"none":  {segment, map[int64]int16{7: 3}},
		"torn":  {append(bytes.Clone(segment), end[:len(end)-1]...), map[int64]int16{7: 3}},
		"whole": {append(bytes.Clone(segment), end...), map[int64]int16{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[int64]int16{}
			require.NoError(t, scanSegment(bytes.NewReader(tc.segment), got))
			require.Equal(t, tc.want, got)
		})
	}
}
