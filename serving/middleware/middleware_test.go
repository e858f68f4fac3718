package middleware

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"seralm/serving/problem"
)

func wrapped(t *testing.T, logs io.Writer) (http.Handler, *prometheus.Registry) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/users/{user}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello")
	})
	mux.HandleFunc("GET /silent", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("index out of range") })
	mux.HandleFunc("GET /late", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half an ans")
		panic("too late to answer")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	reg := prometheus.NewRegistry()
	return New(reg, slog.New(slog.NewTextHandler(logs, nil))).Wrap(mux), reg
}

func get(h http.Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRequestsAreCountedByPatternAndNeverByPath(t *testing.T) {
	h, reg := wrapped(t, io.Discard)
	for _, user := range []string{"ann", "bob", "bob"} {
		require.Equal(t, 200, get(h, "GET", "/v1/users/"+user).Code)
	}
	get(h, "GET", "/silent")
	get(h, "GET", "/some/secret/path")
	get(h, "FROBNICATE", "/")
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP seralm_http_requests_total HTTP requests answered, by route, method and status code.
# TYPE seralm_http_requests_total counter
seralm_http_requests_total{code="200",method="GET",route="/silent"} 1
seralm_http_requests_total{code="200",method="GET",route="/v1/users/{user}"} 3
seralm_http_requests_total{code="404",method="GET",route="none"} 1
seralm_http_requests_total{code="404",method="other",route="/"} 1
`), "seralm_http_requests_total"))
}

func TestAPanicIsAnsweredCountedAndLoggedWithTheRequestID(t *testing.T) {
	var logs bytes.Buffer
	h, reg := wrapped(t, &logs)
	w := get(h, "GET", "/panic", RequestID, "abc-1")
	require.Equal(t, 500, w.Code)
	require.Equal(t, problem.ContentType, w.Header().Get("Content-Type"))
	require.Contains(t, w.Body.String(), "abc-1")
	require.NotContains(t, w.Body.String(), "index out of range")
	require.Contains(t, logs.String(), "request_id=abc-1")
	require.Contains(t, logs.String(), "index out of range")
	count, err := testutil.GatherAndCount(reg, "seralm_http_panics_total")
	require.NoError(t, err)
	require.Equal(t, 1, count)
}

func TestAPanicAfterTheFirstByteLeavesTheAnswerAlone(t *testing.T) {
	h, _ := wrapped(t, io.Discard)
	w := get(h, "GET", "/late")
	require.Equal(t, 200, w.Code)
	require.Equal(t, "half an ans", w.Body.String())
}

func TestAHandlerMayStillCutTheConnection(t *testing.T) {
	h := New(prometheus.NewRegistry(), slog.New(slog.DiscardHandler)).Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	}))
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { get(h, "GET", "/") })
}

func TestRequestIDs(t *testing.T) {
	h, _ := wrapped(t, io.Discard)
	for name, c := range map[string]struct {
		sent string
		kept bool
	}{
		"a caller's id is kept":        {"trace-7f", true},
		"none sent: one is made":       {"", false},
		"with a line break: replaced":  {"a\nb", false},
		"with a blank: replaced":       {"a b", false},
		"longer than a line: replaced": {strings.Repeat("a", 200), false},
	} {
		t.Run(name, func(t *testing.T) {
			got := get(h, "GET", "/silent", RequestID, c.sent).Header().Get(RequestID)
			require.NotEmpty(t, got)
			require.Equal(t, c.kept, got == c.sent)
		})
	}
}
