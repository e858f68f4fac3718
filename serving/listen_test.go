package serving

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/config"
)

func TestABusyPortIsToldWithItsRemedy(t *testing.T) {
	cfg := config.Default().HTTP
	cfg.Addr = "127.0.0.1:0"
	l, err := Listen(cfg)
	require.NoError(t, err)
	defer l.Close()
	cfg.Addr = l.Addr().String()
	_, err = Listen(cfg)
	require.EqualError(t, err, fmt.Sprintf("http.addr %s is in use by another process: stop it (`ss -ltnp` names it), or choose another port with http.addr or SERALM_HTTP_ADDR", cfg.Addr))
}

func TestAnAddressThatIsNoneIsToldAsConfigured(t *testing.T) {
	cfg := config.Default().HTTP
	cfg.Addr = "127.0.0.1:port"
	_, err := Listen(cfg)
	require.ErrorContains(t, err, "opening http.addr 127.0.0.1:port")
}

// front is a running Serve whose handler waits until the test lets it go on.
type front struct {
	addr    string
	client  *http.Client
	arrived chan struct{} // a request is in progress
	finish  chan struct{} // close it to let requests finish
	stop    context.CancelFunc
	ended   chan error
}

func newFront(t *testing.T, drain time.Duration) *front {
	t.Helper()
	cfg := config.Default().HTTP
	cfg.Addr, cfg.DrainTimeout = "127.0.0.1:0", drain
	l, err := Listen(cfg)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	f := &front{
		addr: "http://" + l.Addr().String(), client: &http.Client{Transport: &http.Transport{}}, stop: stop,
		arrived: make(chan struct{}, 1), finish: make(chan struct{}), ended: make(chan error, 1),
	}
	t.Cleanup(f.client.CloseIdleConnections)
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		f.arrived <- struct{}{}
		<-f.finish
		fmt.Fprint(w, "finished")
	})
	go func() { f.ended <- Serve(ctx, l, cfg, handler, slog.New(slog.DiscardHandler)) }()
	return f
}

// begin sends a request and returns once it is in progress.
func (f *front) begin() (answer chan string) {
	answer = make(chan string, 1)
	go func() {
		resp, err := f.client.Get(f.addr)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		answer <- fmt.Sprint(string(body), err)
	}()
	<-f.arrived
	return answer
}

func TestAtTheEndRequestsInProgressFinishAndNewOnesAreRefused(t *testing.T) {
	f := newFront(t, time.Minute)
	answer := f.begin()
	f.stop()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", f.addr[len("http://"):])
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, patience, time.Millisecond, "no new connection")
	require.Empty(t, f.ended, "it waits for the request")
	close(f.finish)
	require.Equal(t, "finished<nil>", <-answer)
	require.NoError(t, <-f.ended)
}

func TestARequestThatDoesNotFinishIsCutAfterTheDrain(t *testing.T) {
	f := newFront(t, 10*time.Millisecond)
	answer := f.begin()
	f.stop()
	require.ErrorContains(t, <-f.ended, "some requests did not finish within http.drain_timeout (10ms)")
	require.Contains(t, <-answer, "EOF")
	close(f.finish)
}

func TestAListenerThatFailsEndsTheServer(t *testing.T) {
	cfg := config.Default().HTTP
	cfg.Addr = "127.0.0.1:0"
	l, err := Listen(cfg)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	err = Serve(t.Context(), l, cfg, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "serving on "+l.Addr().String())
}
