package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/serving"
	"seralm/stream"
)

func TestAcceptedEventsAreInTheLogInOrderWithTheirHeaders(t *testing.T) {
	r := newRig(t)
	var events []string
	for n := range 50 {
		for _, user := range []string{"ann", "bob", "cat", "dan", "eve"} {
			events = append(events, fmt.Sprintf(`{"user":%q,"item":"i%d","id":"%s-%d","source":"shop","time":"2026-01-31T12:00:00.%03dZ"}`, user, n, user, n, n))
		}
	}
	got := r.post("/v1/interactions", "["+strings.Join(events, ",")+"]").accepted()
	require.Equal(t, len(events), got.Accepted)
	require.Equal(t, "ann-0", got.IDs[0])
	require.Equal(t, "eve-49", got.IDs[len(events)-1])

	for user, log := range r.interactions() {
		require.Len(t, log, 50)
		for n, ev := range log {
			require.Equal(t, fmt.Sprintf("%s-%d", user, n), ev.ID, "a user's events keep their order")
			require.Equal(t, "shop", ev.Source)
			require.Equal(t, "click", ev.Body.Type)
			require.Equal(t, time.Date(2026, 1, 31, 12, 0, 0, n*1e6, time.UTC), ev.Time)
		}
	}
	rec := r.records(r.gateway.interactions)[0]
	headers := map[string]string{}
	for _, h := range rec.Headers {
		headers[h.Key] = string(h.Value)
	}
	require.Equal(t, "1.0", headers[stream.HeaderSpecVersion])
	require.Equal(t, stream.TypeInteraction, headers[stream.HeaderType])
	require.Equal(t, "shop", headers[stream.HeaderSource])
	require.Equal(t, "application/json", headers[stream.HeaderContentType])
	require.WithinDuration(t, time.Now(), rec.Timestamp, time.Hour, "retention counts from when it was written")
}

func TestAnEventHasDefaults(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Gateway.Source = "shop/web" })
	before := time.Now().Truncate(time.Millisecond)
	got := r.post("/v1/interactions", `{"user":"ann","item":"i1"}`).accepted()
	ev := r.interactions()["ann"][0]
	require.Equal(t, []string{ev.ID}, got.IDs)
	_, err := ulid.ParseStrict(ev.ID)
	require.NoError(t, err)
	require.Equal(t, "shop/web", ev.Source)
	require.Equal(t, "click", ev.Body.Type)
	require.Nil(t, ev.Body.Value)
	require.False(t, ev.Time.Before(before))
	require.WithinDuration(t, before, ev.Time, patience)
}

func TestEveryFieldOfAnEventArrives(t *testing.T) {
	r := newRig(t)
	r.post("/v1/interactions", `{"user":"ann","item":"i1","type":"rating","value":4.5,"time":"2026-01-31T13:00:00+01:00",
		"seq":7,"session":"s1","recommendation_id":"01K","id":"e1","source":"shop"}`).accepted()
	value := 4.5
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	ev := r.interactions()["ann"][0]
	require.Equal(t, stream.Interaction{
		User: "ann", Item: "i1", Type: "rating", Value: &value, Time: noon, Seq: 7, Session: "s1", RecommendationID: "01K",
	}, ev.Body)
	require.Equal(t, "e1", ev.ID)
}

func TestABatchHasSeveralShapes(t *testing.T) {
	r := newRig(t)
	const a, b = `{"user":"ann","item":"a","id":"1"}`, `{"user":"ann","item":"b","id":"2"}`
	for _, c := range []struct{ media, body string }{
		{"application/json", "[" + a + "," + b + "]"},
		{"application/json", ` { "events" : [ ` + a + " ,\n" + b + ` ] } `},
		{"application/x-ndjson", a + "\n\n" + b},
		{"application/x-ndjson; charset=utf-8", a + "\r\n" + b + "\r\n"},
	} {
		got := r.call(t.Context(), "POST", "/v1/interactions", c.media, c.body).accepted()
		require.Equal(t, acceptedAnswer{2, []string{"1", "2"}}, got, c.body)
	}
	require.Len(t, r.interactions()["ann"], 8)
}

func TestOneBadEventDoesNotHoldUpItsBatch(t *testing.T) {
	r := newRig(t)
	got := r.post("/v1/interactions", `{"events":[{"user":"ann","item":"a","id":"1"},{"user":"ann","item":"b","id":"2","clicked":true},{"user":"ann","item":"c","id":"3"}]}`).partly()
	require.Equal(t, 2, got.Accepted)
	require.Equal(t, result{Index: 0, ID: "1", Status: accepted}, got.Results[0])
	require.Equal(t, result{Index: 1, Status: refused, ID: "2", Field: "clicked",
		Detail: "there is no such field", Remedy: "leave it out; GET /openapi.yaml lists the fields"}, got.Results[1])
	require.Equal(t, result{Index: 2, ID: "3", Status: accepted}, got.Results[2])
	log := r.interactions()["ann"]
	require.Len(t, log, 2)
	require.Equal(t, "a", log[0].Body.Item)
	require.Equal(t, "c", log[1].Body.Item)
	require.NoError(t, testutil.GatherAndCompare(r.metrics, strings.NewReader(`
# HELP seralm_gateway_events_total Events by result: accepted, refused (invalid), unconfirmed (the log did not answer), busy (too many waited for it).
# TYPE seralm_gateway_events_total counter
seralm_gateway_events_total{result="accepted"} 2
seralm_gateway_events_total{result="refused"} 1
seralm_gateway_events_total{result="unconfirmed"} 0
`), "seralm_gateway_events_total"))
}

