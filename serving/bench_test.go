package serving

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/feature"
	"seralm/serving/internal/specimen"
	"seralm/serving/scorer"
	"seralm/stream"
)

// benchUsers is more than a cache of anything would hold on to.
const benchUsers = 2000

// benchRows is the height of the item table.
const benchRows = 3702

// bench is a server with the default model of MovieLens 1M's size (3,700 items,
// d 64, L 50) and histories of 50 items in the embedded store. The model has learnt the
// first rows; of the others it knows a text.
func bench(b *testing.B, learnt int) *rig {
	b.Helper()
	specimen.Runtime(b)
	store, err := feature.Open(b.Context(), config.Default().Redis)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, store.Close()) })
	r := newRig(b, func(d *Deps) {
		d.Build, d.Views = scorer.ONNX, store
		d.Config.Serving.Deadline, d.Config.Serving.HistoryDeadline = time.Minute, time.Minute
		d.Config.DataDir = b.TempDir()
		broker, err := stream.StartBroker(d.Config)
		require.NoError(b, err)
		b.Cleanup(broker.Close)
		d.Config.Kafka.Brokers = []string{broker.Addr()}
	})
	r.loadSnapshot(specimen.WithTower(specimen.Proven(b, specimen.SASRec(specimen.ML1M, learnt, 1)), benchNumbers))
	for row := 2; row < benchRows; row++ {
		r.announce(specimen.ID(row), fmt.Sprint("A film with an ordinary title ", row), "Drama")
	}
	writer := store.Writer(r.cfg.Histories)
	_, err = writer.Start(b.Context(), "a topic", map[int32]int64{0: 0})
	require.NoError(b, err)
	if learnt < benchRows {
		r.tell(b, learnt)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	at := int64(0)
	for user := range benchUsers {
		run := feature.Run{From: at, To: at + int64(specimen.ML1M.MaxLen)}
		for ; at < run.To; at++ {
			run.Events = append(run.Events, feature.HistoryEvent{
				User: fmt.Sprint("user", user), Item: specimen.ID(2 + rng.IntN(benchRows-2)), ID: fmt.Sprint(at), Offset: at, Time: time.Now(),
			})
		}
		require.NoError(b, writer.Apply(b.Context(), run)[0].Err)
	}
	require.NoError(b, r.popular.refresh(b.Context()))
	return r
}

// benchNumbers is the length of the default encoder's vectors.
const benchNumbers = 384

// tell puts knowledge of the items from a row on into the log and lets the server read it.
func (r *rig) tell(b *testing.B, from int) {
	b.Helper()
	opts, err := stream.ClientOptions(r.cfg.Kafka)
	require.NoError(b, err)
	client, err := kgo.NewClient(opts...)
	require.NoError(b, err)
	defer client.Close()
	require.NoError(b, stream.Ensure(b.Context(), kadm.NewClient(client), r.cfg.Kafka))
	rng := rand.New(rand.NewPCG(3, 4))
	var recs []*kgo.Record
	for row := from; row < benchRows; row++ {
		vector := make([]float32, benchNumbers)
		for i := range vector {
			vector[i] = rng.Float32() / benchNumbers
		}
		rec, err := stream.NewRecord(stream.NamesOf(r.cfg.Kafka.TopicPrefix).Knowledge(), specimen.ID(row), fmt.Sprint(row), "test", time.Now(),
			stream.Knowledge{Item: specimen.ID(row), Text: "A text", Vector: vector, Encoder: "e", Origin: stream.OriginTitle})
		require.NoError(b, err)
		recs = append(recs, rec)
	}
	require.NoError(b, client.ProduceSync(b.Context(), recs...).FirstErr())
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.scorer.FollowKnowledge(ctx) }()
	require.Eventually(b, func() bool {
		k, _ := r.scorer.Knowledge()
		return k.ByText == len(recs)
	}, patience, 10*time.Millisecond)
	stop()
	require.NoError(b, <-ended)
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

// Tables of one height, one of them learnt, one with 500 rows by text: look-ups in
// turns, so that whatever slows the machine slows both.
func BenchmarkLookUpWithKnowledgeAgainstWithout(b *testing.B) {
	arms := []*rig{bench(b, benchRows), bench(b, benchRows-500)}
	took := make([][]time.Duration, len(arms))
	i := 0
	for b.Loop() {
		for k := range arms {
			arm := (i + k) % len(arms)
			start := time.Now()
			a := arms[arm].lookups.look(b.Context(), &query{User: fmt.Sprint("user", i%benchUsers), N: 10})
			took[arm] = append(took[arm], time.Since(start))
			if a.Source != sourcePersonalised {
				b.Fatal(a.Source)
			}
		}
		i++
	}
	p50 := func(arm int) float64 {
		slices.Sort(took[arm])
		return float64(took[arm][len(took[arm])/2].Nanoseconds())
	}
	b.ReportMetric(p50(0), "without-p50-ns")
	b.ReportMetric(p50(1), "with-p50-ns")
	b.ReportMetric(p50(1)/p50(0), "ratio")
}

func BenchmarkLookUp(b *testing.B) {
	r := bench(b, benchRows)
	median(b, func(user string) {
		if a := r.lookups.look(b.Context(), &query{User: user, N: 10}); a.Source != sourcePersonalised {
			b.Fatal(a.Source)
		}
	})
}

func BenchmarkLookUpOverHTTP(b *testing.B) {
	r := bench(b, benchRows)
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
