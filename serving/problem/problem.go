// Package problem writes HTTP errors as RFC 9457 application/problem+json.
//
// It imports nothing of SeRALM but JSON. It must never carry what a client cannot
// act on: no stack, no internal address, no other user's data.
package problem

import (
	"net/http"
	"strconv"

	"github.com/segmentio/encoding/json"
)

// ContentType of every error body.
const ContentType = "application/problem+json"

// Problem is one error as a client sees it. It is an error, so that a parser can
// return it.
type Problem struct { //nolint:errname // RFC 9457 calls it so
	Type   string `json:"type"`   // names the kind of problem; stable, for programs
	Title  string `json:"title"`  // the same for people, constant per Type
	Status int    `json:"status"` // the HTTP status, again
	Detail string `json:"detail,omitempty"`
	Field  string `json:"field,omitempty"`  // the parameter or JSON field at fault
	Remedy string `json:"remedy,omitempty"` // what to send instead
	// Results says of each element of a batch what is wrong with it.
	Results any `json:"results,omitempty"`
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Field != "" {
		return p.Title + ": " + p.Field + ": " + p.Detail
	}
	return p.Title + ": " + p.Detail
}

// Kinds of problem. The URNs are names, not addresses: nothing is to be found there.
const (
	typeField      = "urn:seralm:problem:field"
	typeBody       = "urn:seralm:problem:body"
	typeTooLarge   = "urn:seralm:problem:too-large"
	typeNotFound   = "urn:seralm:problem:not-found"
	typeMethod     = "urn:seralm:problem:method"
	typeUnready    = "urn:seralm:problem:unavailable"
	typeBusy       = "urn:seralm:problem:busy"
	typeEvents     = "urn:seralm:problem:events"
	typeNotHere    = "urn:seralm:problem:not-implemented"
	typeUnexpected = "urn:seralm:problem:unexpected"
)

// Field says that one parameter or JSON field cannot be used.
func Field(field, detail, remedy string) *Problem {
	return &Problem{Type: typeField, Title: "A field cannot be used", Status: http.StatusBadRequest, Field: field, Detail: detail, Remedy: remedy}
}

// Body says that the body as a whole cannot be read.
func Body(detail, remedy string) *Problem {
	return &Problem{Type: typeBody, Title: "The body cannot be read", Status: http.StatusBadRequest, Field: "body", Detail: detail, Remedy: remedy}
}

// TooLarge says that the body is longer than limit bytes.
func TooLarge(limit int64) *Problem {
	return &Problem{
		Type: typeTooLarge, Title: "The body is too large", Status: http.StatusRequestEntityTooLarge, Field: "body",
		Detail: "it is longer than " + strconv.FormatInt(limit, 10) + " bytes",
		Remedy: "send less at once, or raise http.max_body_bytes",
	}
}

// NotFound says that nothing is there.
func NotFound(detail, remedy string) *Problem {
	return &Problem{Type: typeNotFound, Title: "There is nothing here", Status: http.StatusNotFound, Detail: detail, Remedy: remedy}
}

// Method says that the path exists, for other methods.
func Method(method, allow string) *Problem {
	return &Problem{
		Type: typeMethod, Title: "The method is not allowed", Status: http.StatusMethodNotAllowed,
		Detail: method + " is not possible on this path", Remedy: "use " + allow,
	}
}

// Unavailable says that something this answer needs cannot be reached now.
func Unavailable(detail, remedy string) *Problem {
	return &Problem{Type: typeUnready, Title: "Not available now", Status: http.StatusServiceUnavailable, Detail: detail, Remedy: remedy}
}

// Busy says that too much is waiting already.
func Busy(detail, remedy string) *Problem {
	return &Problem{Type: typeBusy, Title: "Too much at once", Status: http.StatusTooManyRequests, Detail: detail, Remedy: remedy}
}

// NotImplemented says that this process cannot do what others can.
func NotImplemented(detail, remedy string) *Problem {
	return &Problem{Type: typeNotHere, Title: "Not possible here", Status: http.StatusNotImplemented, Detail: detail, Remedy: remedy}
}

// Events says that none of n events can be used; results says why not, for each.
func Events(n int, results any) *Problem {
	return &Problem{
		Type: typeEvents, Title: "No event can be used", Status: http.StatusBadRequest, Results: results,
		Detail: "all " + strconv.Itoa(n) + " are refused", Remedy: "see results for what is wrong with each",
	}
}

// Unexpected is the answer of a request that met a bug.
func Unexpected(requestID string) *Problem {
	return &Problem{
		Type: typeUnexpected, Title: "Unexpected error", Status: http.StatusInternalServerError,
		Detail: "the request met a bug; it is logged as request " + requestID, Remedy: "report it with the request id",
	}
}

// Write answers the request with p.
func Write(w http.ResponseWriter, p *Problem) {
	body, err := json.Marshal(p)
	if err != nil {
		panic("BUG: a problem that cannot be encoded: " + err.Error())
	}
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // the client is gone; nobody is left to tell
}
