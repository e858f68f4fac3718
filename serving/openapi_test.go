package serving

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/stretchr/testify/require"
)

// specification is openapi.yaml, which must be a valid document.
func specification(t *testing.T) (*openapi3.T, routers.Router) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(OpenAPI)
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	router, err := legacy.NewRouter(doc)
	require.NoError(t, err)
	return doc, router
}

// served are the routes of the process, as method and path.
func served(r *rig) []string {
	out := slices.Clone(GatewayRoutes)
	for _, route := range r.table(http.NotFoundHandler()) {
		out = append(out, strings.TrimSuffix(route.pattern, "{$}"))
	}
	slices.Sort(out)
	return out
}

func TestEveryRouteIsSpecifiedAndNothingElse(t *testing.T) {
	doc, _ := specification(t)
	var specified []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			specified = append(specified, method+" "+path)
		}
	}
	slices.Sort(specified)
	require.Equal(t, served(newRig(t)), specified)
}

// Every answer of ours, good or bad, is what openapi.yaml says it is; and every
// answer that it lists for a route of ours is seen here.
func TestTheServerKeepsItsSpecification(t *testing.T) {
	doc, router := specification(t)
	// Nothing looks into these but the test: they need only be read.
	for _, text := range []string{"text/html", "application/yaml"} {
		old := openapi3filter.RegisteredBodyDecoder(text)
		openapi3filter.RegisterBodyDecoder(text, openapi3filter.PlainBodyDecoder)
		t.Cleanup(func() {
			openapi3filter.UnregisterBodyDecoder(text)
			if old != nil {
				openapi3filter.RegisterBodyDecoder(text, old)
			}
		})
	}

	empty := newRig(t)
	full := newRig(t, func(d *Deps) { d.Version, d.Users = "v1.2.3", []string{"ann"} })
	full.load(20, nil)
	full.load(20, nil)
	full.liked("i19", "i18", "hit")
	full.views.histories["ann"] = ids(7, 14)
	full.announce("i8", "Heat", "Crime", "Drama")
	full.hide("i9")
	full.itemsRead.Store(true)
	full.lag.ends.Store(&map[int32]int64{0: 5})
	down := newRig(t)
	down.views.err = errDown
	busy := newRig(t)
	busy.searches <- struct{}{}

	exchanges := []exchange{
		{full, "GET", "/v1/recommendations/ann?explain=true&n=5", "", 200},
		{full, "GET", "/v1/recommendations/ann?exclude_seen=false&categories=Crime,Drama&exclude=i3", "", 200},
		{full, "GET", "/v1/recommendations/nobody", "", 200},
		{empty, "GET", "/v1/recommendations/ann", "", 200},
		{down, "GET", "/v1/recommendations/ann", "", 200},
		{full, "POST", "/v1/recommendations", `{}`, 200},
		{full, "POST", "/v1/recommendations", `{"user": "ann", "session": ["i4"], "n": 3, "explain": true}`, 200},
		{full, "POST", "/v1/recommendations", `{"history": ["i4", "new"], "candidates": ["i5", "hit"], "categories": [], "exclude_seen": false}`, 200},
		{full, "GET", "/v1/users/ann/history?n=1", "", 200},
		{full, "GET", "/v1/users/nobody/history", "", 200},
		{down, "GET", "/v1/users/ann/history", "", 503},
		{full, "GET", "/v1/items?query=heat&n=3", "", 200},
		{full, "GET", "/v1/items", "", 200},
		{empty, "GET", "/v1/items?query=heat", "", 200},
		{busy, "GET", "/v1/items?query=heat", "", 503},
		{full, "GET", "/v1/items/i8", "", 200},
		{full, "GET", "/v1/items/i9", "", 200},
		{full, "GET", "/v1/items/i10", "", 200},
		{full, "GET", "/v1/status", "", 200},
		{empty, "GET", "/v1/status", "", 200},
		{full, "GET", "/healthz", "", 200},
		{full, "GET", "/readyz", "", 200},
		{empty, "GET", "/readyz", "", 503},
		{full, "GET", "/metrics", "", 200},
		{full, "GET", "/openapi.yaml", "", 200},
		{full, "GET", "/", "", 200},
	}
	for _, c := range wrongRequests {
		exchanges = append(exchanges, exchange{full, c.method, c.target, c.body, c.status})
	}

	seen := map[string]bool{}
	for _, e := range exchanges {
		if route := e.check(t, router); route != nil {
			seen[fmt.Sprintf("%s %s %d", route.Method, route.Path, e.status)] = true
		}
	}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			if slices.Contains(GatewayRoutes, method+" "+path) {
				continue // the gateway's own tests
			}
			for status := range operation.Responses.Map() {
				require.True(t, seen[method+" "+path+" "+status], "%s %s never answered %s", method, path, status)
			}
		}
	}
}

// exchange is a request and the status of its answer.
type exchange struct {
	server               *rig
	method, target, body string
	status               int
}

// check asks, and holds request and answer to the specification. It returns the route,
// nil where there is none.
func (e exchange) check(t *testing.T, router routers.Router) *routers.Route {
	t.Helper()
	what := fmt.Sprintf("%s %.80s %.80s", e.method, e.target, e.body)
	req := request(e.method, e.target, e.body)
	route, params, err := router.FindRoute(req)
	if err != nil || params["user"] == "" && strings.Contains(route.Path, "{user}") { // no such path, no such method
		require.Contains(t, []int{404, 405}, e.status, what)
		return nil
	}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route, Options: &openapi3filter.Options{
		IncludeResponseStatus: true, // an answer that is not listed is an error
	}}
	if e.status == 200 {
		require.NoError(t, openapi3filter.ValidateRequest(t.Context(), in), what)
	}
	w := httptest.NewRecorder()
	e.server.Handler().ServeHTTP(w, request(e.method, e.target, e.body))
	require.Equal(t, e.status, w.Code, what)
	require.NoError(t, openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: w.Code, Header: w.Header(), Body: nopCloser{bytes.NewReader(w.Body.Bytes())},
		Options: in.Options,
	}), "%s\n%s", what, w.Body)
	return route
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

func TestTheSpecificationsBoundsAreTheCodes(t *testing.T) {
	doc, _ := specification(t)
	q := doc.Components.Schemas["Query"].Value.Properties
	require.Len(t, q, len(queryFields))
	for field, most := range map[string]uint64{
		"history": maxHistory, "session": maxHistory, "exclude": maxIDs, "candidates": maxIDs, "categories": maxCategories,
	} {
		require.Equal(t, most, *q[field].Value.MaxItems, field)
	}
	require.Equal(t, doc.Components.Schemas["Source"].Value.Enum, func() (out []any) {
		for _, s := range sources {
			out = append(out, s)
		}
		return
	}())
	search := doc.Paths.Value("/v1/items").Get.Parameters
	require.EqualValues(t, maxQuery, *search.GetByInAndName("query", "query").Schema.Value.MaxLength)
	require.EqualValues(t, maxFound, *search.GetByInAndName("query", "n").Schema.Value.Max)
	require.EqualValues(t, defaultFound, search.GetByInAndName("query", "n").Schema.Value.Default)
}
