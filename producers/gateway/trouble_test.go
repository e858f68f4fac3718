package gateway

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"

	"seralm/config"
	"seralm/serving"
	"seralm/stream"
)

func impatient(c *config.Config) { c.HTTP.ReadTimeout = time.Second }

func click(user, id string) string {
	return fmt.Sprintf(`{"user":%q,"item":"a","id":%q}`, user, id)
}

func ids(log []stream.Event[stream.Interaction]) (out []string) {
	for _, ev := range log {
		out = append(out, ev.ID)
	}
	return out
}

// drained waits until nothing waits for the log any more.
func (r *rig) drained() {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.gateway.buffer.held() == 0 }, patience, time.Millisecond)
}

// later posts in the background.
func (r *rig) later(body string) <-chan answer {
	got := make(chan answer, 1)
	go func() { got <- r.post("/v1/interactions", body) }()
	return got
}

func TestWithoutABrokerTheAnswerIs503InTimeAndNothingIsWritten(t *testing.T) {
	dir := t.TempDir()
	broker := func(port int) *kfake.Cluster {
		fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir))
		require.NoError(t, err)
		t.Cleanup(fake.Close)
		return fake
	}
	fake := broker(0)
	_, port, err := net.SplitHostPort(fake.ListenAddrs()[0])
	require.NoError(t, err)
	r := rigAt(t, fake.ListenAddrs(), impatient)
	fake.Close()
	r.connect() // a client that has sent something cannot know whether it arrived
	r.serve(nil)

	asked := time.Now()
	got := r.post("/v1/interactions", "["+click("ann", "1")+","+click("bob", "2")+`,{"user":"cat"}]`)
	require.Less(t, time.Since(asked), patience, "the wait is bounded")
	got.problem(http.StatusServiceUnavailable)
	require.Equal(t, "1", got.header.Get("Retry-After"))
	r.post("/v1/interactions", click("ann", "3")).problem(http.StatusServiceUnavailable)
	require.Equal(t, 1, strings.Count(r.logged.String(), "events cannot be written to the log"), "trouble is logged once")

	r.drained()
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	broker(number)
	require.Eventually(t, func() bool { return r.post("/v1/interactions", click("ann", "after")).status == http.StatusOK }, patience, time.Millisecond)
	log := r.interactions()
	require.Len(t, log, 1)
	require.Subset(t, []string{"after"}, ids(log["ann"]))
	require.Contains(t, r.logged.String(), "events are written to the log again")
	require.NotContains(t, r.logged.String(), "bob", "a log names no user")
}

func TestAnEventThatTimedOutKeepsItsNameWhenItIsSentAgain(t *testing.T) {
	r, fake := newFakeRig(t, impatient)
	_, release := hold(t, fake, -1)
	r.post("/v1/interactions", click("ann", "order-17")).problem(http.StatusServiceUnavailable)
	require.Equal(t, 1, r.gateway.buffer.held(), "it was on its way; nobody knows how far")
	release()
	r.drained()
	r.post("/v1/interactions", click("ann", "order-17")).accepted()
	require.Equal(t, []string{"order-17", "order-17"}, ids(r.interactions()["ann"]), "twice in the log, with one name")
}

func TestWhatOnePartitionDoesNotConfirmIsToldEventByEvent(t *testing.T) {
	r, fake := newFakeRig(t, impatient)
	for p := range r.cfg.Kafka.Partitions { // by chance, a node leads all or none
		require.NoError(t, fake.MoveTopicPartition(stream.NamesOf(r.cfg.Kafka.TopicPrefix).Interactions(), p, min(p, 1)))
	}
	var users []string
	for i := range 40 {
		users = append(users, fmt.Sprint("user-", i))
	}
	batch := func(id string) string {
		var events []string
		for _, user := range users {
			events = append(events, click(user, id))
		}
		return "[" + strings.Join(events, ",") + "]"
	}
	r.post("/v1/interactions", batch("before")).accepted()
	_, release := hold(t, fake, 0)
	got := r.post("/v1/interactions", batch("now")).partly()
	release()
	r.drained()
	log := r.interactions()
	n := 0
	for i, result := range got.Results {
		if result.Status == accepted {
			n++
			require.Contains(t, ids(log[users[i]]), "now")
			continue
		}
		require.Equal(t, unconfirmed, result.Status)
		require.Equal(t, "send it again with the same id", result.Remedy)
	}
	require.Equal(t, n, got.Accepted)
	require.Positive(t, n)
	require.Less(t, n, len(users))
}

