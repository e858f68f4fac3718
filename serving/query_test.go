package serving

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/segmentio/encoding/json"
	"github.com/stretchr/testify/require"

	"seralm/serving/problem"
)

// ask sends a request to the server's handler; body may be "".
func (r *rig) ask(method, target, body string) *httptest.ResponseRecorder {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, request(method, target, body))
	return w
}

func request(method, target, body string) *http.Request {
	req := httptest.NewRequest(method, target, strings.NewReader(body))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

// decode reads a JSON answer.
func decode[T any](t testing.TB, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v), w.Body.String())
	return v
}

// jsonIDs is a list of n ids.
func jsonIDs(n int) string { return `["` + strings.Join(repeat("a", n), `","`) + `"]` }

const numbers = "send a whole number from 1 to 500"

// Every wrong request is answered with what is wrong, where, and what to send.
var wrongRequests = map[string]struct {
	method, target, body string
	status               int
	field, remedy        string
}{
	"n is zero":                  {"GET", "/v1/recommendations/u?n=0", "", 400, "n", numbers},
	"n is negative":              {"GET", "/v1/recommendations/u?n=-1", "", 400, "n", numbers},
	"n is no number":             {"GET", "/v1/recommendations/u?n=abc", "", 400, "n", numbers},
	"n is empty":                 {"GET", "/v1/recommendations/u?n=", "", 400, "n", numbers},
	"n is beyond the limit":      {"GET", "/v1/recommendations/u?n=501", "", 400, "n", numbers},
	"n overflows":                {"GET", "/v1/recommendations/u?n=99999999999999999999", "", 400, "n", numbers},
	"a misspelt parameter":       {"GET", "/v1/recommendations/u?exlude=a", "", 400, "exlude", "use n, exclude_seen, categories, exclude, explain"},
	"a flag is no flag":          {"GET", "/v1/recommendations/u?exclude_seen=yes", "", 400, "exclude_seen", "send true or false"},
	"explain is no flag":         {"GET", "/v1/recommendations/u?explain=1", "", 400, "explain", "send true or false"},
	"a broken escape":            {"GET", "/v1/recommendations/u?n=%zz", "", 400, "query string", "escape it as application/x-www-form-urlencoded"},
	"a control character":        {"GET", "/v1/recommendations/a%0Ab", "", 400, "user", "send printable characters only"},
	"not UTF-8":                  {"GET", "/v1/recommendations/a%ff", "", 400, "user", "encode it as UTF-8"},
	"a long user":                {"GET", "/v1/recommendations/" + strings.Repeat("u", 513), "", 400, "user", "send at most 512 bytes"},
	"a bad exclusion":            {"GET", "/v1/recommendations/u?exclude=a,%01", "", 400, "exclude[1]", "send printable characters only"},
	"too many categories":        {"GET", "/v1/recommendations/u?categories=" + strings.Repeat("a,", 65), "", 400, "categories", "send at most 64"},
	"no body":                    {"POST", "/v1/recommendations", "", 400, "body", `send a JSON object such as {"user": "u1", "n": 10}`},
	"half a body":                {"POST", "/v1/recommendations", `{"user": "u`, 400, "body", `send a JSON object such as {"user": "u1", "n": 10}`},
	"two bodies":                 {"POST", "/v1/recommendations", `{} {}`, 400, "body", `send a JSON object such as {"user": "u1", "n": 10}`},
	"not an object":              {"POST", "/v1/recommendations", ` ["u"]`, 400, "body", `send a JSON object such as {"user": "u1", "n": 10}`},
	"null":                       {"POST", "/v1/recommendations", `null`, 400, "body", `send a JSON object such as {"user": "u1", "n": 10}`},
	"a body of 10 MB":            {"POST", "/v1/recommendations", `{"user": "` + strings.Repeat("u", 10<<20) + `"}`, 413, "body", "send less at once, or raise http.max_body_bytes"},
	"an unknown field":           {"POST", "/v1/recommendations", `{"users": "u"}`, 400, "users", "use user, history, session, n, exclude, candidates, categories, exclude_seen, explain"},
	"a field in capitals":        {"POST", "/v1/recommendations", `{"N": 3}`, 400, "N", "use user, history, session, n, exclude, candidates, categories, exclude_seen, explain"},
	"a number as user":           {"POST", "/v1/recommendations", `{"user": 7}`, 400, "user", "send a string"},
	"text as n":                  {"POST", "/v1/recommendations", `{"n": "7"}`, 400, "n", "send a whole number"},
	"half a number as n":         {"POST", "/v1/recommendations", `{"n": 1.5}`, 400, "n", "send a whole number"},
	"an endless number as n":     {"POST", "/v1/recommendations", `{"n": 99999999999999999999}`, 400, "n", "send a whole number"},
	"zero as n":                  {"POST", "/v1/recommendations", `{"n": 0}`, 400, "n", numbers},
	"text as a list":             {"POST", "/v1/recommendations", `{"history": "a"}`, 400, "history", "send a list of strings"},
	"numbers in a list":          {"POST", "/v1/recommendations", `{"history": ["a", 2]}`, 400, "history[1]", "send a string"},
	"text as a flag":             {"POST", "/v1/recommendations", `{"exclude_seen": "true"}`, 400, "exclude_seen", "send true or false"},
	"a long history":             {"POST", "/v1/recommendations", `{"history": ` + jsonIDs(1001) + `}`, 400, "history", "send at most 1000"},
	"a long session":             {"POST", "/v1/recommendations", `{"session": ` + jsonIDs(1001) + `}`, 400, "session", "send at most 1000"},
	"too many exclusions":        {"POST", "/v1/recommendations", `{"exclude": ` + jsonIDs(10001) + `}`, 400, "exclude", "send at most 10000"},
	"too many candidates":        {"POST", "/v1/recommendations", `{"candidates": ` + jsonIDs(10001) + `}`, 400, "candidates", "send at most 10000"},
	"an empty id":                {"POST", "/v1/recommendations", `{"candidates": ["a", ""]}`, 400, "candidates[1]", "send an identifier"},
	"a control character, again": {"POST", "/v1/recommendations", `{"user": "a\u0000"}`, 400, "user", "send printable characters only"},
	"a parameter beside a body":  {"POST", "/v1/recommendations?n=3", `{}`, 400, "n", "leave it out: there are no parameters here"},
	"a history of n=0":           {"GET", "/v1/users/u/history?n=0", "", 400, "n", "send a whole number from 1 to 200"},
	"a history beyond its end":   {"GET", "/v1/users/u/history?n=201", "", 400, "n", "send a whole number from 1 to 200"},
	"a history of nobody":        {"GET", "/v1/users/%7f/history", "", 400, "user", "send printable characters only"},
	"a history, explained":       {"GET", "/v1/users/u/history?explain", "", 400, "explain", "use n"},
	"a long search":              {"GET", "/v1/items?query=" + strings.Repeat("a", 201), "", 400, "query", "send at most 200 bytes"},
	"a search for too much":      {"GET", "/v1/items?n=101", "", 400, "n", "send a whole number from 1 to 100"},
	"a search for q":             {"GET", "/v1/items?q=heat", "", 400, "q", "use query, n"},
	"an item of no name":         {"GET", "/v1/items/%09", "", 400, "item", "send printable characters only"},
	"an unknown item":            {"GET", "/v1/items/unknown", "", 404, "", "announce it with POST /v1/items"},
	"an unknown path":            {"GET", "/v1/recomendations/u", "", 404, "", "GET /openapi.yaml lists them all"},
	"a path without its user":    {"GET", "/v1/recommendations/", "", 404, "", "GET /openapi.yaml lists them all"},
	"the wrong method":           {"DELETE", "/v1/recommendations/u", "", 405, "", "use GET"},
	"a method of nobody's":       {"BREW", "/v1/recommendations", "", 405, "", "use POST"},
	"the other wrong method":     {"PUT", "/v1/items/i1", "", 405, "", "use GET or PATCH or DELETE"},
}

