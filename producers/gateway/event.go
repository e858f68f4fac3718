package gateway

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/segmentio/encoding/json"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/serving/problem"
	"seralm/stream"
)

// event is one event of a request: a record to be written, or why there is none.
type event struct {
	id     string
	record *kgo.Record
	why    *problem.Problem
}

type interactionBody struct {
	ID               string   `json:"id"`
	Source           string   `json:"source"`
	User             string   `json:"user"`
	Item             string   `json:"item"`
	Type             string   `json:"type"`
	Value            *float64 `json:"value"`
	Time             *string  `json:"time"`
	Seq              uint64   `json:"seq"`
	Session          string   `json:"session"`
	RecommendationID string   `json:"recommendation_id"`
}

func (g *Gateway) interaction(body []byte, now time.Time) event {
	b := interactionBody{Source: g.cfg.Gateway.Source, Type: "click"}
	if err := decode(body, &b, interactions); err != nil {
		return event{id: b.ID, why: err}
	}
	t, err := g.time(b.Time, now)
	if err != nil {
		return event{id: b.ID, why: err}
	}
	return g.event(g.interactions, b.User, b.ID, b.Source, t, stream.Interaction{
		User: b.User, Item: b.Item, Type: b.Type, Value: b.Value, Seq: b.Seq,
		Session: b.Session, RecommendationID: b.RecommendationID,
	})
}

type itemBody struct {
	Item       string   `json:"item"`
	Title      string   `json:"title"`
	Categories []string `json:"categories"`
	Text       string   `json:"text"`
	Hidden     bool     `json:"hidden"`
	Time       *string  `json:"time"`
}

func (g *Gateway) item(body []byte, now time.Time) event {
	var b itemBody
	if err := decode(body, &b, items); err != nil {
		return event{why: err}
	}
	t, err := g.time(b.Time, now)
	if err != nil {
		return event{why: err}
	}
	return g.event(g.items, b.Item, "", g.cfg.Gateway.Source, t, stream.Item{
		Item: b.Item, Title: b.Title, Categories: b.Categories, Text: b.Text, Hidden: b.Hidden,
	})
}

// event makes the record of an event. The log's own rules decide what is valid, so
// that nothing is accepted here that a consumer would set aside.
func (g *Gateway) event(topic, key, id, source string, t time.Time, body any) event {
	if id == "" {
		id = ulid.Make().String()
	}
	rec, err := stream.NewRecord(topic, key, id, source, t, body)
	if err != nil {
		return event{id: id, why: invalid(err)}
	}
	if size(rec) > stream.MaxRecordBytes {
		return event{id: id, why: problem.Field("text", "with its escapes, the event is larger than a record of the log may be", "send a shorter text")}
	}
	return event{id: id, record: rec}
}

// size is what a record takes in a batch of its own, or a little more.
func size(rec *kgo.Record) int {
	n := 256 + len(rec.Key) + len(rec.Value)
	for _, h := range rec.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// time is when an event happened. A clock that runs ahead is refused: the event
// would be the newest of its user until the rest of the world caught up.
func (g *Gateway) time(text *string, now time.Time) (time.Time, *problem.Problem) {
	if text == nil {
		return now, nil
	}
	t, err := time.Parse(time.RFC3339, *text)
	if err != nil {
		return t, problem.Field("time", "it is not an RFC 3339 time", "send one such as 2026-01-31T12:00:00.000Z, or none for now")
	}
	if most := g.cfg.Gateway.MaxFuture; t.Sub(now) > most {
		return t, problem.Field("time", fmt.Sprintf("it is more than %s ahead of this server's clock", most), "set your clock, or send no time for now")
	}
	return t, nil
}

// decode reads one event, of valid JSON, strictly: a misspelt field must not be
// taken for one that was left out.
func decode(body []byte, into any, k kind) *problem.Problem {
	if body[0] != '{' {
		return problem.Field("event", "it is not a JSON object", "send one such as "+k.example)
	}
	_, err := json.Parse(body, into, json.DisallowUnknownFields|json.DontMatchCaseInsensitiveStructFields)
	if err == nil {
		return nil
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return problem.Field(wrong.Field, "it is of another type, or out of bounds", "send "+expected(wrong.Type.String()))
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if plain, err := strconv.Unquote(name); err == nil {
			name = plain
		}
		return problem.Field(quotable(name), "there is no such field", "leave it out; GET /openapi.yaml lists the fields")
	}
	return problem.Field("event", "it cannot be read", "send one such as "+k.example)
}

// expected names a Go type as a client knows it.
func expected(kind string) string {
	switch kind {
	case "float64":
		return "a finite number"
	case "uint64":
		return "a whole number from 0 to 18446744073709551615"
	case "bool":
		return "true or false"
	case "[]string":
		return "an array of strings"
	}
	return "a string"
}

// invalid tells a client which rule of the log an event breaks.
func invalid(err error) *problem.Problem {
	var broken *stream.InvalidError
	if !errors.As(err, &broken) {
		panic("BUG: an event that cannot be encoded: " + err.Error())
	}
	field, remedy := broken.Field, fmt.Sprintf("send 1 to %d bytes of printable UTF-8", stream.MaxName)
	switch field {
	case stream.HeaderID:
		field = "id"
	case stream.HeaderSource:
		field = "source"
	case "value":
		remedy = "send a finite number"
	case "time":
		remedy = "send an RFC 3339 time between the years 1970 and 9999"
	case "title":
		remedy = fmt.Sprintf("send at most %d bytes", stream.MaxTitle)
	case "text":
		remedy = fmt.Sprintf("send at most %d bytes", stream.MaxText)
	case "categories":
		remedy = fmt.Sprintf("send at most %d, each of %s", stream.MaxCategories, strings.TrimPrefix(remedy, "send "))
	}
	return problem.Field(field, broken.Reason, remedy)
}
