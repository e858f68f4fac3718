package gateway

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/encoding/json"
	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/serving/problem"
	"seralm/stream"
)

// Whatever a client sends, it is told what is wrong, or there is a record that every
// consumer can read.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		``, ` `, `null`, `{}`, `[]`, `[{}]`, `{"events":[]}`, `{"items":[{"item":"a"}]}`, `{"user":"a","item":"b"}`,
		`[{"user":"a","item":"b","type":"t","value":1.5,"time":"2026-01-31T12:00:00Z","seq":1,"session":"s","recommendation_id":"r","id":"i","source":"s"}]`,
		`{"item":"a","title":"t","categories":["c"],"text":"x","hidden":true,"time":null}`,
		"{\"user\":\"a\",\"item\":\"b\"}\n\n{\"item\":\"c\"}", `{"user":"\ud800","item":"\u0000"}`, "{\"user\":\"\xff\"}",
		`{"value":1e999}`, `{"value":NaN}`, `{"time":"9999-12-31T23:59:59+23:59"}`, `{"time":"0000-01-01T00:00:00Z"}`, `[1,[2,{"a":[3]}],"]"]`,
		`{"":1}`, `{"title":null,"categories":null,"text":"","hidden":false}`, strings.Repeat(`[`, 20000), strings.Repeat(`{"a":`, 20000),
	} {
		f.Add([]byte(seed))
	}
	g := New(Deps{Config: config.Default(), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte) {
		const most = 16
		for _, read := range []func(kind) ([]json.RawMessage, error){
			func(k kind) ([]json.RawMessage, error) { events, _, err := elements(body, k, most); return events, err },
			func(k kind) ([]json.RawMessage, error) { return lines(body, k, most) },
		} {
			for _, k := range []kind{interactions, items} {
				events, err := read(k)
				if err != nil {
					var p *problem.Problem
					require.ErrorAs(t, err, &p)
					require.NotEmpty(t, p.Remedy)
					continue
				}
				require.NotEmpty(t, events)
				require.LessOrEqual(t, len(events), most)
				for _, one := range events {
					require.True(t, json.Valid(one), "%q", one)
					usable(t, g.interaction(one, now), func(ev event) error { _, err := stream.DecodeInteraction(ev.record); return err })
					usable(t, g.item(one, now), func(ev event) error { _, err := stream.DecodeItem(ev.record); return err })
				}
			}
		}
		if patch, err := decodePatch(body); err == nil {
			require.NoError(t, merge(patch, &stream.Item{Item: "a"}))
		}
	})
}

func usable(t *testing.T, ev event, read func(event) error) {
	if ev.why != nil {
		require.Nil(t, ev.record)
		require.NotEmpty(t, ev.why.Field)
		require.NotEmpty(t, ev.why.Detail)
		require.NotEmpty(t, ev.why.Remedy)
		return
	}
	require.NoError(t, read(ev))
}