func TestWrongRequestsAreToldWhatIsWrongAndWhatToSend(t *testing.T) {
	r := newRig(t, func(d *Deps) { d.Gateway = gateway })
	for name, c := range wrongRequests {
		t.Run(name, func(t *testing.T) {
			w := r.ask(c.method, c.target, c.body)
			require.Equal(t, c.status, w.Code, w.Body)
			require.Equal(t, problem.ContentType, w.Header().Get("Content-Type"))
			p := decode[problem.Problem](t, w)
			require.Equal(t, c.status, p.Status)
			require.Equal(t, c.field, p.Field)
			require.Equal(t, c.remedy, p.Remedy)
			require.NotEmpty(t, p.Detail)
			require.Less(t, w.Body.Len(), 1000, "what a client sent does not come back whole")
			if c.status == http.StatusMethodNotAllowed {
				require.Equal(t, "use "+strings.ReplaceAll(w.Header().Get("Allow"), ", ", " or "), p.Remedy)
			}
		})
	}
}

func TestABodyThatEndsEarlyIsRefused(t *testing.T) {
	r := newRig(t)
	req := httptest.NewRequest("POST", "/v1/recommendations", brokenBody{})
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req)
	require.Equal(t, 400, w.Code)
	require.Equal(t, "send the whole body", decode[problem.Problem](t, w).Remedy)
}

