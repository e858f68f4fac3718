package gateway

import (
	"maps"
	"net/http"
	"time"

	"github.com/segmentio/encoding/json"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/serving/problem"
	"seralm/stream"
)

// patchItem merges a patch (RFC 7396) into an item and writes it whole.
//
// One PATCH at a time is in progress, and each sees what this process wrote before
// it, so none of them undoes another. Processes know nothing of each other: where
// two write the same item at once, by PATCH or POST, both merge into what they have
// read, and the later record is what the item then is.
func (g *Gateway) patchItem(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("item")
	if err := (stream.Item{Item: id}).Validate(); err != nil {
		refuse(w, invalid(err))
		return
	}
	if g.current == nil {
		refuse(w, problem.NotImplemented("this process takes events only and does not know what the item is now",
			"POST the whole item to /v1/items, or send the PATCH to a process that answers look-ups"))
		return
	}
	body, err := g.readBody(w, r)
	if err != nil {
		refuse(w, err)
		return
	}
	patch, err := decodePatch(body)
	if err != nil {
		refuse(w, err)
		return
	}
	ctx, cancel := g.deadline()
	defer cancel()
	select {
	case g.patching <- struct{}{}:
		defer func() { <-g.patching }()
	case <-ctx.Done():
		refuse(w, problem.Unavailable("other items are being changed", "try again"))
		return
	}
	item, ok, err := g.current.Current(ctx, id, g.written())
	if err != nil {
		g.health.log.Warn("reading an item to be changed failed", "error", err)
		refuse(w, problem.Unavailable("what the item is now cannot be read", "try again, or POST the whole item to /v1/items"))
		return
	}
	if !ok {
		refuse(w, problem.NotFound("no item with this id is known", "announce it with POST /v1/items"))
		return
	}
	if err := merge(patch, &item); err != nil {
		refuse(w, err)
		return
	}
	g.take(ctx, w, []event{g.event(g.items, id, "", g.cfg.Gateway.Source, time.Now(), item)}, false)
}

func decodePatch(body []byte) (map[string]json.RawMessage, error) {
	const remedy = `send a JSON object such as {"title": "Heat", "text": null}`
	if err := check(body); err != nil {
		return nil, problem.Body(err.Error(), remedy)
	}
	var patch map[string]json.RawMessage
	if err := json.Unmarshal(body, &patch); err != nil || patch == nil {
		return nil, problem.Body("it is not a JSON object", remedy)
	}
	return patch, merge(patch, &stream.Item{})
}

// merge changes the fields of an item that a patch names. One that is null is
// emptied.
func merge(patch map[string]json.RawMessage, item *stream.Item) error {
	for name, value := range patch {
		var err error
		kind := "string"
		switch name {
		case "title":
			item.Title = ""
			err = json.Unmarshal(value, &item.Title)
		case "categories":
			item.Categories, kind = nil, "[]string"
			err = json.Unmarshal(value, &item.Categories)
		case "text":
			item.Text = ""
			err = json.Unmarshal(value, &item.Text)
		case "hidden":
			item.Hidden, kind = false, "bool"
			err = json.Unmarshal(value, &item.Hidden)
		default:
			return problem.Field(quotable(name), "there is no such field to change", "use title, categories, text, hidden")
		}
		if err != nil {
			return problem.Field(name, "it is of another type", "send "+expected(kind)+", or null to empty it")
		}
	}
	return nil
}

// deleteItem writes the record that deletes an item, whether or not it is known: a
// second DELETE does no harm, and the log may know more than we do.
func (g *Gateway) deleteItem(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := g.deadline()
	defer cancel()
	g.take(ctx, w, []event{g.event(g.items, r.PathValue("item"), "", g.cfg.Gateway.Source, time.Now(), nil)}, false)
}

// remember keeps how far this process has written the items topic.
func (g *Gateway) remember(rec *kgo.Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wrote[rec.Partition] = rec.Offset
}

func (g *Gateway) written() map[int32]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.wrote)
}
