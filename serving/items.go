package serving

import (
	"context"
	"net/http"
	"time"

	"seralm/serving/catalogue"
	"seralm/serving/problem"
)

// Bounds of a search and of a history's listing.
const (
	defaultFound = 20
	maxFound     = 100
	maxQuery     = 200
)

type itemAnswer struct {
	Item       string    `json:"item"`
	Title      string    `json:"title"`
	Categories []string  `json:"categories"`
	Hidden     bool      `json:"hidden"`
	Time       time.Time `json:"time"`
	Modelled   bool      `json:"modelled"` // the model has a row for it
	KnownBy    string    `json:"known_by,omitempty"`
}

func (s *Server) describe(item *catalogue.Item) itemAnswer {
	a := itemAnswer{Item: item.ID, Categories: []string{}}
	if e := item.Entry(); e != nil {
		a.Title, a.Hidden, a.Time = e.Title, e.Hidden, e.Time
		a.Categories = append(a.Categories, e.Categories...)
	}
	if m := s.scorer.Acquire(); m != nil {
		var row int32
		row, a.Modelled = m.Row(item.ID)
		a.KnownBy = knownBy(m, row)
		m.Release()
	}
	return a
}

func (s *Server) getItem(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("item")
	if err := checkName("item", id); err != nil {
		refuse(w, err)
		return
	}
	item, ok := s.items.Get(id)
	if ok {
		e := item.Entry()
		ok = e == nil || !e.Deleted
	}
	if !ok {
		problem.Write(w, problem.NotFound("no item with this id is known", "announce it with POST /v1/items"))
		return
	}
	writeJSON(w, http.StatusOK, s.describe(item))
}

type itemsAnswer struct {
	Items []itemAnswer `json:"items"`
}

func (s *Server) findItems(w http.ResponseWriter, r *http.Request) {
	values, err := parameters(r.URL, []string{"query", "n"})
	if err != nil {
		refuse(w, err)
		return
	}
	n, err := count(values, "n", defaultFound, maxFound)
	if err != nil {
		refuse(w, err)
		return
	}
	text := values.Get("query")
	if len(text) > maxQuery {
		refuse(w, problem.Field("query", "it is too long", "send at most 200 bytes"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Serving.Deadline)
	defer cancel()
	out := itemsAnswer{Items: []itemAnswer{}}
	select {
	// A search reads every title: one at a time, so that look-ups keep a core.
	case s.searches <- struct{}{}:
		for _, item := range s.items.Search(ctx, text, n) {
			out.Items = append(out.Items, s.describe(item))
		}
		<-s.searches
	case <-ctx.Done():
		problem.Write(w, problem.Unavailable("other searches are in progress", "try again"))
		return
	}
	writeJSON(w, http.StatusOK, out)
}

type historyAnswer struct {
	User  string        `json:"user"`
	Items []historyItem `json:"items"` // oldest first
}

type historyItem struct {
	Item  string `json:"item"`
	Title string `json:"title"`
}

func (s *Server) getHistory(w http.ResponseWriter, r *http.Request) {
	user := r.PathValue("user")
	values, err := parameters(r.URL, []string{"n"})
	if err != nil {
		refuse(w, err)
		return
	}
	n, err := count(values, "n", s.cfg.Histories.Length, s.cfg.Histories.Length)
	if err != nil {
		refuse(w, err)
		return
	}
	if err := checkName("user", user); err != nil {
		refuse(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Redis.Timeout)
	defer cancel()
	ids, err := s.views.History(ctx, user, n)
	if err != nil {
		problem.Write(w, problem.Unavailable("histories cannot be read now", "try again; recommendations are answered meanwhile"))
		return
	}
	out := historyAnswer{User: user, Items: make([]historyItem, len(ids))}
	for i, id := range ids {
		item, _ := s.items.Get(id)
		out.Items[i] = historyItem{id, title(item)}
	}
	writeJSON(w, http.StatusOK, out)
}
