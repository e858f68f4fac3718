package serving

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/segmentio/encoding/json"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/serving/internal/specimen"
	"seralm/serving/scorer"
	"seralm/stream"
)

// The whole of it with real parts: a snapshot from the log runs on ONNX Runtime,
// histories come from the views, titles from the items topic, over TCP.
func TestAClickChangesTheAnswerAndANewModelTakesOverWithoutAFailedRequest(t *testing.T) {
	specimen.Runtime(t)
	p := newPlant(t, func(d *Deps) {
		d.Build = scorer.ONNX
		d.Config.Serving.Deadline, d.Config.Serving.HistoryDeadline = patience, patience // the machine may be slow, not the answer lesser
	})
	const rows = 60
	var announced []*kgo.Record
	for row := 2; row < rows; row++ {
		announced = append(announced, p.item(specimen.ID(row), &stream.Item{Title: fmt.Sprint("Film ", row)}))
	}
	p.write(announced...)
	p.publish(specimen.Proven(t, specimen.SASRec(specimen.Small, rows, 1)))
	p.clicked("ann", "i7", "i14")
	p.inUse(1)
	p.eventually(func() bool { return p.items.Size().Items == rows-2 }, "all items are described")

	cfg := p.cfg.HTTP
	cfg.Addr = "127.0.0.1:0"
	listener, err := Listen(cfg)
	require.NoError(t, err)
	ctx, shut := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, listener, cfg, p.Handler(), slog.New(slog.DiscardHandler)) }()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	ask := func() (*answer, error) {
		resp, err := client.Get("http://" + listener.Addr().String() + "/v1/recommendations/ann?explain=true&n=5")
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			return nil, fmt.Errorf("%s: %s %w", resp.Status, body, err)
		}
		a := new(answer)
		return a, json.Unmarshal(body, a)
	}

	before, err := ask()
	require.NoError(t, err)
	require.Equal(t, sourcePersonalised, before.Source)
	require.Len(t, before.Items, 5)
	for _, item := range before.Items {
		require.Equal(t, "Film "+item.Item[1:], item.Title)
		require.Contains(t, []string{"Film 7", "Film 14"}, item.Because.Title)
		require.NotContains(t, []string{"i7", "i14"}, item.Item)
	}

	p.clicked("ann", before.Items[0].Item)
	after, err := ask()
	require.NoError(t, err)
	require.Equal(t, sourcePersonalised, after.Source)
	require.False(t, slices.ContainsFunc(after.Items, func(i answerItem) bool { return i.Item == before.Items[0].Item }))
	require.NotEqual(t, before.Items[1:], after.Items[:4], "the model has seen the click, not only the filter")

	var asked, newest atomic.Int64
	done := make(chan struct{})
	var users sync.WaitGroup
	for range 2 {
		users.Go(func() {
			for last := int64(0); ; {
				select {
				case <-done:
					return
				default:
				}
				a, err := ask()
				switch {
				case err != nil:
					t.Error(err)
					return
				case a.Source != sourcePersonalised || len(a.Items) != 5 || a.Model.Step < last:
					t.Errorf("after step %d: %+v", last, a)
				}
				last = a.Model.Step
				newest.Store(last)
				asked.Add(1)
			}
		})
	}
	for step := int64(2); step <= 6; step++ {
		p.publish(specimen.Proven(t, specimen.SASRec(specimen.Small, rows, step)))
		p.inUse(step)
		p.eventually(func() bool { return newest.Load() == step }, "an answer of the new model")
	}
	close(done)
	users.Wait()
	require.Greater(t, asked.Load(), int64(10))

	shut()
	require.NoError(t, <-served)
	p.stop()
}
