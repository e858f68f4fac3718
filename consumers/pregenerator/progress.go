package pregenerator

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"seralm/stream"
)

// reportEach is how often people are told how far it is.
const reportEach = 30 * time.Second

// Progress is how far the writing is.
type Progress struct {
	Written int // texts, by this process
	Waiting int // items whose text is to be written
	Tokens  int // generated, by this process
	Items   int // known of, with and without knowledge
	Vectors int // titles and ready texts whose vectors are to be made
	// Ready: the log was read, title vectors are made; before, Waiting is not all that
	// waits.
	Ready bool
	// PerSecond is the rate of texts since the queue was last empty, Left what the
	// queue needs at it; 0 = not known.
	PerSecond, TokensPerSecond float64
	Left                       time.Duration
}

// progress counts what was written since the queue was last empty.
type progress struct {
	mu         sync.Mutex
	complained time.Time
	written    int
	tokens     int
	// Since the queue was last empty:
	began       time.Time
	texts, toks int
}

func (p *progress) mayComplain() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.complained) < complainEach {
		return false
	}
	p.complained = time.Now()
	return true
}

// begin starts a busy time, end ends it.
func (p *progress) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.began.IsZero() {
		p.began, p.texts, p.toks = time.Now(), 0, 0
	}
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began = time.Time{}
}

func (p *progress) wrote(texts, tokens int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written += texts
	p.tokens += tokens
	p.texts += texts
	p.toks += tokens
}

// Progress may be called at any time.
func (p *Pregenerator) Progress() Progress {
	var out Progress
	out.Waiting, _ = p.waits()
	if l := p.ledger.Load(); l != nil {
		out.Ready = l.isOpen()
		out.Items, out.Vectors = l.counts()
	}
	g := &p.progress
	g.mu.Lock()
	defer g.mu.Unlock()
	out.Written, out.Tokens = g.written, g.tokens
	if busy := time.Since(g.began).Seconds(); !g.began.IsZero() && g.texts > 0 && busy > 0 {
		out.PerSecond, out.TokensPerSecond = float64(g.texts)/busy, float64(g.toks)/busy
		out.Left = time.Duration(float64(out.Waiting) / out.PerSecond * float64(time.Second)).Round(time.Second)
	}
	return out
}

func (p *Pregenerator) waits() (int, time.Time) {
	if l := p.ledger.Load(); l != nil {
		return l.waits()
	}
	return 0, time.Time{}
}

// report tells how far it is while items wait.
func (s *session) report(ctx context.Context) error {
	tick := time.NewTicker(reportEach)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if p := s.Progress(); p.Waiting > 0 && p.Ready {
			s.Logger.Info("writing knowledge", "waiting", p.Waiting, "written", p.Written, "texts_per_minute", round(60*p.PerSecond),
				"tokens_per_second", round(p.TokensPerSecond), "left", p.Left)
		}
	}
}

func round(x float64) float64 { return float64(int(10*x+.5)) / 10 }

type metrics struct {
	texts   *prometheus.CounterVec
	refused *prometheus.CounterVec
	tokens  prometheus.Counter
	rate    prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, waits func() (int, time.Time)) *metrics {
	m := &metrics{
		texts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seralm_knowledge_published_total",
			Help: "Knowledge records published, by what they are: llm (a language model's text), title, import (its vector made again), removed.",
		}, []string{"origin"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seralm_knowledge_refused_total",
			Help: "Items and records that nothing is written for: invalid, empty (the item says nothing), full (knowledge.max_items), unanswered; and policies that are not rolled out, for their adapter is another's: policy.",
		}, []string{"reason"}),
		tokens: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "seralm_knowledge_tokens_total", Help: "Tokens that the language model generated.",
		}),
		rate: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "seralm_knowledge_tokens_per_second", Help: "Tokens a second of the last batch.",
		}),
	}
	for _, origin := range []stream.Origin{stream.OriginLLM, stream.OriginTitle, stream.OriginImport, removed} {
		m.texts.WithLabelValues(string(origin))
	}
	for _, reason := range []string{"invalid", "empty", "full", "unanswered", "policy"} {
		m.refused.WithLabelValues(reason)
	}
	reg.MustRegister(m.texts, m.refused, m.tokens, m.rate,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "seralm_knowledge_queue_items", Help: "Items that wait for a language model's text.",
		}, func() float64 { n, _ := waits(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "seralm_knowledge_queue_seconds", Help: "How long the first of the items that wait for a text has waited.",
		}, func() float64 {
			if _, since := waits(); !since.IsZero() {
				return time.Since(since).Seconds()
			}
			return 0
		}))
	return m
}

// removed is the label of a removal.
const removed stream.Origin = "removed"

func (m *metrics) published(results []result) {
	for _, r := range results {
		origin := r.know.Origin
		if r.due == removal {
			origin = removed
		}
		m.texts.WithLabelValues(string(origin)).Inc()
	}
}

func (m *metrics) wrote(tokens int, took time.Duration) {
	m.tokens.Add(float64(tokens))
	if took > 0 {
		m.rate.Set(float64(tokens) / took.Seconds())
	}
}
