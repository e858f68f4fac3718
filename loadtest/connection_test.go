package loadtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const goodAnswer = `{"recommendation_id":"1","source":"personalised","items":[{"item":"x","score":1,"source":"personalised"},{"item":"y","score":0.5,"source":"popular"}]}`

func dialled(t testing.TB, base string) *connection {
	t.Helper()
	to, err := resolve(t.Context(), base, false)
	require.NoError(t, err)
	c := newConnection(to, fast())
	t.Cleanup(c.close)
	return c
}

func soon() time.Time { return time.Now().Add(5 * time.Second) }

func TestRequestsReachTheServerAsMeant(t *testing.T) {
	awkward := "a b/ü\"\\\n?&#%2F"
	var asked []string
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/recommendations/{user}", func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.PathValue("user")+" n="+r.URL.Query().Get("n"))
		io.WriteString(w, goodAnswer)
	})
	mux.HandleFunc("POST /api/v1/interactions", func(w http.ResponseWriter, r *http.Request) {
		var e struct{ User, Item, Type string }
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
		asked = append(asked, e.User+" "+e.Type+" "+e.Item)
		w.WriteHeader(http.StatusAccepted)
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	c := dialled(t, s.URL+"/api/")
	require.Equal(t, outcome{source: "personalised"}, c.send(t.Context(), arrival{user: awkward}, soon()))
	require.Equal(t, outcome{}, c.send(t.Context(), arrival{kind: event, user: awkward, item: "x\"y"}, soon()))
	require.Equal(t, []string{awkward + " n=10", awkward + " click x\"y"}, asked)
}

func TestOneConnectionIsKeptForAllRequests(t *testing.T) {
	var opened atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusTooManyRequests) // a refusal is no reason to reconnect
		}
		// Chunked, and longer than any buffer.
		for range 100 {
			fmt.Fprintf(w, "%1000d", 1)
			w.(http.Flusher).Flush()
		}
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	c := dialled(t, s.URL)
	c.seen = 1 // no answer is read, these are no JSON
	for range 10 {
		require.Empty(t, c.send(t.Context(), arrival{user: "ann"}, soon()).class)
		require.Equal(t, "status_429", c.send(t.Context(), arrival{kind: event, user: "ann"}, soon()).class)
	}
	require.EqualValues(t, 1, opened.Load())
}

func TestEachFailureHasItsClass(t *testing.T) {
	answering := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	raw := func(serve func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				serve(c)
				c.Close()
			}
		}()
		return "http://" + l.Addr().String()
	}
	closed := raw(func(net.Conn) {})
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, nobody.Close())
	for want, base := range map[string]string{
		"status_500":      answering(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }),
		"status_302":      answering(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }),
		"bad_answer":      answering(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }),
		"empty_answer":    answering(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"items":[]}`) }),
		"connection_lost": closed,
		"connect":         "http://" + nobody.Addr().String(),
	} {
		c := dialled(t, base)
		require.Equal(t, want, c.send(t.Context(), arrival{user: "ann"}, soon()).class)
	}
	t.Run("timeout, then a fresh connection", func(t *testing.T) {
		var slow atomic.Bool
		slow.Store(true)
		c := dialled(t, answering(func(w http.ResponseWriter, r *http.Request) {
			if slow.Swap(false) {
				select {
				case <-r.Context().Done():
				case <-time.After(time.Second):
				}
			}
			io.WriteString(w, goodAnswer)
		}))
		require.Equal(t, "timeout", c.send(t.Context(), arrival{user: "ann"}, time.Now().Add(20*time.Millisecond)).class)
		require.Empty(t, c.send(t.Context(), arrival{user: "ann"}, soon()).class, "the late answer must not be taken for this one's")
	})
	t.Run("half an answer", func(t *testing.T) {
		c := dialled(t, raw(func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1000))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		}))
		require.Equal(t, "connection_lost", c.send(t.Context(), arrival{user: "ann"}, soon()).class)
	})
	t.Run("an answer without end", func(t *testing.T) {
		c := dialled(t, answering(func(w http.ResponseWriter, _ *http.Request) {
			block := make([]byte, 1<<20)
			for range maxAnswer>>20 + 1 {
				w.Write(block)
			}
		}))
		require.Equal(t, "connection_lost", c.send(t.Context(), arrival{user: "ann"}, soon()).class)
	})
}

func TestCancellingWakesAWaitingRequest(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	began := time.Now()
	require.NotEmpty(t, dialled(t, s.URL).send(ctx, arrival{user: "ann"}, soon()).class)
	require.Less(t, time.Since(began), 2*time.Second)
}

func TestOnlyNearTargetsAreTaken(t *testing.T) {
	for base, want := range map[string]target{
		"http://127.0.0.1:8080":      {addr: "127.0.0.1:8080", host: "127.0.0.1:8080"},
		"https://[::1]:8443/seralm/": {addr: "[::1]:8443", host: "[::1]:8443", tls: true, path: "/seralm"},
		"http://10.1.2.3":            {addr: "10.1.2.3:80", host: "10.1.2.3"},
		"https://192.168.0.9":        {addr: "192.168.0.9:443", host: "192.168.0.9", tls: true},
	} {
		got, err := resolve(t.Context(), base, false)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, base := range []string{"http://8.8.8.8", "http://[2001:4860:4860::8888]:80", "http://172.32.0.1", "http://0.0.0.0:80"} {
		_, err := resolve(t.Context(), base, false)
		require.ErrorIs(t, err, ErrPublicTarget, base)
		_, err = resolve(t.Context(), base, true)
		require.NoError(t, err)
	}
	for _, base := range []string{"", "127.0.0.1:8080", "ftp://127.0.0.1", "http://", "http://127.0.0.1?x=1", "http://me:secret@127.0.0.1", ":"} {
		_, err := resolve(t.Context(), base, true)
		require.Error(t, err, base)
	}
}

func FuzzInspect(f *testing.F) {
	for _, body := range []string{goodAnswer, `{}`, `{"items":null}`, `{"items":[{}]}`, `[]`, `{"items":[{"item":1}]}`, `{"items":{"a":1}}`, "\x00", ``} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, class := inspect(body)
		if (class == "") != (len(a.items) > 0) {
			t.Fatalf("%q: class %q with %d items", body, class, len(a.items))
		}
	})
}

// What one request costs the generator, in a loop against a server that does
// nothing. The server runs in this process, so about half of it is the server's.
func BenchmarkConnection(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, goodAnswer) }))
	defer s.Close()
	c := dialled(b, s.URL)
	b.ReportAllocs()
	for b.Loop() {
		if o := c.send(context.Background(), arrival{user: "ann"}, soon()); o.class != "" {
			b.Fatal(o.class)
		}
	}
}
