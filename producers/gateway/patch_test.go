package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/feature"
	"seralm/models/snapshot"
	"seralm/serving"
	"seralm/serving/scorer"
	"seralm/stream"
)

func (r *rig) patch(item, body string) answer {
	return r.call(context.Background(), "PATCH", "/v1/items/"+item, "application/merge-patch+json", body)
}

// noViews are the views of a server that is asked for items only.
type noViews struct{}

func (noViews) History(context.Context, string, int) ([]string, error) { return nil, nil }
func (noViews) Popular(context.Context, int) ([]feature.Scored, error) { return nil, nil }

// withServer puts the real look-up server beside the gateway, in one process.
func (r *rig) withServer() *serving.Server {
	r.t.Helper()
	s := serving.New(serving.Deps{
		Config: r.cfg, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Kafka: r.kafka, Views: noViews{},
		Build: func(*snapshot.Snapshot) (scorer.Engine, error) { return nil, errors.New("no model here") },
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r.t.Cleanup(func() {
		stop()
		require.NoError(r.t, <-ended)
	})
	r.serve(s)
	return s
}

// item returns the newest record of an item.
func (r *rig) item(id string) stream.Event[stream.Item] {
	r.t.Helper()
	var newest stream.Event[stream.Item]
	for _, rec := range r.records(r.gateway.items) {
		ev, err := stream.DecodeItem(rec)
		require.NoError(r.t, err)
		if ev.Body.Item == id {
			newest = ev
		}
	}
	return newest
}

func TestAPatchChangesWhatItNamesAndKeepsTheRest(t *testing.T) {
	r := newRig(t)
	r.withServer()
	text := strings.Repeat("A thief and a policeman. ", 5000)
	r.post("/v1/items", `{"item":"m1","title":"Heat","categories":["Crime","Drama"],"text":"`+text+`"}`).accepted()

	r.patch("m1", `{"title":"Heat (1995)","hidden":true}`).accepted()
	now := r.item("m1").Body
	require.Equal(t, "Heat (1995)", now.Title)
	require.Equal(t, []string{"Crime", "Drama"}, now.Categories)
	require.Equal(t, text, now.Text, "the text is not held in memory, and not lost")
	require.True(t, now.Hidden)

	r.patch("m1", `{"text":null,"hidden":null,"categories":["Noir"]}`).accepted()
	now = r.item("m1").Body
	require.Equal(t, "Heat (1995)", now.Title)
	require.Equal(t, []string{"Noir"}, now.Categories)
	require.Empty(t, now.Text)
	require.False(t, now.Hidden)

	r.patch("m1", `{}`).accepted()
	now.Time = r.item("m1").Time
	require.Equal(t, now, r.item("m1").Body)
}

func TestAPatchSeesWhatThisProcessWroteJustBefore(t *testing.T) {
	r := newRig(t)
	r.withServer()
	for n := range 20 {
		id := fmt.Sprint("m", n)
		r.post("/v1/items", fmt.Sprintf(`{"item":%q,"text":"text of %d"}`, id, n)).accepted()
		r.patch(id, `{"title":"new"}`).accepted()
		r.patch(id, `{"hidden":true}`).accepted()
		now := r.item(id).Body
		require.Equal(t, [3]any{"new", true, fmt.Sprint("text of ", n)}, [3]any{now.Title, now.Hidden, now.Text})
	}
	r.call(t.Context(), "DELETE", "/v1/items/m1", "", "").accepted()
	r.patch("m1", `{"title":"?"}`).problem(http.StatusNotFound)
}

func TestPatchesAtTheSameTimeDoNotUndoEachOther(t *testing.T) {
	r := newRig(t)
	r.withServer()
	r.post("/v1/items", `{"item":"m1"}`).accepted()
	var all sync.WaitGroup
	for _, body := range []string{`{"title":"T"}`, `{"text":"X"}`, `{"hidden":true}`, `{"categories":["C"]}`} {
		all.Go(func() { require.Equal(t, http.StatusOK, r.patch("m1", body).status) })
	}
	all.Wait()
	now := r.item("m1").Body
	now.Time = r.item("m1").Time
	require.Equal(t, stream.Item{Item: "m1", Title: "T", Text: "X", Hidden: true, Categories: []string{"C"}, Time: now.Time}, now)
}

func TestAPatchOfAnItemThatNobodyKnows(t *testing.T) {
	r := newRig(t)
	r.withServer()
	r.patch("nowhere", `{"title":"?"}`).problem(http.StatusNotFound)
	require.Empty(t, r.records(r.gateway.items))
}

func TestAPatchIsPossibleOnlyWhereItemsAreKnown(t *testing.T) {
	r := newRig(t)
	p := r.patch("m1", `{"title":"Heat"}`).problem(http.StatusNotImplemented)
	require.Contains(t, p.Remedy, "POST the whole item")
}

func TestAPatchWaitsForTheCatalogueOnlySoLong(t *testing.T) {
	r := newRig(t, impatient)
	s := serving.New(serving.Deps{ // it never runs
		Config: r.cfg, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Kafka: r.kafka, Views: noViews{},
	})
	r.serve(s)
	r.post("/v1/items", `{"item":"m1"}`).accepted()
	r.patch("m1", `{"title":"Heat"}`).problem(http.StatusServiceUnavailable)
}

func TestAnItemThatACatalogueHadNoRoomForIsNotSaidToBeUnknown(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Serving.Catalogue = 1 })
	r.withServer()
	r.post("/v1/items", `[{"item":"m1"},{"item":"m2"},{"item":"m3"}]`).accepted()
	statuses := map[int]int{}
	for _, id := range []string{"m1", "m2", "m3"} {
		statuses[r.patch(id, `{"title":"?"}`).status]++
	}
	require.Equal(t, map[int]int{http.StatusOK: 1, http.StatusServiceUnavailable: 2}, statuses)
}

func TestWhatIsWrongWithAPatchIsNamed(t *testing.T) {
	r := newRig(t)
	r.withServer()
	r.post("/v1/items", `{"item":"m1"}`).accepted()
	for _, c := range []struct{ path, body, field string }{
		{"m1", `{"item":"m2"}`, "item"},
		{"m1", `{"time":"2026-01-31T12:00:00Z"}`, "time"},
		{"m1", `{"title":7}`, "title"},
		{"m1", `{"hidden":"yes"}`, "hidden"},
		{"m1", `{"categories":"Crime"}`, "categories"},
		{"m1", `{"categories":["",""]}`, "categories"},
		{"m1", `{"title":"` + strings.Repeat("x", 5000) + `"}`, "title"},
		{"m1", `[]`, "body"},
		{"m1", `null`, "body"},
		{"m1", ``, "body"},
		{"m1", `{"title":"a"} {}`, "body"},
		{"m1", strings.Repeat(`{"a":`, 1<<16) + "1" + strings.Repeat("}", 1<<16), "body"},
		{"a%00b", `{}`, "item"},
		{"m1?x=1", `{}`, "query string"},
	} {
		require.Equal(t, c.field, r.patch(c.path, c.body).problem(http.StatusBadRequest).Field, c.body)
	}
	require.Len(t, r.records(r.gateway.items), 1)
}
