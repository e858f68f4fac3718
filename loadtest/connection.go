package loadtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/segmentio/encoding/json"
)

// kind of a request.
type kind uint8

const (
	lookup kind = iota
	event
	kinds
)

// arrival is one planned request.
type arrival struct {
	planned    time.Time
	kind       kind
	user, item string
	counted    bool // planned after the warm-up
}

// outcome of a request. An empty class is success; another is one of a small set of
// names that errors are counted under.
type outcome struct {
	class  string
	source string // of a look-up whose answer was read; "" otherwise
}

// sender sends one request at a time and returns at the deadline at the latest.
type sender interface {
	send(ctx context.Context, a arrival, deadline time.Time) outcome
	close()
}

const (
	maxAnswer = 16 << 20 // bytes of one answer
	// longestIdle is how old a connection may get between two requests: servers
	// close idle ones, and a request that meets the closing would count as failed.
	longestIdle = 5 * time.Second
	// readEvery: one look-up in this many has its answer parsed; the others are
	// judged by their status. Parsing all would double what the generator costs.
	readEvery = 32
)

// connection is the sender of real runs: one keep-alive HTTP/1.1 connection, used by
// one goroutine. net/http's client hands each request through two more goroutines,
// which costs 2-3 times the CPU and 60 us of latency on the machine under test.
type connection struct {
	target target
	n      int
	event  string
	conn   net.Conn
	in     *bufio.Reader
	out    []byte
	used   time.Time
	seen   int // look-ups, for readEvery
	stop   func() bool
}

func newConnection(t target, o Options) *connection {
	return &connection{target: t, n: o.N, event: o.EventType}
}

func (c *connection) close() {
	if c.conn == nil {
		return
	}
	c.stop()
	_ = c.conn.Close() // nothing is in flight
	c.conn = nil
}

func (c *connection) send(ctx context.Context, a arrival, deadline time.Time) outcome {
	if a.kind == event {
		_, status, err := c.roundTrip(ctx, c.eventRequest(a), deadline, false)
		return outcome{class: classify(status, err)}
	}
	c.seen++
	read := c.seen%readEvery == 1
	body, status, err := c.roundTrip(ctx, c.lookupRequest(a.user, c.n), deadline, read)
	o := outcome{class: classify(status, err)}
	if o.class == "" && read {
		var a answer
		a, o.class = inspect(body)
		o.source = a.source
	}
	return o
}

func (c *connection) lookupRequest(user string, n int) []byte {
	b := append(c.out[:0], "GET "...)
	b = append(b, c.target.path...)
	b = append(b, "/v1/recommendations/"...)
	b = append(b, url.PathEscape(user)...)
	b = append(b, "?n="...)
	b = strconv.AppendInt(b, int64(n), 10)
	b = c.header(b)
	c.out = append(b, "\r\n"...)
	return c.out
}

func (c *connection) eventRequest(a arrival) []byte {
	body := append(make([]byte, 0, 128), `{"user":`...)
	body = json.AppendEscape(body, a.user, 0)
	body = append(body, `,"item":`...)
	body = json.AppendEscape(body, a.item, 0)
	body = append(body, `,"type":`...)
	body = json.AppendEscape(body, c.event, 0)
	body = append(body, '}')
	b := append(c.out[:0], "POST "...)
	b = append(b, c.target.path...)
	b = append(b, "/v1/interactions"...)
	b = c.header(b)
	b = append(b, "Content-Type: application/json\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	c.out = append(b, body...)
	return c.out
}

func (c *connection) header(b []byte) []byte {
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, c.target.host...)
	return append(b, "\r\nUser-Agent: seralm-loadtest\r\nAccept: application/json\r\n"...)
}

// roundTrip sends request and reads the whole answer; it returns the body if wanted.
func (c *connection) roundTrip(ctx context.Context, request []byte, deadline time.Time, wanted bool) (body []byte, status int, err error) {
	if c.conn != nil && time.Since(c.used) > longestIdle {
		c.close()
	}
	if c.conn == nil {
		if err := c.dial(ctx, deadline); err != nil {
			return nil, 0, err
		}
	}
	body, status, err = c.exchange(ctx, request, deadline, wanted)
	c.used = time.Now()
	if err != nil {
		c.close()
	}
	return body, status, err
}

func (c *connection) dial(ctx context.Context, deadline time.Time) error {
	d := net.Dialer{Deadline: deadline}
	conn, err := d.DialContext(ctx, "tcp", c.target.addr)
	if err != nil {
		return err
	}
	if c.target.tls {
		host, _, err := net.SplitHostPort(c.target.host)
		if err != nil {
			host = c.target.host // no port in it
		}
		conn = tls.Client(conn, &tls.Config{ServerName: host})
	}
	c.conn, c.in = conn, bufio.NewReader(conn)
	// A cancelled run must not wait for answers: a deadline in the past wakes the
	// goroutine that reads.
	c.stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return nil
}

func (c *connection) exchange(ctx context.Context, request []byte, deadline time.Time, wanted bool) ([]byte, int, error) {
	if err := c.conn.SetDeadline(deadline); err != nil {
		return nil, 0, err
	}
	if err := ctx.Err(); err != nil { // it may have ended before our deadline replaced that of stop
		return nil, 0, err
	}
	if _, err := c.conn.Write(request); err != nil {
		return nil, 0, err
	}
	answer, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	limited := io.LimitReader(answer.Body, maxAnswer+1)
	var body []byte
	var size int64
	if wanted {
		body, err = io.ReadAll(limited)
		size = int64(len(body))
	} else {
		size, err = io.Copy(io.Discard, limited)
	}
	if err != nil {
		return nil, 0, err
	}
	if size > maxAnswer {
		return nil, 0, fmt.Errorf("answer above %d bytes", maxAnswer)
	}
	if answer.Close {
		c.close()
	}
	return body, answer.StatusCode, nil
}

// classify names what went wrong, by a name that does not vary with the request;
// it returns "" for a good answer.
func classify(status int, err error) string {
	var n net.Error
	var op *net.OpError
	switch {
	case err == nil && status >= 200 && status <= 299:
		return ""
	case err == nil:
		return "status_" + strconv.Itoa(status)
	case errors.As(err, &n) && n.Timeout():
		return "timeout"
	case errors.As(err, &op) && op.Op == "dial":
		return "connect"
	default:
		return "connection_lost"
	}
}

// answer is what the generator understands of a look-up's body.
type answer struct {
	items  []string
	source string // of the whole answer, or else of its first item
}

// inspect reads a look-up's answer; class says why it is none.
func inspect(body []byte) (a answer, class string) {
	var doc struct {
		Source string `json:"source"`
		Items  []struct {
			Item   string `json:"item"`
			Source string `json:"source"`
		} `json:"items"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return answer{}, "bad_answer"
	}
	if len(doc.Items) == 0 {
		return answer{}, "empty_answer"
	}
	a.source = doc.Source
	if a.source == "" {
		a.source = doc.Items[0].Source
	}
	for _, i := range doc.Items {
		a.items = append(a.items, i.Item)
	}
	return a, ""
}
