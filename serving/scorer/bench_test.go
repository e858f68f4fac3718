package scorer

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/serving/catalogue"
	"seralm/serving/internal/specimen"
	"seralm/stream"
)

// What one new text costs: a table, and the runs that warm it up. 3,702 rows of 64 are
// MovieLens 1M, a million are 256 MB.
func BenchmarkTable(b *testing.B) {
	for _, rows := range []int{3702, 60_000, 1_000_000} {
		b.Run(fmt.Sprint("rows=", rows), func(b *testing.B) {
			specimen.Runtime(b)
			s := New(config.Default(), ONNX, catalogue.New(1000), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
			b.Cleanup(s.Close)
			require.NoError(b, s.Load(blob(b, specimen.WithTower(specimen.Proven(b, specimen.SASRec(specimen.ML1M, rows, 1)), numbers))))
			s.hold(newTexts(s.limit))
			for i := range 500 {
				id := fmt.Sprint("new", i)
				s.items.Apply(stream.Event[stream.Item]{Body: stream.Item{Item: id}})
				s.learn(s.texts.Load(), record(b, "knowledge", id, "e", 1, 2, 3, 4))
			}
			rec := record(b, "knowledge", "new7", "e", rand.Float32(), 2, 3, 4)
			for b.Loop() {
				s.learn(s.texts.Load(), rec)
				if s.Refresh() == 0 {
					b.Fatal("no table was made")
				}
			}
		})
	}
}

// The memory of a text, as the documentation of texts says it.
func BenchmarkTexts(b *testing.B) {
	x := newTexts(1 << 30)
	i := 0
	for b.Loop() {
		id := fmt.Sprint("an-item-", i)
		_, err := x.put(id, make([]float32, 384), "e", time.Time{}, nil)
		require.NoError(b, err)
		i++
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/float64(len(x.by)), "B/item")
}
