package serving

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"seralm/config"
	"seralm/models/vocab"
	"seralm/serving/catalogue"
	"seralm/serving/ranking"
	"seralm/serving/scorer"
)

// Sources of an answer, best first. An answer has the source of its first item;
// when that source could not fill it, the rest comes from popular.
const (
	sourcePersonalised = "personalised" // the model, given the user's history
	sourceSession      = "session"      // the model, given what the request brought
	sourceSimilar      = "similar"      // like the user's last item
	sourcePopular      = "popular"      // what everybody likes
	sourceNone         = "none"         // nothing may be shown
)

var sources = []string{sourcePersonalised, sourceSession, sourceSimilar, sourcePopular, sourceNone}

// Histories tells what a user did: item ids, oldest first, at most the newest n.
type Histories interface {
	History(ctx context.Context, user string, n int) ([]string, error)
}

// models gives the model that look-ups use now, or nil.
type models interface {
	Acquire() *scorer.Model
}

// answer is what a look-up returns.
type answer struct {
	ID     string       `json:"recommendation_id"`
	User   string       `json:"user,omitempty"`
	Model  *modelName   `json:"model"` // nil: no model was there
	Source string       `json:"source"`
	Items  []answerItem `json:"items"`
}

type modelName struct {
	Name      string    `json:"name"`
	Epoch     int64     `json:"epoch"`
	Step      int64     `json:"step"`
	Watermark time.Time `json:"watermark"` // the newest event it has learnt
}

type answerItem struct {
	Item    string   `json:"item"`
	Title   string   `json:"title"`
	Score   float32  `json:"score"`
	Source  string   `json:"source"`
	KnownBy string   `json:"known_by,omitempty"`
	Because *because `json:"because,omitempty"`
}

// byText is what an item is known by that the model has not learnt.
const byText = "text"

// knownBy says what the item at a row is known by, if not by what the model has learnt.
func knownBy(m *scorer.Model, row int32) string {
	if m.KnownByText(row) {
		return byText
	}
	return ""
}

type because struct {
	Item  string `json:"item"`
	Title string `json:"title"`
}

// lookups answers queries. It is safe for concurrent use.
type lookups struct {
	cfg       config.Serving
	histories Histories
	length    int // of a stored history
	models    models
	items     *catalogue.Catalogue
	popular   *popular
	log       *slog.Logger

	slots chan struct{} // one token per scoring in progress
	blind atomic.Bool   // histories could not be read the last time
	works sync.Pool

	answered  *prometheus.CounterVec
	seconds   prometheus.Histogram
	unread    prometheus.Counter
	unscored  prometheus.Counter
	overtaken prometheus.Counter
}

func newLookups(cfg config.Config, h Histories, m models, items *catalogue.Catalogue, p *popular, reg prometheus.Registerer, log *slog.Logger) *lookups {
	concurrency := cfg.Serving.Concurrency
	if concurrency == 0 {
		concurrency = runtime.GOMAXPROCS(0)
	}
	l := &lookups{
		cfg: cfg.Serving, histories: h, length: cfg.Histories.Length, models: m, items: items, popular: p, log: log,
		slots: make(chan struct{}, concurrency),
		answered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seralm_serving_lookups_total", Help: "Look-ups answered, by the source of the answer.",
		}, []string{"source"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "seralm_serving_lookup_seconds", Help: "Time of a look-up, without HTTP.",
			Buckets: []float64{.00005, .0001, .0002, .0003, .0005, .001, .002, .005, .01, .02, .05, .1, .5},
		}),
		unread: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "seralm_serving_history_errors_total", Help: "Look-ups that went on without the user's history because it could not be read in time.",
		}),
		unscored: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "seralm_serving_score_errors_total", Help: "Look-ups that the model failed to score.",
		}),
		overtaken: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "seralm_serving_overloads_total", Help: "Look-ups whose deadline passed while they waited for their turn to be scored.",
		}),
	}
	l.works.New = func() any {
		return &work{rules: rules{blocked: map[string]struct{}{}}, wanted: map[string]struct{}{}}
	}
	for _, source := range sources {
		l.answered.WithLabelValues(source)
	}
	reg.MustRegister(l.answered, l.seconds, l.unread, l.unscored, l.overtaken)
	return l
}

// work is the memory of one look-up, used again by later ones. Nothing of it may
// be referred to by an answer but strings.
type work struct {
	query  *query
	seen   []string // the history, oldest first
	rows   []int32  // its rows
	rules  rules
	wanted map[string]struct{} // memory of rules.candidates
	top    ranking.Top
}

// look answers q. It never fails: what cannot be had in time is replaced by the
// next lesser source.
func (l *lookups) look(ctx context.Context, q *query) *answer {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Deadline)
	defer cancel()
	a := &answer{ID: ulid.Make().String(), User: q.User, Items: make([]answerItem, 0, q.N)}
	w := l.begin(q)
	defer l.end(w)

	given := len(q.History) > 0
	stored := l.history(ctx, w)
	m := l.models.Acquire()
	if m != nil {
		defer m.Release()
		name := nameOf(m.Manifest)
		a.Model = &name
		source := sourcePersonalised
		if given || !stored {
			source = sourceSession
		}
		l.scored(ctx, m, w, a, source)
	}
	if len(a.Items) < q.N {
		l.fill(m, w, a)
	}
	a.Source = sourceNone
	if len(a.Items) > 0 {
		a.Source = a.Items[0].Source
	}
	l.answered.WithLabelValues(a.Source).Inc()
	l.seconds.Observe(time.Since(start).Seconds())
	return a
}

