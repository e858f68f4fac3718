// Package middleware wraps the HTTP handlers of a process with what all of them
// need: a request id, metrics by route, and an answer when a handler panics.
//
// It imports serving/problem and nothing else of SeRALM, so that the gateway and
// the serving API can share it. It must never look into a body, and never use a
// raw path as a metric label: paths hold user ids.
package middleware

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"seralm/serving/problem"
)

// RequestID is the header that names a request. A caller's own id is kept when it
// is short and printable, so that it can follow a request through its systems.
const RequestID = "X-Request-Id"

const maxRequestID = 128

// Middleware measures and guards handlers. Make one per process.
type Middleware struct {
	log      *slog.Logger
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	panics   prometheus.Counter
	writers  sync.Pool
}

// New registers the HTTP metrics with reg.
func New(reg prometheus.Registerer, log *slog.Logger) *Middleware {
	m := &Middleware{
		log: log,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seralm_http_requests_total", Help: "HTTP requests answered, by route, method and status code.",
		}, []string{"route", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "seralm_http_request_duration_seconds", Help: "Time from the request's head to the end of the handler, by route.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
		}, []string{"route"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "seralm_http_panics_total", Help: "Requests whose handler panicked; each is a bug.",
		}),
		writers: sync.Pool{New: func() any { return new(recorder) }},
	}
	reg.MustRegister(m.requests, m.seconds, m.panics)
	return m
}

// Wrap returns next with the request id, metrics and panic recovery. next should
// be (or end in) an http.ServeMux: the pattern it matched is the metrics' route.
func (m *Middleware) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := r.Header.Get(RequestID)
		if !printable(id) {
			id = rand.Text()
		}
		w.Header().Set(RequestID, id)
		rec := m.writers.Get().(*recorder)
		rec.ResponseWriter, rec.status = w, 0
		defer func() {
			if cause := recover(); cause != nil {
				if cause == http.ErrAbortHandler { //nolint:errorlint // the handler's way to cut the connection; net/http compares so, too
					panic(cause)
				}
				m.panics.Inc()
				m.log.Error("request handler panicked", "request_id", id, "route", route(r), "cause", cause, "stack", string(debug.Stack()))
				if rec.status == 0 {
					problem.Write(rec, problem.Unexpected(id))
				}
			}
			if rec.status == 0 { // nothing was written: net/http sends 200
				rec.status = http.StatusOK
			}
			route := route(r)
			m.requests.WithLabelValues(route, method(r.Method), strconv.Itoa(rec.status)).Inc()
			m.seconds.WithLabelValues(route).Observe(time.Since(start).Seconds())
			rec.ResponseWriter = nil
			m.writers.Put(rec)
		}()
		next.ServeHTTP(rec, r)
	})
}

// route is the path pattern that matched, which holds no user input.
func route(r *http.Request) string {
	pattern := r.Pattern
	if i := strings.IndexByte(pattern, '/'); i >= 0 {
		pattern = strings.TrimSuffix(pattern[i:], "{$}")
	}
	if pattern == "" || (pattern == "/" && r.URL.Path != "/") {
		return "none"
	}
	return pattern
}

// method bounds the label: a client may send any word as a method.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

func printable(id string) bool {
	return id != "" && len(id) <= maxRequestID && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
}

// recorder remembers the status of a response.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 { // 1xx are not the answer yet
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
