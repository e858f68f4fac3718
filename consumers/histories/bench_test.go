package histories

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/producers/dataset"
	"seralm/stream"
)

// BenchmarkCatchUp makes the view of MovieLens latest-small (100,836 events) anew,
// joining the group included. With a real Kafka and Redis:
//
//	ops/integration/run.sh go test ./consumers/histories -run '^$' -bench . -benchtime 5x
func BenchmarkCatchUp(b *testing.B) {
	s := newSystem(b, 4)
	data, err := dataset.Open(b.Context(), dataset.Options{Path: "../../testdata/ml-latest-small"})
	require.NoError(b, err)
	var recs []*kgo.Record
	for _, ev := range data.Interactions(0) {
		rec, err := stream.NewRecord(s.topic(), ev.Body.User, ev.ID, ev.Source, ev.Time, ev.Body)
		require.NoError(b, err)
		recs = append(recs, rec)
	}
	require.NoError(b, s.cl.ProduceSync(b.Context(), recs...).FirstErr())
	for b.Loop() {
		b.StopTimer()
		_, err := s.store.Wipe(b.Context())
		require.NoError(b, err)
		b.StartTimer()
		m := s.join()
		s.caughtUp()
		b.StopTimer()
		m.leave()
		require.Equal(b, data.Len(), m.applied())
		b.StartTimer()
	}
	b.ReportMetric(float64(data.Len()*b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkVisible is the time from producing one event until a look-up has it in
// the user's history, acknowledgement of the log included.
func BenchmarkVisible(b *testing.B) {
	s := newSystem(b, 4)
	m := s.join()
	s.eventually("joined", func() bool { return len(m.partitions()) == 4 })
	var times []time.Duration
	for n := 0; b.Loop(); n++ {
		user := fmt.Sprint("u", n)
		rec := s.record(n, user, "x")
		start := time.Now()
		s.produce(rec)
		for {
			items, err := s.store.History(b.Context(), user, 1)
			require.NoError(b, err)
			if len(items) == 1 {
				break
			}
		}
		times = append(times, time.Since(start))
	}
	m.leave()
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2])/1e6, "p50-ms")
	b.ReportMetric(float64(times[len(times)*99/100])/1e6, "p99-ms")
}