func (l *lookups) begin(q *query) *work {
	w := l.works.Get().(*work)
	w.query = q
	w.rules.unannounced, w.rules.categories = l.cfg.Unannounced, q.Categories
	return w
}

func (l *lookups) end(w *work) {
	clear(w.rules.blocked)
	clear(w.wanted)
	clear(w.seen)
	w.query, w.rules.candidates, w.rules.categories = nil, nil, nil
	w.seen, w.rows = w.seen[:0], w.rows[:0]
	l.works.Put(w)
}

// history puts what the user did into w.seen and reports whether any of it was
// stored.
func (l *lookups) history(ctx context.Context, w *work) (stored bool) {
	q := w.query
	switch {
	case len(q.History) > 0:
		w.seen = append(w.seen, q.History...)
	case q.User != "":
		items, err := l.stored(ctx, q.User)
		if err == nil && len(items) > 0 {
			stored = true
			w.seen = append(w.seen, items...)
		}
	}
	if len(q.Session) > 0 {
		// The session's events may have been stored already: their place is its end.
		w.seen = slices.DeleteFunc(w.seen, func(id string) bool { return slices.Contains(q.Session, id) })
		w.seen = append(w.seen, q.Session...)
	}
	return stored
}

// stored reads the user's history from the views within its deadline.
func (l *lookups) stored(ctx context.Context, user string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.HistoryDeadline)
	defer cancel()
	items, err := l.histories.History(ctx, user, l.length)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return nil, err // who asked has gone, which says nothing about the histories
	}
	if err != nil {
		l.unread.Inc()
		if !l.blind.Swap(true) { // once per outage, not once per look-up
			l.log.Warn("histories cannot be read, look-ups are not personalised", "error", err)
		}
		return nil, err
	}
	if l.blind.Load() && l.blind.Swap(false) {
		l.log.Info("histories can be read again")
	}
	return items, nil
}

// scored appends the model's answer to a, if there is a history to score and a
// turn to score it in time.
func (l *lookups) scored(ctx context.Context, m *scorer.Model, w *work, a *answer, source string) {
	last := int32(vocab.Unknown)
	for _, id := range w.seen {
		row, ok := m.Row(id)
		if ok {
			last = row
		}
		w.rows = append(w.rows, row)
	}
	newest := w.rows[max(0, len(w.rows)-m.MaxLen()):]
	if !slices.ContainsFunc(newest, func(row int32) bool { return row >= vocab.FirstItem }) {
		return // the model knows nothing of this user
	}
	if !l.turn(ctx) {
		l.overtaken.Inc()
		return
	}
	defer func() { <-l.slots }()
	buffer := m.Buffer()
	defer m.Recycle(buffer)
	scores := *buffer

	err := m.Score(newest, scores)
	if err == nil {
		w.rank(m, scores)
		l.append(m, w, a, source)
		return
	}
	l.unscored.Inc()
	l.log.Error("a look-up could not be scored", "error", err)
	if err := m.Similar(ctx, last, scores); err != nil {
		return // out of time
	}
	w.rank(m, scores)
	l.append(m, w, a, sourceSimilar)
}

// turn waits for one of the slots for scoring until ctx ends.
func (l *lookups) turn(ctx context.Context) bool {
	select {
	case l.slots <- struct{}{}:
		return true
	default:
	}
	select {
	case l.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// append adds the ranked rows of w to a.
func (l *lookups) append(m *scorer.Model, w *work, a *answer, source string) {
	for _, s := range w.top.Sorted() {
		item := m.Item(s.Row)
		add := answerItem{Item: item.ID, Title: item.Title(), Score: s.Score, Source: source, KnownBy: knownBy(m, s.Row)}
		if w.query.Explain {
			if near := m.Nearest(s.Row, w.rows); near >= vocab.FirstItem {
				add.Because = &because{m.Item(near).ID, m.Item(near).Title()}
			}
		}
		a.Items = append(a.Items, add)
	}
}

// fill adds popular items to a until it is full or there are no more.
func (l *lookups) fill(m *scorer.Model, w *work, a *answer) {
	q := w.query
	if q.excludeSeen() {
		block(w.rules.blocked, w.seen)
	}
	block(w.rules.blocked, q.Exclude)
	for i := range a.Items {
		w.rules.blocked[a.Items[i].Item] = struct{}{}
	}
	if q.Candidates != nil {
		w.rules.candidates = w.wanted
		block(w.wanted, q.Candidates)
	}
	for _, p := range l.popular.items() {
		if len(a.Items) == q.N {
			return
		}
		item, _ := l.items.Get(p.Item)
		if w.rules.admits(p.Item, item) {
			a.Items = append(a.Items, answerItem{Item: p.Item, Title: title(item), Score: float32(p.Score), Source: sourcePopular})
			w.rules.blocked[p.Item] = struct{}{}
		}
	}
	if m == nil {
		return
	}
	// The view is young, or what is popular is not what was asked for (a rare
	// category, say): the model knows more items.
	for _, p := range m.Popular() {
		if len(a.Items) == q.N {
			return
		}
		if item := m.Item(p.Row); w.rules.admits(item.ID, item) {
			a.Items = append(a.Items, answerItem{Item: item.ID, Title: item.Title(), Score: p.Score, Source: sourcePopular, KnownBy: knownBy(m, p.Row)})
		}
	}
}

func block(set map[string]struct{}, ids []string) {
	for _, id := range ids {
		set[id] = struct{}{}
	}
}

func title(item *catalogue.Item) string {
	if item == nil {
		return ""
	}
	return item.Title()
}
