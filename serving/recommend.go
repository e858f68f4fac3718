package serving

import (
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/encoding/json"

	"seralm/serving/problem"
)

func (s *Server) recommendUser(w http.ResponseWriter, r *http.Request) {
	q, err := readParameters(r, s.limits)
	if err != nil {
		refuse(w, err)
		return
	}
	s.recommend(w, r, q)
}

func (s *Server) recommendQuery(w http.ResponseWriter, r *http.Request) {
	q, err := readQuery(w, r, s.cfg.HTTP.MaxBodyBytes, s.limits)
	if err != nil {
		refuse(w, err)
		return
	}
	s.recommend(w, r, q)
}

func (s *Server) recommend(w http.ResponseWriter, r *http.Request, q *query) {
	a := s.lookups.look(r.Context(), q)
	if r.Context().Err() == nil { // else the client has gone, and nothing is shown
		s.impressions.offer(a, time.Now())
	}
	writeJSON(w, http.StatusOK, a)
}

var bodies = sync.Pool{New: func() any { return new([]byte) }}

// maxKeptBody bounds what one answer leaves in the pool.
const maxKeptBody = 256 << 10

// writeJSON answers with v, which must be encodable.
func writeJSON(w http.ResponseWriter, status int, v any) {
	buffer := bodies.Get().(*[]byte)
	body, err := json.Append((*buffer)[:0], v, json.SortMapKeys)
	if err != nil {
		panic("BUG: an answer that cannot be encoded: " + err.Error())
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store") // every answer has its own recommendation id
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone; nobody is left to tell
	if cap(body) <= maxKeptBody {
		*buffer = body
		bodies.Put(buffer)
	}
}

// refuse answers with the problem that a parser returned.
func refuse(w http.ResponseWriter, err error) {
	var p *problem.Problem
	if !errors.As(err, &p) {
		panic("BUG: a parser returned " + err.Error())
	}
	problem.Write(w, p)
}
