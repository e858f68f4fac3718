package gateway

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/config"
)

func TestWhatIsWrongWithAnEventIsNamed(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.HTTP.MaxBodyBytes = 4 << 20 })
	event := func(rest string) string { return `{"user":"ann","item":"a",` + rest + `}` }
	long := strings.Repeat("x", 513)
	for _, c := range []struct{ path, body, field, detail string }{
		{"/v1/interactions", `{}`, "user", "it is empty"},
		{"/v1/interactions", `{"user":"ann"}`, "item", "it is empty"},
		{"/v1/interactions", `{"user":7,"item":"a"}`, "user", "it is of another type, or out of bounds"},
		{"/v1/interactions", `{"user":null,"item":"a"}`, "user", "it is empty"},
		{"/v1/interactions", `{"user":"` + long + `","item":"a"}`, "user", "it is longer than 512 bytes"},
		{"/v1/interactions", `{"user":"a\u0000b","item":"a"}`, "user", "it holds a control character"},
		{"/v1/interactions", `{"User":"ann","item":"a"}`, "User", "there is no such field"},
		{"/v1/interactions", event(`"rating":5`), "rating", "there is no such field"},
		{"/v1/interactions", event(`"` + long + `":5`), long[:64] + "...", "there is no such field"},
		{"/v1/interactions", event(`"type":""`), "type", "it is empty"},
		{"/v1/interactions", event(`"value":"5"`), "value", "it is of another type, or out of bounds"},
		{"/v1/interactions", event(`"value":1e999`), "value", "it is of another type, or out of bounds"},
		{"/v1/interactions", event(`"value":NaN`), "body", "it is not valid JSON"},
		{"/v1/interactions", event(`"value":Infinity`), "body", "it is not valid JSON"},
		{"/v1/interactions", event(`"seq":-1`), "seq", "it is of another type, or out of bounds"},
		{"/v1/interactions", event(`"seq":1.5`), "seq", "it is of another type, or out of bounds"},
		{"/v1/interactions", event(`"time":"yesterday"`), "time", "it is not an RFC 3339 time"},
		{"/v1/interactions", event(`"time":1700000000`), "time", "it is of another type, or out of bounds"},
		{"/v1/interactions", event(`"time":"1969-12-31T23:59:59Z"`), "time", "it is not between the years 1970 and 9999"},
		{"/v1/interactions", event(`"time":"` + time.Now().Add(6*time.Minute).Format(time.RFC3339) + `"`), "time", "it is more than 5m0s ahead of this server's clock"},
		{"/v1/interactions", event(`"time":"9999-01-01T00:00:00Z"`), "time", "it is more than 5m0s ahead of this server's clock"},
		{"/v1/interactions", event(`"id":"a\nb"`), "id", "it holds a control character"},
		{"/v1/interactions", event(`"source":""`), "source", "it is empty"},
		{"/v1/interactions", `{"events":{}}`, "events", "it is not an array"},
		{"/v1/interactions", `{"events":null}`, "events", "it is not an array"},
		{"/v1/interactions", `{"events":[],"batch":1}`, "batch", "there is no such field beside events"},
		{"/v1/interactions", `[]`, "events", "it holds nothing"},
		{"/v1/interactions", `{"events":[]}`, "events", "it holds nothing"},
		{"/v1/interactions", `[` + strings.Repeat("{},", 1000) + `{}]`, "events", "it has more than 1000 elements"},
		{"/v1/interactions", ``, "body", "it is not valid JSON"},
		{"/v1/interactions", `null`, "body", "it is neither a JSON object nor an array"},
		{"/v1/interactions", event(`"id":"1"`) + `{}`, "body", "it is not valid JSON"},
		{"/v1/interactions", "{\"user\":\"\xff\",\"item\":\"a\"}", "body", "it is not valid UTF-8"},
		{"/v1/interactions", strings.Repeat("[", 1<<20), "body", "it is not valid JSON"},
		{"/v1/interactions", strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20), "body", "it is not valid JSON"},
		{"/v1/interactions?dry_run=1", `{}`, "query string", "there are no parameters here"},
		{"/v1/items", `{"title":"Heat"}`, "item", "it is empty"},
		{"/v1/items", `{"item":"a","id":"1"}`, "id", "there is no such field"},
		{"/v1/items", `{"item":"a","hidden":"no"}`, "hidden", "it is of another type, or out of bounds"},
		{"/v1/items", `{"item":"a","categories":["x",1]}`, "categories.1", "it is of another type, or out of bounds"},
		{"/v1/items", `{"item":"a","categories":[""]}`, "categories", "it is empty"},
		{"/v1/items", `{"item":"a","title":"` + strings.Repeat("x", 4097) + `"}`, "title", "it is longer than 4096 bytes"},
		{"/v1/items", `{"item":"a","text":"` + strings.Repeat(`<`, 200<<10) + `"}`, "text", "with its escapes, the event is larger than a record of the log may be"},
	} {
		p := r.post(c.path, c.body).problem(http.StatusBadRequest)
		require.Equal(t, [2]string{c.field, c.detail}, [2]string{p.Field, p.Detail}, "%.200s", c.body)
	}
	p := r.call(t.Context(), "POST", "/v1/interactions", ndjson, event(`"id":"1"`)+"\n{").problem(http.StatusBadRequest)
	require.Equal(t, "line 2: it is not valid JSON", p.Detail)
	p = r.call(t.Context(), "POST", "/v1/interactions", ndjson, "\n").problem(http.StatusBadRequest)
	require.Equal(t, "it holds nothing", p.Detail)
	p = r.call(t.Context(), "POST", "/v1/interactions", ndjson, strings.Repeat("{}\n", 1001)).problem(http.StatusBadRequest)
	require.Equal(t, "it has more than 1000 elements", p.Detail)
	p = r.call(t.Context(), "DELETE", "/v1/items/"+long, "", "").problem(http.StatusBadRequest)
	require.Equal(t, "item", p.Field)
	require.Empty(t, r.records(r.gateway.interactions))
	require.Empty(t, r.records(r.gateway.items))
}

func TestElementsThatAreNoObjectsAreRefusedOneByOne(t *testing.T) {
	r := newRig(t)
	got := r.post("/v1/interactions", `[1, null, [], {"user":"ann","item":"a"}, "x"]`).partly()
	require.Equal(t, 1, got.Accepted)
	for _, i := range []int{0, 1, 2, 4} {
		require.Equal(t, "it is not a JSON object", got.Results[i].Detail)
	}
}

func TestABodyOfTenMegabytesIsNotRead(t *testing.T) {
	r := newRig(t)
	p := r.post("/v1/interactions", `{"user":"ann","item":"a","session":"`+strings.Repeat("x", 10<<20)+`"}`).problem(http.StatusRequestEntityTooLarge)
	require.Equal(t, "it is longer than 1048576 bytes", p.Detail)
}

func TestNothingIsWrittenForAClientThatLeavesMidway(t *testing.T) {
	r := newRig(t)
	conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
	require.NoError(t, err)
	body := `{"user":"ann","item":"a"}`
	fmt.Fprintf(conn, "POST /v1/interactions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body)+1, body)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	resp.Body.Close()
	conn.Close()
	require.Empty(t, r.records(r.gateway.interactions))
}
