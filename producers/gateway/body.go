package gateway

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/segmentio/encoding/json"

	"seralm/serving/problem"
)

// kind is what the bodies of one route hold.
type kind struct {
	list    string // the member that holds a batch
	example string
}

var (
	interactions = kind{"events", `{"user": "u1", "item": "i1", "type": "click"}`}
	items        = kind{"items", `{"item": "i1", "title": "Heat"}`}
)

// ndjson is the media type of one event a line; any other is read as JSON.
const ndjson = "application/x-ndjson"

// readEvents reads the body of a POST and takes it apart. batch tells whether the
// client sent a list, and so expects an answer for each of its elements.
func (g *Gateway) readEvents(w http.ResponseWriter, r *http.Request, k kind) (events []json.RawMessage, batch bool, err error) {
	body, err := g.readBody(w, r)
	if err != nil {
		return nil, false, err
	}
	// A batch that can never be let in must not be told to try again.
	most := min(g.cfg.Gateway.MaxBatch, g.cfg.Gateway.MaxBuffered)
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media == ndjson {
		events, err = lines(body, k, most)
		return events, true, err
	}
	return elements(body, k, most)
}

func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.URL.RawQuery != "" {
		return nil, problem.Field("query string", "there are no parameters here", "leave it out")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, g.cfg.HTTP.MaxBodyBytes))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, problem.TooLarge(large.Limit)
	case err != nil:
		return nil, problem.Body("it ended early, or came too slowly", "send the whole body")
	}
	return body, nil
}

// check is made before anything of a body is decoded. encoding/json's Valid bounds
// the depth of nesting, where segmentio's decoder, which recurses, would overflow the
// stack and with it end the process. A byte that is no UTF-8 would be replaced, and
// two users become one.
func check(body []byte) error {
	switch {
	case !utf8.Valid(body):
		return errors.New("it is not valid UTF-8")
	case !stdjson.Valid(body):
		return errors.New("it is not valid JSON")
	}
	return nil
}

// elements takes a JSON body apart: one event, an array of them, or an object whose
// only member is such an array.
func elements(body []byte, k kind, most int) (events []json.RawMessage, batch bool, err error) {
	remedy := fmt.Sprintf(`send %s, an array of such, or {"%s": [...]}`, k.example, k.list)
	if err := check(body); err != nil {
		return nil, false, problem.Body(err.Error(), remedy)
	}
	body = bytes.TrimSpace(body)
	switch body[0] {
	case '[':
		events, err = array(body, k.list, most)
		return events, true, err
	case '{':
	default:
		return nil, false, problem.Body("it is neither a JSON object nor an array", remedy)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, false, problem.Body("it cannot be read", remedy)
	}
	list, ok := members[k.list]
	if !ok {
		return []json.RawMessage{body}, false, nil
	}
	for name := range members {
		if name != k.list {
			return nil, false, problem.Field(quotable(name), "there is no such field beside "+k.list, "leave it out")
		}
	}
	if list[0] != '[' {
		return nil, false, problem.Field(k.list, "it is not an array", remedy)
	}
	events, err = array(list, k.list, most)
	return events, true, err
}

// array returns the elements of a valid JSON array. It stops at one too many, so
// that a large body of small elements does not become a larger list.
func array(body []byte, name string, most int) ([]json.RawMessage, error) {
	var events []json.RawMessage
	for rest := bytes.TrimSpace(body[1:]); rest[0] != ']'; {
		if len(events) == most {
			return nil, tooMany(name, most)
		}
		var element json.RawMessage
		var err error
		if rest, err = json.Parse(rest, &element, json.ZeroCopy); err != nil {
			return nil, problem.Body("it cannot be read", "send valid JSON")
		}
		events = append(events, element)
		if rest = bytes.TrimSpace(rest); rest[0] == ',' {
			rest = rest[1:]
		}
	}
	return some(events, name)
}

func lines(body []byte, k kind, most int) ([]json.RawMessage, error) {
	var events []json.RawMessage
	n := 0
	for line := range bytes.Lines(body) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if len(events) == most {
			return nil, tooMany("body", most)
		}
		if err := check(line); err != nil {
			return nil, problem.Body(fmt.Sprintf("line %d: %s", n, err), "send one object a line, such as "+k.example)
		}
		events = append(events, line)
	}
	return some(events, "body")
}

func some(events []json.RawMessage, name string) ([]json.RawMessage, error) {
	if len(events) == 0 {
		return nil, problem.Field(name, "it holds nothing", "send at least one")
	}
	return events, nil
}

func tooMany(name string, most int) error {
	return problem.Field(name, fmt.Sprintf("it has more than %d elements", most), fmt.Sprintf("send at most %d at once", most))
}

// quotable shortens what a client sent before it is sent back.
func quotable(s string) string {
	const most = 64
	if s == "" {
		return `""`
	}
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
