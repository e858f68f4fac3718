package scorer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"seralm/config"
	"seralm/models/snapshot"
	"seralm/serving/catalogue"
	"seralm/stream"
)

// remembered is how many loaded versions Progress tells about.
const remembered = 256

// Outcomes of an arriving snapshot, as counted.
const (
	swapped  = "swapped"  // look-ups use it now
	refused  = "refused"  // it is older than the one in use
	rejected = "rejected" // it is damaged, or computes something else than the trainer did
)

// Why a snapshot is not loaded although nothing is wrong with it.
var (
	errOlder = errors.New("it is older than the one in use")
	errSame  = errors.New("it is the one in use")
)

// candidate is a complete snapshot that is not loaded yet.
type candidate struct {
	blob    *stream.Blob
	version snapshot.Version
}

// Point is one version that look-ups used.
type Point struct {
	Epoch, Step        int64
	Watermark, Created time.Time
	Metrics            map[string]float64 // as the trainer published them
}

// Scorer holds the model that look-ups use now.
type Scorer struct {
	kafka     config.Kafka
	name      string // of the model, the key of its snapshots
	tolerance float64
	rollback  bool
	build     Build
	items     *catalogue.Catalogue
	log       *slog.Logger
	limit     int // of items with a vector
	outcomes  *prometheus.CounterVec
	knowledge *prometheus.CounterVec
	tables    prometheus.Histogram

	building sync.Mutex // held while a successor of current is made
	current  atomic.Pointer[Model]
	caughtUp atomic.Bool
	closing  sync.WaitGroup

	texts   atomic.Pointer[texts] // nil before the knowledge topic was read
	knowing atomic.Bool           // look-ups know what it held, or knew a model without use for it
	stale   chan struct{}         // holds a token while the table in use may be out of date

	mu       sync.Mutex
	pending  *candidate    // the newest one that is not loaded yet
	earlier  []*candidate  // before it, oldest first, while there is no model: if it cannot be used, one of them may
	arrived  chan struct{} // holds a token while pending may be set
	progress []Point
	trouble  string // what became of the last snapshot, if it could not be used

	complaints map[complaint]struct{}
}

// New returns a scorer without a model. build is usually ONNX.
func New(cfg config.Config, build Build, items *catalogue.Catalogue, reg prometheus.Registerer, log *slog.Logger) *Scorer {
	s := &Scorer{
		kafka: cfg.Kafka, name: cfg.Recommender.Name,
		tolerance: cfg.Serving.ProbeTolerance, rollback: cfg.Serving.AllowRollback,
		build: build, items: items, limit: cfg.Serving.Catalogue, log: log,
		arrived: make(chan struct{}, 1), stale: make(chan struct{}, 1), complaints: map[complaint]struct{}{},
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seralm_serving_swaps_total", Help: "Snapshots that arrived, by what became of them.",
		}, []string{"result"}),
		knowledge: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seralm_serving_knowledge_records_total",
			Help: "Records of the knowledge topic, by what became of them: kept, misfit (kept, but the model in use cannot make a row of its vector), removed, full (no room), invalid.",
		}, []string{"result"}),
		tables: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "seralm_serving_table_seconds", Help: "Time to make the item table anew because knowledge arrived.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5},
		}),
	}
	for _, result := range []string{kept, misfit, removed, full, invalid} {
		s.knowledge.WithLabelValues(result)
	}
	for _, outcome := range []string{swapped, refused, rejected} {
		s.outcomes.WithLabelValues(outcome)
	}
	reg.MustRegister(s.outcomes, s.knowledge, s.tables,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "seralm_serving_text_rows", Help: "Items that look-ups know by their text alone.",
		}, func() float64 {
			if m := s.current.Load(); m != nil {
				return float64(m.ByText())
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "seralm_serving_snapshot_age_seconds", Help: "Time since the model in use was published.",
		}, func() float64 {
			return s.gauge(func(m snapshot.Manifest) float64 { return time.Since(m.Created).Seconds() })
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "seralm_serving_snapshot_step", Help: "Training step of the model in use.",
		}, func() float64 {
			return s.gauge(func(m snapshot.Manifest) float64 { return float64(m.Step) })
		}))
	return s
}

func (s *Scorer) gauge(of func(snapshot.Manifest) float64) float64 {
	if m := s.current.Load(); m != nil {
		return of(m.Manifest)
	}
	return 0
}

// Acquire returns the current model, to be given back with Release, or nil before
// the first.
func (s *Scorer) Acquire() *Model {
	for {
		m := s.current.Load()
		if m == nil || m.acquire() {
			return m
		}
		// It was retired since the Load, so its successor is in place.
	}
}

// State is what readiness asks about.
type State struct {
	CaughtUp bool   // the topic has been read to its end once
	Trouble  string // why the last snapshot could not be used; "" if it could
	// Knowing says that look-ups know what the knowledge topic held at the start, or
	// that the model has no use for it. Once true it stays: a model that is the first
	// with a use for it serves no fewer items than the one before.
	Knowing bool
}

// State returns how far the scorer is.
func (s *Scorer) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return State{CaughtUp: s.caughtUp.Load(), Trouble: s.trouble, Knowing: s.knowing.Load()}
}

// Progress returns the versions that look-ups used, oldest first, the last ones
// of them if they are many.
func (s *Scorer) Progress() []Point {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Point(nil), s.progress...)
}

// Run follows the snapshots topic until ctx ends or the topic cannot be read.
func (s *Scorer) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.follow(ctx) })
	group.Go(func() error { return s.loadEach(ctx) })
	return group.Wait()
}