func TestAnEventThatOvertookAnotherOfItsUserSaysSo(t *testing.T) {
	r := newRig(t)
	var events []event
	for _, user := range []string{"ann", "bob", "", "ann", "bob"} {
		events = append(events, r.gateway.interaction([]byte(`{"user":"`+user+`","item":"a"}`), time.Now()))
	}
	results, n := outcomes(events, []bool{false, true, true, true})
	require.Equal(t, 3, n)
	require.Equal(t, unconfirmed, results[0].Status)
	require.Empty(t, results[1].Detail)
	require.Equal(t, refused, results[2].Status)
	require.Equal(t, accepted, results[3].Status)
	require.Equal(t, "an earlier event of the same user or item is unconfirmed; sent again, it comes after this one", results[3].Detail)
	require.Empty(t, results[4].Detail)
}

func TestMoreThanMayWaitIsTurnedAway(t *testing.T) {
	r, fake := newFakeRig(t, func(c *config.Config) { c.Gateway.MaxBuffered = 3 })
	arrived, release := hold(t, fake, -1)
	first := r.later("[" + click("ann", "1") + "," + click("ann", "2") + "]")
	await(t, arrived)
	require.Equal(t, 2.0, gathered(t, r, "seralm_gateway_buffered_records"))

	got := r.post("/v1/interactions", "["+click("bob", "1")+","+click("bob", "2")+"]")
	got.problem(http.StatusTooManyRequests)
	require.Equal(t, "1", got.header.Get("Retry-After"))
	last := r.later(click("cat", "1"))
	release()
	require.Equal(t, 2, (<-first).accepted().Accepted)
	require.Equal(t, 1, (<-last).accepted().Accepted)
	r.drained()
	log := r.interactions()
	require.Empty(t, log["bob"], "none of what was turned away is written")
	require.Len(t, log["ann"], 2)
	require.Zero(t, gathered(t, r, "seralm_gateway_buffered_records"))
	require.Equal(t, 2.0, testutil.ToFloat64(r.gateway.events.WithLabelValues(busy)))

	p := r.post("/v1/interactions", "["+strings.Repeat("{},", 3)+"{}]").problem(http.StatusBadRequest)
	require.Equal(t, "send at most 3 at once", p.Remedy, "what can never be let in is not told to try again")
}

func gathered(t *testing.T, r *rig, name string) float64 {
	t.Helper()
	families, err := r.metrics.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	require.FailNow(t, "no metric "+name)
	return 0
}

func TestLargeEventsAreBoundedByTheirBytes(t *testing.T) {
	b := buffer{maxRecords: 10, maxBytes: 100}
	require.True(t, b.reserve(1, 1000), "one request always fits into an empty buffer")
	require.False(t, b.reserve(1, 1))
	b.release(1, 1000)
	require.True(t, b.reserve(2, 60))
	require.False(t, b.reserve(1, 50))
	require.True(t, b.reserve(8, 40))
	require.False(t, b.reserve(1, 0))
}

func TestWhatWasSentWholeIsWrittenWithoutItsClient(t *testing.T) {
	r, fake := newFakeRig(t)
	arrived, release := hold(t, fake, -1)
	conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
	require.NoError(t, err)
	body := click("ann", "1")
	fmt.Fprintf(conn, "POST /v1/interactions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	await(t, arrived)
	require.NoError(t, conn.Close())
	release()
	r.drained()
	require.Len(t, r.interactions()["ann"], 1)
}

func TestShutdownWaitsForWhatWasTaken(t *testing.T) {
	r, fake := newFakeRig(t)
	r.cfg.HTTP.Addr, r.cfg.HTTP.DrainTimeout = "127.0.0.1:0", patience
	l, err := serving.Listen(r.cfg.HTTP)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serving.Serve(ctx, l, r.cfg.HTTP, r.gateway, r.gateway.health.log) }()

	arrived, release := hold(t, fake, -1)
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	body := click("ann", "1")
	fmt.Fprintf(conn, "POST /v1/interactions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	await(t, arrived)
	stop()
	require.Eventually(t, func() bool { // the listener is closed before requests are waited for
		probe, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			probe.Close()
		}
		return err != nil
	}, patience, time.Millisecond)
	release()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NoError(t, <-served)
	require.Equal(t, []string{"1"}, ids(r.interactions()["ann"]))
}

func TestAMissingTopicIsNotTheClientsFault(t *testing.T) {
	r := newRig(t)
	_, err := kadm.NewClient(r.kafka).DeleteTopics(t.Context(), r.gateway.interactions)
	require.NoError(t, err)
	r.post("/v1/interactions", click("ann", "1")).problem(http.StatusServiceUnavailable)
	require.Contains(t, r.logged.String(), "UNKNOWN_TOPIC")
}
