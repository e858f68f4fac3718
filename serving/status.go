package serving

import (
	"fmt"
	"net/http"
	"time"

	"seralm/models/snapshot"
)

// missing is one thing that readiness waits for.
type missing struct {
	Check  string `json:"check"`
	Detail string `json:"detail"`
}

type readiness struct {
	Ready   bool      `json:"ready"`
	Missing []missing `json:"missing"` // empty when ready
}

// readiness tells whether look-ups get the answers they should: whether all that they are
// made of has been read. An unready server answers them nevertheless, from a lesser
// source. How old the model is has no part in it: all servers follow one trainer, and
// would leave the load balancer together, with the events that they take.
func (s *Server) readiness() readiness {
	out := readiness{Missing: []missing{}}
	lack := func(check, detail string, args ...any) {
		out.Missing = append(out.Missing, missing{check, fmt.Sprintf(detail, args...)})
	}
	if !s.itemsRead.Load() {
		lack("catalogue", "the items topic has not been read to its end yet")
	}
	state := s.scorer.State()
	m := s.scorer.Acquire()
	switch {
	case m == nil && !state.CaughtUp:
		lack("snapshot", "the snapshots topic has not been read to its end yet")
	case m == nil && state.Trouble != "":
		lack("snapshot", "the last snapshot cannot be used: %s", state.Trouble)
	case m == nil:
		lack("snapshot", "no snapshot of model %q has been published yet; is a trainer running?", s.cfg.Recommender.Name)
	default:
		defer m.Release()
		if !state.Knowing {
			lack("knowledge", "the knowledge topic has not been read to its end yet; items that only a text is known of are not recommended before (may this user read the topic?)")
		}
	}
	out.Ready = len(out.Missing) == 0
	return out
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	r, status := s.readiness(), http.StatusOK
	if !r.Ready {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, r)
}

// status is what people and dashboards ask for.
type status struct {
	Version   string           `json:"version,omitempty"`
	Ready     bool             `json:"ready"`
	Missing   []missing        `json:"missing"`
	Model     *modelStatus     `json:"model"` // nil before the first snapshot
	Lag       *lagStatus       `json:"lag"`   // nil while it is not known
	Catalogue catalogueStatus  `json:"catalogue"`
	Knowledge *knowledgeStatus `json:"knowledge"` // nil when the model has no use for it
	Progress  []progress       `json:"progress"`  // versions in use since the start, oldest first
	Users     []string         `json:"users"`     // users the page suggests
}

type modelStatus struct {
	modelName
	Created      time.Time          `json:"created"`
	AgeSeconds   float64            `json:"age_seconds"`
	Items        int                `json:"items"` // items that it has learnt
	Architecture architecture       `json:"architecture"`
	Metrics      map[string]float64 `json:"metrics"` // as published with the snapshot
	Trouble      string             `json:"trouble,omitempty"`
}

type architecture struct {
	Name   string `json:"name"`
	Dim    int    `json:"dim"`
	Layers int    `json:"layers"`
	Heads  int    `json:"heads"`
	MaxLen int    `json:"max_len"`
}

type lagStatus struct {
	Events int64 `json:"events"` // interactions that the model has not learnt
}

type catalogueStatus struct {
	Items   int `json:"items"`
	Limit   int `json:"limit"`
	Refused int `json:"refused"`
}

type knowledgeStatus struct {
	ByText  int        `json:"by_text"` // items that look-ups know by their text alone
	Vectors int        `json:"vectors"`
	Limit   int        `json:"limit"`
	Refused int        `json:"refused"`
	Newest  *time.Time `json:"newest"` // nil before the first
}

type progress struct {
	Epoch     int64              `json:"epoch"`
	Step      int64              `json:"step"`
	Watermark time.Time          `json:"watermark"`
	Created   time.Time          `json:"created"`
	Metrics   map[string]float64 `json:"metrics"`
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	now := time.Now()
	ready, size := s.readiness(), s.items.Size()
	out := status{
		Version: s.version, Ready: ready.Ready, Missing: ready.Missing,
		Catalogue: catalogueStatus{size.Items, size.Limit, size.Refused},
		Progress:  []progress{}, Users: s.users,
	}
	if m := s.scorer.Acquire(); m != nil {
		defer m.Release()
		a := m.Manifest.Architecture
		out.Model = &modelStatus{
			modelName: nameOf(m.Manifest),
			Created:   m.Manifest.Created, AgeSeconds: now.Sub(m.Manifest.Created).Seconds(),
			Items: m.Items(), Metrics: present(m.Manifest.Metrics), Trouble: s.scorer.State().Trouble,
			Architecture: architecture{a.Name, a.Dim, a.Layers, a.Heads, a.MaxLen},
		}
		if events, known := s.lag.unlearned(m.Manifest); known {
			out.Lag = &lagStatus{events}
		}
	}
	if k, ok := s.scorer.Knowledge(); ok {
		out.Knowledge = &knowledgeStatus{k.ByText, k.Vectors, k.Limit, k.Refused, nil}
		if !k.Newest.IsZero() {
			out.Knowledge.Newest = &k.Newest
		}
	}
	for _, p := range s.scorer.Progress() {
		out.Progress = append(out.Progress, progress{p.Epoch, p.Step, p.Watermark, p.Created, present(p.Metrics)})
	}
	writeJSON(w, http.StatusOK, out)
}

func nameOf(m snapshot.Manifest) modelName {
	return modelName{m.Model, m.Epoch, m.Step, m.Watermark}
}

// present makes an absent map an empty JSON object.
func present(m map[string]float64) map[string]float64 {
	if m == nil {
		return map[string]float64{}
	}
	return m
}
