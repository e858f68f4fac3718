package serving

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"seralm/config"
	"seralm/feature"
	"seralm/models/snapshot"
	"seralm/serving/internal/specimen"
	"seralm/serving/scorer"
	"seralm/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// views are what the tests put into Redis's place.
type views struct {
	mu        sync.Mutex
	histories map[string][]string
	popular   []feature.Scored
	err       error         // every read fails with it
	hang      bool          // every read waits for its deadline
	asked     []int         // n of each history read
	deadlines time.Duration // what was left of the last history read's deadline
}

func (v *views) read(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok {
		v.deadlines = time.Until(deadline)
	}
	if v.hang {
		v.mu.Unlock()
		<-ctx.Done()
		v.mu.Lock()
		return ctx.Err()
	}
	return v.err
}

func (v *views) History(ctx context.Context, user string, n int) ([]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.read(ctx); err != nil {
		return nil, err
	}
	v.asked = append(v.asked, n)
	h := v.histories[user]
	return h[max(0, len(h)-n):], nil
}

func (v *views) Popular(ctx context.Context, n int) ([]feature.Scored, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.read(ctx); err != nil {
		return nil, err
	}
	return v.popular[:min(n, len(v.popular))], nil
}

// engine is a specimen as a scorer.Engine.
type engine struct{ *specimen.Engine }

func (e engine) WithRows(extra [][]float32) (scorer.Engine, error) {
	return engine{e.Engine.WithRows(extra)}, nil
}

// rig is a server whose model, views and catalogue the test decides; nothing runs
// beside it.
type rig struct {
	*Server
	t       testing.TB
	views   *views
	engine  *specimen.Engine // of the model; see load
	metrics *prometheus.Registry
}

func newRig(t testing.TB, change ...func(*Deps)) *rig {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:1")) // it is never asked
	require.NoError(t, err)
	t.Cleanup(client.Close)
	r := &rig{t: t, views: &views{histories: map[string][]string{}}, metrics: prometheus.NewRegistry()}
	d := Deps{
		Config: config.Default(), Log: slog.New(slog.DiscardHandler), Metrics: r.metrics, Kafka: client, Views: r.views,
		Build: func(*snapshot.Snapshot) (scorer.Engine, error) { return engine{r.engine}, nil },
	}
	for _, c := range change {
		c(&d)
	}
	r.Server = New(d)
	t.Cleanup(r.scorer.Close)
	return r
}

// load puts a model of so many rows in use, after prepare has changed its engine.
// The engine prefers low rows, and the rows that follow one of the history.
func (r *rig) load(rows int, prepare func(*specimen.Engine)) {
	r.t.Helper()
	r.engine = specimen.NewEngine(rows)
	m := r.scorer.Acquire()
	step := int64(1)
	if m != nil {
		step = m.Manifest.Step + 1
		m.Release()
	}
	r.loadSnapshot(specimen.SASRec(specimen.Small, rows, step))
	if prepare != nil { // only now: a model must prove itself before
		prepare(r.engine)
	}
}

func (r *rig) loadSnapshot(s *snapshot.Snapshot) {
	r.t.Helper()
	manifest, payload, err := snapshot.Encode(s)
	require.NoError(r.t, err)
	require.NoError(r.t, r.scorer.Load(&stream.Blob{ID: "test", Manifest: manifest, Payload: payload}))
}

func (r *rig) liked(items ...string) {
	for i, item := range items {
		r.views.popular = append(r.views.popular, feature.Scored{Item: item, Score: float64(100 - i)})
	}
	require.NoError(r.t, r.popular.refresh(r.t.Context()))
}

func (r *rig) announce(item, title string, categories ...string) {
	require.True(r.t, r.items.Apply(stream.Event[stream.Item]{Body: stream.Item{Item: item, Title: title, Categories: categories}}))
}

func (r *rig) hide(item string) {
	require.True(r.t, r.items.Apply(stream.Event[stream.Item]{Body: stream.Item{Item: item, Hidden: true}}))
}

func (r *rig) forget(item string) {
	require.True(r.t, r.items.Apply(stream.Event[stream.Item]{Deleted: true, Body: stream.Item{Item: item}}))
}

// ids are the ids of rows.
func ids(rows ...int) []string {
	out := []string{}
	for _, row := range rows {
		out = append(out, specimen.ID(row))
	}
	return out
}

var errDown = errors.New("connection refused")

// gateway answers the gateway's routes in the tests.
var gateway http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, "the gateway's answer")
})
