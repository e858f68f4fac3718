package replay

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/producers/dataset"
	"seralm/stream"
)

// BenchmarkReplay writes a whole data set into the embedded broker on disk and, while
// the clock stands, reads all of it back and compares each user's order. It replays
// MovieLens-1M when SERALM_DATA names a folder that has it as ml-1m, else the
// committed set:
//
//	SERALM_DATA=... go test ./producers/replay -run '^$' -bench . -benchtime 1x -count 5
func BenchmarkReplay(b *testing.B) {
	path := small
	if root := os.Getenv("SERALM_DATA"); root != "" {
		path = filepath.Join(root, "ml-1m")
	}
	data := open(b, dataset.Options{Path: path})
	b.StopTimer()
	b.ResetTimer()
	events, seconds := 0, 0.0
	for range b.N {
		cfg := config.Default()
		cfg.DataDir = b.TempDir()
		broker, err := stream.StartBroker(cfg)
		require.NoError(b, err)
		b.Cleanup(broker.Close)
		l := newLogAt(b, nil, []string{broker.Addr()})
		b.StartTimer()
		r, err := Run(b.Context(), Options{Data: data, Kafka: l.cfg, Dir: filepath.Join(cfg.DataDir, "replay"), Items: true})
		b.StopTimer()
		require.NoError(b, err)
		require.Equal(b, data.Len(), r.Events)
		require.Zero(b, l.requireStream(data))
		events += r.Events
		seconds += r.Seconds
	}
	b.ReportMetric(float64(events)/seconds, "events/s")
}
