package gateway

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/segmentio/encoding/json"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/serving/problem"
)

// What became of an event.
const (
	accepted    = "accepted"    // the log has it
	refused     = "refused"     // it is invalid, and not in the log
	unconfirmed = "unconfirmed" // the log did not answer in time: it may have it or not
	busy        = "busy"        // too many waited; not in the log
)

// result is what became of one event of a batch.
type result struct {
	Index  int    `json:"index"`
	ID     string `json:"id,omitempty"`
	Status string `json:"status"`
	Field  string `json:"field,omitempty"`
	Detail string `json:"detail,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

type acceptedAnswer struct {
	Accepted int      `json:"accepted"`
	IDs      []string `json:"ids"` // in the order of the request
}

type partlyAnswer struct {
	Accepted int      `json:"accepted"`
	Results  []result `json:"results"`
}

// take writes the valid events of a request and answers it.
func (g *Gateway) take(ctx context.Context, w http.ResponseWriter, events []event, batch bool) {
	var records []*kgo.Record
	for i := range events {
		if events[i].record != nil {
			records = append(records, events[i].record)
		}
	}
	g.events.WithLabelValues(refused).Add(float64(len(events) - len(records)))
	confirmed, ok := g.deliver(ctx, records)
	if !ok {
		g.events.WithLabelValues(busy).Add(float64(len(records)))
		problem.Write(w, problem.Busy("too many events wait for the log; none of this request was written", "send the request again after Retry-After seconds"))
		return
	}
	results, n := outcomes(events, confirmed)
	g.events.WithLabelValues(accepted).Add(float64(n))
	g.events.WithLabelValues(unconfirmed).Add(float64(len(records) - n))
	switch {
	case n == len(events):
		ids := make([]string, n)
		for i := range events {
			ids[i] = events[i].id
		}
		write(w, http.StatusOK, acceptedAnswer{n, ids})
	case n > 0:
		write(w, http.StatusMultiStatus, partlyAnswer{n, results})
	case len(records) > 0:
		problem.Write(w, problem.Unavailable("the log did not confirm the events in time; some may be written nevertheless",
			"send the request again after Retry-After seconds; an event that has an id is counted once"))
	case batch:
		problem.Write(w, problem.Events(len(events), results))
	default:
		problem.Write(w, events[0].why)
	}
}

// outcomes says what became of every event, and counts the accepted ones. confirmed
// tells it of the events that have a record, in their order.
func outcomes(events []event, confirmed []bool) (results []result, n int) {
	results = make([]result, len(events))
	overtaken := map[string]bool{} // keys with an unconfirmed event
	for i, ev := range events {
		r := result{Index: i, ID: ev.id}
		if ev.record == nil {
			r.Status, r.Field, r.Detail, r.Remedy = refused, ev.why.Field, ev.why.Detail, ev.why.Remedy
			results[i] = r
			continue
		}
		key := string(ev.record.Key)
		switch {
		case !confirmed[0]:
			overtaken[key] = true
			r.Status, r.Detail, r.Remedy = unconfirmed, "the log did not confirm it in time", "send it again with the same id"
		case overtaken[key]:
			n++
			r.Status, r.Detail = accepted, "an earlier event of the same user or item is unconfirmed; sent again, it comes after this one"
		default:
			n++
			r.Status = accepted
		}
		confirmed = confirmed[1:]
		results[i] = r
	}
	return results, n
}

func write(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("BUG: an answer that cannot be encoded: " + err.Error())
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone; nobody is left to tell
}

// refuse answers with the problem that a parser returned.
func refuse(w http.ResponseWriter, err error) {
	var p *problem.Problem
	if !errors.As(err, &p) {
		panic("BUG: a parser returned " + err.Error())
	}
	problem.Write(w, p)
}
