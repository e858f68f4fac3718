package stream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func openMerge(t testing.TB, c *testCluster, topic string, start map[int32]int64) *Merge {
	t.Helper()
	m, err := NewMerge(t.Context(), c.cfg, topic, start)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

// take reads n records in batches.
func take(t testing.TB, m *Merge, n, batch int) (recs []*kgo.Record) {
	t.Helper()
	for len(recs) < n {
		got, err := m.Batch(t.Context(), min(batch, n-len(recs)), 10*time.Millisecond)
		require.NoError(t, err)
		recs = append(recs, got...)
	}
	return recs
}

func TestMergeOrdersByEventTimeThenPartitionThenOffset(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 3)
	c.produce(
		record(topic, 2, 10, "c10"), record(topic, 2, 30, "c30"),
		record(topic, 0, 20, "a20"), record(topic, 0, 30, "a30"), record(topic, 0, 30, "a30'"),
		record(topic, 1, 30, "b30"), record(topic, 1, 5, "b5 behind b30"), record(topic, 1, 40, "b40"),
	)
	m := openMerge(t, c, topic, nil)
	require.Equal(t,
		[]string{"c10", "a20", "a30", "a30'", "b30", "b5 behind b30", "c30", "b40"},
		values(take(t, m, 8, 100)))
}

// reference merges a finished log the way the package doc says.
func reference(log map[int32][]*kgo.Record) (out []*kgo.Record) {
	heads := map[int32]int{}
	for {
		var first *kgo.Record
		for p, recs := range log {
			if heads[p] == len(recs) {
				continue
			}
			r := recs[heads[p]]
			if first == nil || EventTime(r).Before(EventTime(first)) || EventTime(r).Equal(EventTime(first)) && p < first.Partition {
				first = r
			}
		}
		if first == nil {
			return out
		}
		heads[first.Partition]++
		out = append(out, first)
	}
}

// Many logs, each read with different batch sizes, and with pauses and cut-off
// calls where the reader happens to be: always the same sequence.
func TestMergeIsAFunctionOfTheLog(t *testing.T) {
	c := newTestCluster(t)
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			partitions := int32(1 + rng.IntN(5))
			topic := c.topic(fmt.Sprint("t", seed), partitions)
			log := map[int32][]*kgo.Record{}
			n := 500 + rng.IntN(1500)
			clock := int64(1_000)
			for i := range n {
				clock += rng.Int64N(5) - 1 // at times equal, at times backwards
				p := rng.Int32N(partitions)
				if rng.IntN(3) == 0 {
					p = 0 // uneven
				}
				log[p] = append(log[p], record(topic, p, clock, fmt.Sprint(i)))
			}
			for _, recs := range log {
				c.produce(recs...)
			}
			want := values(reference(log))
			for range 3 {
				m, err := NewMerge(t.Context(), c.cfg, topic, nil)
				require.NoError(t, err)
				var got []string
				for len(got) < n {
					ctx, cancel := context.WithCancel(t.Context())
					if rng.IntN(4) == 0 {
						ctx, cancel = context.WithTimeout(t.Context(), time.Duration(rng.IntN(300))*time.Microsecond)
					}
					recs, err := m.Batch(ctx, 1+rng.IntN(100), 0)
					if err != nil {
						require.ErrorIs(t, err, ctx.Err())
					}
					cancel()
					got = append(got, values(recs)...)
					if rng.IntN(20) == 0 && len(got) < n { // a restart
						at := m.Offsets()
						m.Close()
						m, err = NewMerge(t.Context(), c.cfg, topic, at)
						require.NoError(t, err)
					}
				}
				m.Close()
				require.Equal(t, want, got)
			}
		})
	}
}

// Batch boundaries too: full until the log's end, wherever the network cuts.
func TestBatchesOfAFinishedLogAreFullButTheLast(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 4)
	for i := range 1000 {
		c.cl.Produce(t.Context(), record(topic, int32(i%4), int64(i), fmt.Sprint(i)), nil)
	}
	require.NoError(t, c.cl.Flush(t.Context()))
	m := openMerge(t, c, topic, nil)
	for range 3 {
		recs, err := m.Batch(t.Context(), 300, time.Millisecond)
		require.NoError(t, err)
		require.Len(t, recs, 300)
	}
	recs, err := m.Batch(t.Context(), 300, time.Millisecond)
	require.NoError(t, err)
	require.Len(t, recs, 100)
}

func TestMergeConsidersALatePartitionThatHoldsEarlierEvents(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 2)
	c.produce(record(topic, 0, 100, "a"), record(topic, 0, 300, "c"))
	m := openMerge(t, c, topic, nil)
	first, err := m.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, "a", string(first.Value))
	// Partition 1 was empty a moment ago. What it gets now is in the log before the
	// next call, so that call must see it.
	c.produce(record(topic, 1, 200, "b"))
	require.Equal(t, []string{"b", "c"}, values(take(t, m, 2, 1)))
}

