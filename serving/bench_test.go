package serving

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/feature"
	"seralm/serving/internal/specimen"
	"seralm/serving/scorer"
)

// benchUsers is more than a cache of anything would hold on to.
const benchUsers = 2000

// bench is a server with the default model of MovieLens 1M's size (3,700 items,
// d 64, L 50) and histories of 50 items in the embedded store.
func bench(b *testing.B) *rig {
	b.Helper()
	specimen.Runtime(b)
	store, err := feature.Open(b.Context(), config.Default().Redis)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, store.Close()) })
	r := newRig(b, func(d *Deps) {
		d.Build, d.Views = scorer.ONNX, store
		d.Config.Serving.Deadline, d.Config.Serving.HistoryDeadline = time.Minute, time.Minute
	})
	const rows = 3702
	r.loadSnapshot(specimen.Proven(b, specimen.SASRec(specimen.ML1M, rows, 1)))
	for row := 2; row < rows; row++ {
		r.announce(specimen.ID(row), fmt.Sprint("A film with an ordinary title ", row), "Drama")
	}
	writer := store.Writer(r.cfg.Histories)
	_, err = writer.Start(b.Context(), "a topic", map[int32]int64{0: 0})
	require.NoError(b, err)
	rng := rand.New(rand.NewPCG(1, 2))
	at := int64(0)
	for user := range benchUsers {
		run := feature.Run{From: at, To: at + int64(specimen.ML1M.MaxLen)}
		for ; at < run.To; at++ {
			run.Events = append(run.Events, feature.HistoryEvent{
				User: fmt.Sprint("user", user), Item: specimen.ID(2 + rng.IntN(rows-2)), ID: fmt.Sprint(at), Offset: at, Time: time.Now(),
			})
		}
		require.NoError(b, writer.Apply(b.Context(), run)[0].Err)
	}
	require.NoError(b, r.popular.refresh(b.Context()))
	return r
}

// median reports the middle of what each look-up took.
func median(b *testing.B, look func(user string)) {
	b.ReportAllocs()
	var took []time.Duration
	i := 0
	for b.Loop() {
		start := time.Now()
		look(fmt.Sprint("user", i%benchUsers))
		took = append(took, time.Since(start))
		i++
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
}

func BenchmarkLookUp(b *testing.B) {
	r := bench(b)
	median(b, func(user string) {
		if a := r.lookups.look(b.Context(), &query{User: user, N: 10}); a.Source != sourcePersonalised {
			b.Fatal(a.Source)
		}
	})
}

func BenchmarkLookUpOverHTTP(b *testing.B) {
	r := bench(b)
	cfg := r.cfg.HTTP
	cfg.Addr = "127.0.0.1:0"
	listener, err := Listen(cfg)
	require.NoError(b, err)
	served := make(chan error, 1)
	go func() { served <- Serve(b.Context(), listener, cfg, r.Handler(), slog.New(slog.DiscardHandler)) }()
	b.Cleanup(func() { require.NoError(b, <-served) }) // b.Context has ended then
	client := &http.Client{Transport: &http.Transport{}}
	b.Cleanup(client.CloseIdleConnections)
	median(b, func(user string) {
		resp, err := client.Get("http://" + listener.Addr().String() + "/v1/recommendations/" + user)
		require.NoError(b, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(b, err)
		require.NoError(b, resp.Body.Close())
		require.Equal(b, 200, resp.StatusCode)
	})
}
