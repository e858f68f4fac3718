package gateway

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/encoding/json"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"seralm/config"
	"seralm/serving"
	"seralm/stream"
	"seralm/stream/streamtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// rig is a gateway that listens, on a log of the test's own.
type rig struct {
	t       testing.TB
	cfg     config.Config
	kafka   *kgo.Client
	metrics *prometheus.Registry
	gateway *Gateway
	server  *httptest.Server
	logged  *logged
}

func newRig(t testing.TB, change ...func(*config.Config)) *rig {
	t.Helper()
	r := rigAt(t, streamtest.Brokers(t, kfake.NumBrokers(2)), change...)
	t.Cleanup(func() {
		_, err := kadm.NewClient(r.kafka).DeleteTopics(context.Background(), stream.NamesOf(r.cfg.Kafka.TopicPrefix).All()...)
		require.NoError(t, err)
	})
	return r
}

// newFakeRig is for the stories in which the broker misbehaves.
func newFakeRig(t testing.TB, change ...func(*config.Config)) (*rig, *kfake.Cluster) {
	t.Helper()
	fake := streamtest.Fake(t, kfake.NumBrokers(2))
	return rigAt(t, fake.ListenAddrs(), change...), fake
}

func rigAt(t testing.TB, brokers []string, change ...func(*config.Config)) *rig {
	t.Helper()
	r := &rig{t: t, cfg: config.Default(), metrics: prometheus.NewRegistry(), logged: &logged{}}
	r.cfg.Kafka.Brokers, r.cfg.Kafka.TopicPrefix = brokers, streamtest.Prefix()
	r.cfg.HTTP.ReadTimeout = 2 * patience // so that only the tests of it see the deadline
	for _, c := range change {
		c(&r.cfg)
	}
	r.connect()
	require.NoError(t, stream.Ensure(context.Background(), kadm.NewClient(r.kafka), r.cfg.Kafka))
	r.serve(nil)
	return r
}

// connect makes the client anew: impatient, and silent.
func (r *rig) connect() {
	opts, err := stream.ClientOptions(r.cfg.Kafka)
	require.NoError(r.t, err)
	r.kafka, err = kgo.NewClient(append(opts, kgo.MetadataMinAge(20*time.Millisecond), kgo.WithLogger(nil),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))...)
	require.NoError(r.t, err)
	r.t.Cleanup(r.kafka.Close)
}

// serve makes the gateway, of a process that knows items or does not.
func (r *rig) serve(known Items) {
	r.metrics = prometheus.NewRegistry()
	r.gateway = New(Deps{Config: r.cfg, Kafka: r.kafka, Log: slog.New(slog.NewTextHandler(r.logged, nil)), Metrics: r.metrics, Items: known})
	r.server = httptest.NewServer(r.gateway)
	r.t.Cleanup(r.server.Close)
}

// answer is what a client got.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	body   []byte
}

func (a answer) decode(into any) {
	a.t.Helper()
	require.NoError(a.t, json.Unmarshal(a.body, into), string(a.body))
}

func (a answer) accepted() acceptedAnswer {
	a.t.Helper()
	require.Equal(a.t, http.StatusOK, a.status, string(a.body))
	var out acceptedAnswer
	a.decode(&out)
	return out
}

func (a answer) partly() partlyAnswer {
	a.t.Helper()
	require.Equal(a.t, http.StatusMultiStatus, a.status, string(a.body))
	var out partlyAnswer
	a.decode(&out)
	return out
}

// problemBody is a problem as a client reads it.
type problemBody struct {
	Type, Title, Detail, Field, Remedy string
	Status                             int
	Results                            []result
}

func (a answer) problem(status int) problemBody {
	a.t.Helper()
	require.Equal(a.t, status, a.status, string(a.body))
	require.Equal(a.t, "application/problem+json", a.header.Get("Content-Type"))
	var out problemBody
	a.decode(&out)
	require.Equal(a.t, status, out.Status)
	require.NotEmpty(a.t, out.Detail)
	require.NotEmpty(a.t, out.Remedy, "every error says what to do")
	return out
}

func (r *rig) post(path, body string) answer {
	return r.call(context.Background(), "POST", path, "application/json", body)
}

// call sends a request, and holds the answer (and, if it was accepted, the
// request) to the specification.
func (r *rig) call(ctx context.Context, method, path, media, body string) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, r.server.URL+path, strings.NewReader(body))
	require.NoError(r.t, err)
	req.Header.Set("Content-Type", media)
	resp, err := r.server.Client().Do(req)
	require.NoError(r.t, err)
	defer resp.Body.Close()
	a := answer{t: r.t, status: resp.StatusCode, header: resp.Header}
	a.body, err = io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	conforms(r.t, method, path, media, body, a)
	return a
}

var specification = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromData(serving.OpenAPI)
	if err != nil {
		return nil, err
	}
	return legacy.NewRouter(doc) // validates the document
})

func conforms(t testing.TB, method, path, media, body string, a answer) {
	t.Helper()
	spec, err := specification()
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(context.Background(), method, path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", media)
	req.URL.RawQuery = ""
	route, params, err := spec.FindRoute(req)
	require.NoError(t, err, "%s %s", method, path)
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route}
	if a.status == http.StatusOK && !strings.HasPrefix(media, ndjson) && method != http.MethodDelete {
		require.NoError(t, openapi3filter.ValidateRequest(req.Context(), in), "accepted, but not in the specification: %s", body)
	}
	require.NoError(t, openapi3filter.ValidateResponse(req.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}), "%s %s answered %d %s", method, path, a.status, a.body)
}

// records returns all records of a topic, in the order of each partition.
func (r *rig) records(topic string) []*kgo.Record {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out []*kgo.Record
	err := stream.Follow(ctx, r.cfg.Kafka, topic, func(rec *kgo.Record) error {
		out = append(out, rec)
		return nil
	}, cancel)
	require.ErrorIs(r.t, err, context.Canceled)
	return out
}

// interactions returns what the log has, by user.
func (r *rig) interactions() map[string][]stream.Event[stream.Interaction] {
	r.t.Helper()
	out := map[string][]stream.Event[stream.Interaction]{}
	for _, rec := range r.records(r.gateway.interactions) {
		ev, err := stream.DecodeInteraction(rec)
		require.NoError(r.t, err)
		out[ev.Body.User] = append(out[ev.Body.User], ev)
	}
	return out
}

// hold stops the fake from answering produce requests, of one of its nodes or of
// all (-1). arrived gets a value when the first is held; release lets them go on.
func hold(t testing.TB, fake *kfake.Cluster, node int32) (arrived <-chan struct{}, release func()) {
	held, gate := make(chan struct{}, 1), make(chan struct{})
	var open atomic.Bool
	fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		if open.Load() || (node >= 0 && fake.CurrentNode() != node) {
			return nil, nil, false
		}
		select {
		case held <- struct{}{}:
		default:
		}
		fake.SleepControl(func() { <-gate })
		return nil, nil, false
	})
	release = sync.OnceFunc(func() {
		open.Store(true)
		close(gate)
	})
	t.Cleanup(release)
	return held, release
}

func await(t testing.TB, what <-chan struct{}) {
	t.Helper()
	select {
	case <-what:
	case <-time.After(patience):
		require.FailNow(t, "it does not happen")
	}
}

// logged is what the gateway logs.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