// Close retires the model and waits until its last look-up has ended.
func (s *Scorer) Close() {
	s.building.Lock()
	s.swap(nil)
	s.building.Unlock()
	s.closing.Wait()
}

func (s *Scorer) follow(ctx context.Context) error {
	chunks := stream.NewChunkReader(stream.MaxIncomplete)
	topic := stream.NamesOf(s.kafka.TopicPrefix).Snapshots()
	err := stream.Follow(ctx, s.kafka, topic, func(rec *kgo.Record) error {
		if !strings.HasPrefix(string(rec.Key), s.name+"/") {
			return nil // another model's
		}
		blob, err := chunks.Add(rec)
		if err != nil {
			s.reject("", err)
		} else if blob != nil {
			s.offer(blob)
		}
		return nil
	}, func() {
		s.caughtUp.Store(true)
		s.wake()
	})
	if err != nil {
		return fmt.Errorf("following topic %q: %w", topic, err)
	}
	return nil
}

// mostEarlier bounds the snapshots that wait behind the newest: with it, as many as a
// trainer keeps in the topic by default.
const mostEarlier = 3

// offer makes blob the next to load, in place of an older one that still waits.
func (s *Scorer) offer(blob *stream.Blob) {
	manifest, err := snapshot.DecodeManifest(blob.Manifest)
	if err != nil {
		s.reject(blob.ID, err)
		return
	}
	next := &candidate{blob, manifest.Version()}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Without rollback an older one would be refused anyway; the newer must not be
	// lost for it. With rollback, the order of publication decides.
	if s.rollback || s.pending == nil || !next.version.Less(s.pending.version) {
		if s.pending != nil && s.current.Load() == nil {
			s.earlier = append(s.earlier[max(0, len(s.earlier)-mostEarlier+1):], s.pending)
		}
		s.pending = next
	}
	s.wake()
}

func (s *Scorer) wake() {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

func (s *Scorer) loadEach(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.arrived:
		}
		// The topic keeps several snapshots: at start, load only the last of them.
		if !s.caughtUp.Load() {
			continue
		}
		s.loadNext()
	}
}

// loadNext loads the newest snapshot that waits; while there is no model, the newest of
// them that can be used.
func (s *Scorer) loadNext() {
	s.mu.Lock()
	next := s.pending
	s.pending = nil
	s.mu.Unlock()
	for next != nil {
		_ = s.take(next) // it has been counted and logged
		next = nil
		s.mu.Lock()
		if s.current.Load() != nil {
			s.earlier = nil
		} else if last := len(s.earlier) - 1; last >= 0 {
			next, s.earlier = s.earlier[last], s.earlier[:last]
		}
		s.mu.Unlock()
	}
}

// Load makes a snapshot that did not come from the topic the current model, or
// says why not.
func (s *Scorer) Load(blob *stream.Blob) error {
	manifest, err := snapshot.DecodeManifest(blob.Manifest)
	if err != nil {
		s.reject(blob.ID, err)
		return err
	}
	return s.take(&candidate{blob, manifest.Version()})
}

// take loads one snapshot and makes it the current model, or says why not.
func (s *Scorer) take(c *candidate) error {
	s.building.Lock()
	defer s.building.Unlock()
	m, err := s.load(c)
	switch {
	case errors.Is(err, errSame):
		return nil // the topic is being read again
	case errors.Is(err, errOlder):
		s.outcomes.WithLabelValues(refused).Inc()
		s.log.Warn("snapshot refused", "snapshot", c.blob.ID, "error", err)
		return err
	case err != nil:
		s.reject(c.blob.ID, err)
		return err
	}
	s.swap(m)
	if m.tower == nil {
		s.knowing.Store(true)
	}
	s.mark() // records that came meanwhile looked at the model before
	s.outcomes.WithLabelValues(swapped).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = ""
	if len(s.progress) == remembered {
		s.progress = append(s.progress[:0], s.progress[1:]...)
	}
	s.progress = append(s.progress, Point{
		Epoch: m.Manifest.Epoch, Step: m.Manifest.Step,
		Watermark: m.Manifest.Watermark, Created: m.Manifest.Created, Metrics: m.Manifest.Metrics,
	})
	return nil
}

func (s *Scorer) reject(id string, err error) {
	s.outcomes.WithLabelValues(rejected).Inc()
	s.log.Error("snapshot rejected, the old one stays", "snapshot", id, "error", err)
	s.mu.Lock()
	s.trouble = err.Error()
	s.mu.Unlock()
}

// admit refuses a version that is not newer than the current one: an older writer
// that does not know it was replaced must not win. With rollback, any other
// version is admitted.
func (s *Scorer) admit(v snapshot.Version) error {
	m := s.current.Load()
	if m == nil {
		return nil
	}
	now := m.Manifest.Version()
	if v == now {
		return errSame
	}
	if now.Less(v) || s.rollback {
		return nil
	}
	return fmt.Errorf("snapshot of epoch %d, step %d while epoch %d, step %d is in use: %w (set serving.allow_rollback to accept it)",
		v.Epoch, v.Step, now.Epoch, now.Step, errOlder)
}

// swap makes m the current model and closes the old one once nobody uses it.
func (s *Scorer) swap(m *Model) {
	old := s.current.Swap(m)
	if old == nil {
		return
	}
	old.Release()
	s.closing.Go(func() {
		<-old.idle
		old.engine.Close()
	})
}