func TestBatchWaitsForTheFirstRecordAndLingersForMore(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 2)
	m := openMerge(t, c, topic, nil)
	go func() {
		time.Sleep(20 * time.Millisecond)
		c.cl.ProduceSync(context.Background(), record(topic, 1, 1, "first"))
		time.Sleep(20 * time.Millisecond)
		c.cl.ProduceSync(context.Background(), record(topic, 0, 2, "second"))
	}()
	recs, err := m.Batch(t.Context(), 2, 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, []string{"first", "second"}, values(recs), "full, so it does not wait out the linger")
}

func TestReadyWaitsForNobodyToWrite(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 3)
	m := openMerge(t, c, topic, nil)
	ready := func(most int) []string {
		recs, err := m.Ready(t.Context(), most)
		require.NoError(t, err)
		return values(recs)
	}
	require.Empty(t, ready(5))
	require.Equal(t, map[int32]int64{0: 0, 1: 0, 2: 0}, m.Offsets())
	// What is in the log when the call begins is there, whatever the network does.
	for i := range 20 {
		c.produce(record(topic, int32(i%3), int64(3*i+1), "b"), record(topic, int32((i+1)%3), int64(3*i), "a"), record(topic, int32(i%3), int64(3*i+2), "c"))
		require.Equal(t, []string{"a", "b"}, ready(2))
		ranges, _ := m.Taken()
		require.Len(t, ranges, 2)
		require.Equal(t, []string{"c"}, ready(5))
		require.Empty(t, ready(5))
	}
}

func TestAnEndedContextLosesNothing(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 2)
	c.produce(record(topic, 0, 1, "one"))
	m := openMerge(t, c, topic, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	_, err := m.Batch(ctx, 10, time.Hour)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, map[int32]int64{0: 0, 1: 0}, m.Offsets(), "nothing was returned yet")
	recs, err := m.Batch(t.Context(), 10, 0)
	require.NoError(t, err)
	require.Equal(t, []string{"one"}, values(recs))
	require.Equal(t, map[int32]int64{0: 1, 1: 0}, m.Offsets())
}

func TestOneFarAheadPartitionIsHeldBack(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 2)
	const n, size = 300, 64 << 10
	for i := range n {
		c.cl.Produce(t.Context(), record(topic, 0, int64(i), noise(size)), nil)
		c.cl.Produce(t.Context(), record(topic, 1, int64(1_000_000+i), "late"), nil)
	}
	require.NoError(t, c.cl.Flush(t.Context()))
	m := openMerge(t, c, topic, nil)
	m.limit = 8 * size
	held := 0
	for i := range 2 * n {
		rec, err := m.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, i >= n, rec.Partition == 1)
		held = max(held, m.lanes[0].bytes)
	}
	require.Less(t, held, 8*size+fetchMaxPartition+size, "one fetch above the bound at most")
}

func TestMergeReadsPartitionsThatAreAddedLater(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 1)
	c.produce(record(topic, 0, 1, "a"))
	m := openMerge(t, c, topic, nil)
	require.Equal(t, []string{"a"}, values(take(t, m, 1, 1)))
	_, err := c.adm.CreatePartitions(t.Context(), 1, topic)
	require.NoError(t, err)
	require.NoError(t, awaitLeaders(t.Context(), c.adm, []string{topic}))
	require.Eventually(t, func() bool { // a broker may tell of the old number once more
		c.cl.PurgeTopicsFromProducing(topic) // forget how many there were
		return c.cl.ProduceSync(t.Context(), record(topic, 1, 2, "b")).FirstErr() == nil
	}, 10*time.Second, 50*time.Millisecond)
	m.r.cl.ForceMetadataRefresh() // production waits for MetadataMaxAge
	require.Eventually(t, func() bool {
		leader, _, _ := m.r.cl.PartitionLeader(topic, 1)
		return leader >= 0
	}, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, []string{"b"}, values(take(t, m, 1, 1)))
	require.Equal(t, map[int32]int64{0: 1, 1: 1}, m.Offsets())
}

func TestLagCountsWhatIsStillToCome(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 2)
	c.produce(record(topic, 0, 1, "a"), record(topic, 1, 2, "b"), record(topic, 1, 3, "c"))
	m := openMerge(t, c, topic, nil)
	take(t, m, 1, 1)
	lag, err := m.Lag(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, lag)
}