type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func TestQueriesAreReadAsTheyWereMeant(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		target, body string
		want         query
	}{
		{target: "/v1/recommendations/u", want: query{User: "u", N: 10}},
		{target: "/v1/recommendations/a%2Fb%20c?n=500", want: query{User: "a/b c", N: 500}},
		{target: "/v1/recommendations/u?exclude=a,%20b,,c&exclude=d", want: query{User: "u", N: 10, Exclude: []string{"a", "b", "c", "d"}}},
		{target: "/v1/recommendations/u?exclude_seen=false&explain", want: query{User: "u", N: 10, ExcludeSeen: &no, Explain: true}},
		{target: "/v1/recommendations/u?exclude_seen&explain=false", want: query{User: "u", N: 10, ExcludeSeen: &yes}},
		{body: `{}`, want: query{N: 10}},
		{body: strings.Repeat(" ", 100) + `{"user": "é", "n": 500}`, want: query{User: "é", N: 500}},
		{body: `{"user": "", "n": 1, "candidates": []}`, want: query{N: 1, Candidates: []string{}}},
		{body: `{"history": ["a"], "session": ["b"], "exclude_seen": false}`, want: query{N: 10, History: []string{"a"}, Session: []string{"b"}, ExcludeSeen: &no}},
		{body: `{"user": null, "history": null, "n": 2}`, want: query{N: 2}},
	} {
		lim := limits{defaultN: 10, maxN: 500}
		var got *query
		var err error
		if c.target != "" {
			got, err = readParameters(parsed(c.target), lim)
		} else {
			got, err = decodeQuery([]byte(c.body), lim)
		}
		require.NoError(t, err, "%s%s", c.target, c.body)
		require.Equal(t, &c.want, got)
	}
}

// parsed is a GET request whose path the router has taken apart.
func parsed(target string) *http.Request {
	req := httptest.NewRequest("GET", target, nil)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/recommendations/{user}", func(http.ResponseWriter, *http.Request) {})
	mux.ServeHTTP(httptest.NewRecorder(), req)
	return req
}

func TestEveryFieldOfAQueryIsNamedInTheRemedy(t *testing.T) {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[query]()) {
		names = append(names, f.Tag.Get("json"))
	}
	require.Equal(t, names, queryFields)
}

// sound reports whether a query that was accepted keeps the bounds.
func sound(t *testing.T, q *query, err error, lim limits) {
	t.Helper()
	if err != nil {
		var p *problem.Problem
		require.ErrorAs(t, err, &p)
		require.NotEmpty(t, p.Remedy)
		require.True(t, utf8.ValidString(p.Field+p.Detail))
		return
	}
	require.True(t, q.N >= 1 && q.N <= lim.maxN)
	require.NoError(t, q.check(lim))
	if q.User != "" {
		require.NoError(t, checkName("user", q.User))
	}
}

func FuzzDecodeQuery(f *testing.F) {
	for _, c := range wrongRequests {
		if c.method == "POST" && len(c.body) < 1000 {
			f.Add([]byte(c.body))
		}
	}
	f.Add([]byte(`{"user": "u", "history": ["a"], "session": [], "n": 3, "exclude": null, "explain": true}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		lim := limits{defaultN: 10, maxN: 500}
		q, err := decodeQuery(body, lim)
		sound(t, q, err, lim)
		require.Equal(t, before, body)
		if err == nil {
			// What was understood can be sent again and means the same.
			again, err := json.Marshal(q)
			require.NoError(t, err)
			twice, err := decodeQuery(again, lim)
			require.NoError(t, err)
			require.Equal(t, q, twice)
		}
	})
}

func FuzzReadParameters(f *testing.F) {
	for _, c := range wrongRequests {
		if u, err := url.Parse(c.target); err == nil && c.method == "GET" {
			f.Add("u", u.RawQuery)
		}
	}
	f.Add("é", "n=3&exclude=a,b&exclude=c&categories=Drama&explain&exclude_seen=false")
	f.Fuzz(func(t *testing.T, user, raw string) {
		lim := limits{defaultN: 10, maxN: 500}
		req := &http.Request{Method: "GET", URL: &url.URL{Path: "/", RawQuery: raw}}
		req.SetPathValue("user", user)
		q, err := readParameters(req, lim)
		sound(t, q, err, lim)
	})
}