func TestABatchOfBadEventsIsRefusedWithWhatIsWrongWithEach(t *testing.T) {
	r := newRig(t)
	p := r.post("/v1/interactions", `[{"item":"a"},{"user":"ann","item":"b","time":"yesterday"}]`).problem(http.StatusBadRequest)
	require.Len(t, p.Results, 2)
	require.Equal(t, "user", p.Results[0].Field)
	require.Equal(t, "time", p.Results[1].Field)
	require.Empty(t, r.records(r.gateway.interactions))
}

func TestTheSameIdIsAcceptedAgainAsTheSameEvent(t *testing.T) {
	r := newRig(t)
	const event = `{"user":"ann","item":"a","id":"order-17","time":"2026-01-31T12:00:00Z"}`
	require.Equal(t, []string{"order-17", "order-17"}, r.post("/v1/interactions", "["+event+","+event+"]").accepted().IDs)
	r.post("/v1/interactions", event).accepted()
	log := r.interactions()["ann"]
	require.Len(t, log, 3)
	for _, ev := range log {
		require.Equal(t, [2]string{"seralm/gateway", "order-17"}, [2]string{ev.Source, ev.ID}, "consumers count it once by this")
		require.Equal(t, log[0].Body, ev.Body)
	}
}

func TestItemsAreReplacedAndDeleted(t *testing.T) {
	r := newRig(t)
	r.post("/v1/items", `{"item":"m1","title":"Heat","categories":["Crime"],"text":"A thief.\nA policeman.","hidden":true,"time":"2026-01-31T12:00:00Z"}`).accepted()
	r.post("/v1/items", `{"items":[{"item":"m1","title":"Heat (1995)"},{"item":"m2"}]}`).accepted()
	r.call(t.Context(), "DELETE", "/v1/items/m1", "", "").accepted()
	r.call(t.Context(), "DELETE", "/v1/items/a%2Fb%20c", "", "").accepted()

	var m1 []stream.Event[stream.Item]
	keys := map[string]int{}
	for _, rec := range r.records(r.gateway.items) {
		ev, err := stream.DecodeItem(rec)
		require.NoError(t, err)
		keys[ev.Body.Item]++
		if ev.Body.Item == "m1" {
			m1 = append(m1, ev)
		}
	}
	require.Equal(t, map[string]int{"m1": 3, "m2": 1, "a/b c": 1}, keys)
	require.Equal(t, stream.Item{Item: "m1", Title: "Heat", Categories: []string{"Crime"}, Text: "A thief.\nA policeman.", Hidden: true,
		Time: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)}, m1[0].Body)
	require.Equal(t, "Heat (1995)", m1[1].Body.Title)
	require.Empty(t, m1[1].Body.Text, "an announced item replaces what was known")
	require.True(t, m1[2].Deleted)
	require.Equal(t, "seralm/gateway", m1[2].Source)
}

func TestTheLargestItemThatIsNotRefusedFitsIntoTheLog(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.HTTP.MaxBodyBytes = 2 << 20 })
	body := func(n int) string { return `{"item":"a","text":"` + strings.Repeat("<", n) + `"}` } // six bytes each, in a record
	n := stream.MaxRecordBytes / 6
	for r.gateway.item([]byte(body(n)), time.Now()).why != nil {
		n--
	}
	require.Greater(t, n, stream.MaxRecordBytes/6-200)
	r.post("/v1/items", body(n-2)).accepted() // its time may take some bytes more
}

func TestEveryRouteOfTheGatewayIsInTheSpecification(t *testing.T) {
	spec, err := specification()
	require.NoError(t, err)
	r := newRig(t)
	for _, pattern := range serving.GatewayRoutes {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.ReplaceAll(path, "{item}", "i1")
		req, err := http.NewRequestWithContext(context.Background(), method, path, nil)
		require.NoError(t, err)
		route, _, err := spec.FindRoute(req)
		require.NoError(t, err, pattern)
		require.Equal(t, method, route.Method)
		_, ours := r.gateway.mux.Handler(req)
		require.Equal(t, pattern, ours)
		r.call(t.Context(), method, path, "application/json", "?") // whatever it answers is in the specification
	}
}