func TestRetentionThatOvertookTheReaderIsALostErrorWithTheCount(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 2)
	for i := range 10 {
		c.produce(record(topic, 1, int64(i), "x"))
	}
	c.trim(topic, 1, 7)

	_, err := NewMerge(t.Context(), c.cfg, topic, map[int32]int64{0: 0, 1: 3})
	var lost *LostError
	require.ErrorAs(t, err, &lost)
	require.Equal(t, LostError{topic, 1, 3, 7, 10}, *lost)
	require.EqualValues(t, 4, lost.Count())
	require.ErrorContains(t, err, "4 records are lost")

	_, err = NewMerge(t.Context(), c.cfg, topic, map[int32]int64{0: 0, 1: 12})
	require.ErrorAs(t, err, &lost)
	require.EqualValues(t, 2, lost.Count())
	require.ErrorContains(t, err, "truncated or made anew")

	_, err = NewMerge(t.Context(), c.cfg, topic, map[int32]int64{0: 0, 1: 7, 2: 5})
	require.ErrorContains(t, err, "there is no partition 2")

	m := openMerge(t, c, topic, nil) // no offsets: what there is
	require.Len(t, take(t, m, 3, 3), 3)
}

func TestRetentionThatOvertakesARunningReaderIsALostErrorToo(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 1)
	const n = 200
	for i := range n {
		c.cl.Produce(t.Context(), record(topic, 0, int64(i), noise(64<<10)), nil)
	}
	require.NoError(t, c.cl.Flush(t.Context()))
	m := openMerge(t, c, topic, nil)
	m.limit = 1
	take(t, m, 1, 1) // a first fetch is buffered, the rest is still on the broker
	c.trim(topic, 0, n)
	var err error
	read := int64(1)
	for err == nil {
		var recs []*kgo.Record
		recs, err = m.Batch(t.Context(), 10, 0)
		read += int64(len(recs))
	}
	var lost *LostError
	require.ErrorAs(t, err, &lost)
	require.Equal(t, n-read, lost.Count(), "exactly those that were not returned")
	_, again := m.Batch(t.Context(), 1, 0)
	require.ErrorIs(t, again, err)
}

func TestJournalledBatchesAreReadAgainExactly(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 3)
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range 900 {
		p := rng.Int32N(3)
		c.cl.Produce(t.Context(), record(topic, p, rng.Int64N(1000), fmt.Sprint(p, "/", i)), nil)
	}
	require.NoError(t, c.cl.Flush(t.Context()))

	type entry struct {
		ranges []Range
		order  []int32
	}
	var journal []entry
	var want [][]string
	m := openMerge(t, c, topic, nil)
	for read := 0; read < 900; {
		recs, err := m.Batch(t.Context(), 1+rng.IntN(64), 0)
		require.NoError(t, err)
		ranges, order := m.Taken()
		journal = append(journal, entry{ranges, order})
		want = append(want, values(recs))
		read += len(recs)
	}
	end := m.Offsets()

	// As a resume does it: journalled steps again, then on from there.
	again := openMerge(t, c, topic, nil)
	for i, e := range journal[:len(journal)/2] {
		recs, err := again.Ranges(t.Context(), e.ranges, e.order)
		require.NoError(t, err)
		require.Equal(t, want[i], values(recs))
	}
	rest := slices.Concat(want[len(journal)/2:]...)
	require.Equal(t, rest, values(take(t, again, len(rest), 17)))
	require.Equal(t, end, again.Offsets())
}

func TestAJournalThatDoesNotFitTheLogIsRefused(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 2)
	for i := range 5 {
		c.produce(record(topic, 0, int64(i), "a"), record(topic, 1, int64(i), "b"))
	}
	for name, tc := range map[string]struct {
		ranges []Range
		order  []int32
		says   string
	}{
		"a gap after the state":        {[]Range{{0, 1, 3}}, []int32{0, 2}, "the journal goes on at offset 1 of partition 0, the state at 0"},
		"fewer records than journaled": {[]Range{{0, 0, 2}}, []int32{0, 3}, "holds 2 records in [0, 2), the journal 3"},
		"more records than journaled":  {[]Range{{0, 0, 3}}, []int32{0, 2}, "is at 1, in the journal at 2"},
		"a log that ends before":       {[]Range{{0, 0, 9}}, []int32{0, 9}, "4 records are lost"},
		"an order without a range":     {[]Range{{0, 0, 1}}, []int32{0, 1, 1, 1}, "of which it has no range"},
		"a range without an order":     {[]Range{{0, 0, 1}, {1, 0, 1}}, []int32{0, 1}, "no records for offsets [0, 1) of partition 1"},
		"an unknown partition":         {[]Range{{7, 0, 1}}, []int32{7, 1}, "names partition 7"},
		"an odd order":                 {[]Range{{0, 0, 1}}, []int32{0}, "made of pairs"},
		"a negative run":               {[]Range{{0, 0, 1}}, []int32{0, -1}, "a run of -1 records"},
	} {
		t.Run(name, func(t *testing.T) {
			m := openMerge(t, c, topic, nil)
			_, err := m.Ranges(t.Context(), tc.ranges, tc.order)
			require.ErrorContains(t, err, tc.says)
			_, err = m.Batch(t.Context(), 1, 0)
			require.ErrorContains(t, err, tc.says, "the merge is of no more use")
		})
	}
}
