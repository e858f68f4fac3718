package problem

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProblemsAsClientsSeeThem(t *testing.T) {
	for _, c := range []struct {
		problem *Problem
		status  int
		body    string
	}{
		{Field("n", "it is 0", "send 1"), 400, `{"type":"urn:seralm:problem:field","title":"A field cannot be used","status":400,"detail":"it is 0","field":"n","remedy":"send 1"}`},
		{Body("it is empty", "send JSON"), 400, `{"type":"urn:seralm:problem:body","title":"The body cannot be read","status":400,"detail":"it is empty","field":"body","remedy":"send JSON"}`},
		{TooLarge(10), 413, `{"type":"urn:seralm:problem:too-large","title":"The body is too large","status":413,"detail":"it is longer than 10 bytes","field":"body","remedy":"send less at once, or raise http.max_body_bytes"}`},
		{NotFound("no such item", "announce it"), 404, `{"type":"urn:seralm:problem:not-found","title":"There is nothing here","status":404,"detail":"no such item","remedy":"announce it"}`},
		{Method("PUT", "GET"), 405, `{"type":"urn:seralm:problem:method","title":"The method is not allowed","status":405,"detail":"PUT is not possible on this path","remedy":"use GET"}`},
		{Unavailable("it is away", "try again"), 503, `{"type":"urn:seralm:problem:unavailable","title":"Not available now","status":503,"detail":"it is away","remedy":"try again"}`},
		{Busy("it is full", "try again"), 429, `{"type":"urn:seralm:problem:busy","title":"Too much at once","status":429,"detail":"it is full","remedy":"try again"}`},
		{Unexpected("abc"), 500, `{"type":"urn:seralm:problem:unexpected","title":"Unexpected error","status":500,"detail":"the request met a bug; it is logged as request abc","remedy":"report it with the request id"}`},
	} {
		w := httptest.NewRecorder()
		Write(w, c.problem)
		require.Equal(t, c.status, w.Code)
		require.Equal(t, c.body, w.Body.String())
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		require.Equal(t, fmt.Sprint(len(c.body)), w.Header().Get("Content-Length"))
		require.Equal(t, c.status == 503 || c.status == 429, w.Header().Get("Retry-After") != "")
	}
}

func TestAProblemIsAnErrorThatNamesItsField(t *testing.T) {
	var p *Problem
	require.ErrorAs(t, fmt.Errorf("reading: %w", Field("n", "it is 0", "send 1")), &p)
	require.EqualError(t, p, "A field cannot be used: n: it is 0")
	require.EqualError(t, NotFound("no such item", ""), "There is nothing here: no such item")
	require.NotErrorAs(t, errors.New("another"), &p)
}
