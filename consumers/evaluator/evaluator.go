package evaluator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"seralm/config"
	"seralm/models/online"
	"seralm/models/prequential"
	"seralm/models/seqrec"
	"seralm/models/snapshot"
	"seralm/stream"
)

// batchEvents is the granularity of test-then-train for the arms that learn here.
const batchEvents = 256

// Point is one point of the curve.
type Point struct {
	Events int64                          `json:"events"` // ranked so far
	Time   time.Time                      `json:"time"`
	Arms   map[string]prequential.Summary `json:"arms"` // over the sliding window
}

// Evaluator is the consumer.
type Evaluator struct {
	cfg    config.Config
	log    *slog.Logger
	served *served
	eval   *prequential.Evaluation
	items  *online.Sequencer
	at     []position // of the events of the batch being ranked
	paced  int64      // records read when a wait for a snapshot was given up, or at the start
	marked int64      // events ranked at the last point of the curve
	gauge  *prometheus.GaugeVec

	ranked atomic.Int64

	mu    sync.Mutex
	curve []Point
}

type position struct {
	partition int32
	offset    int64
}

// maxCurve bounds the curve that is kept; a longer one is thinned.
const maxCurve = 400

// New returns an evaluator that has read nothing yet.
func New(cfg config.Config, reg prometheus.Registerer, logger *slog.Logger) *Evaluator {
	e := &Evaluator{
		cfg: cfg, log: logger.With("role", "evaluator"), served: newServed(),
		items: online.NewSequencer(online.SequencerOptions{
			MaxLen: cfg.Recommender.MaxLen, MaxUsers: cfg.Trainer.MaxUsers, DedupWindow: cfg.Trainer.DedupWindow, AdmitAfter: 1,
		}),
		gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "seralm_evaluator_quality",
			Help: "Prequential quality over the sliding window; of masked_*, the items of the history do not compete."}, []string{"arm", "metric"}),
	}
	reg.MustRegister(e.gauge)
	popularity, transitions := seqrec.NewPopularity(), seqrec.NewTransitions()
	e.eval = prequential.New(e.items, cfg.Evaluator.Window, 0,
		prequential.Arm{Name: cfg.Recommender.Architecture, Rank: e.rankServed, Learn: func(context.Context, []online.Event, online.Batch, int, uint64) error { return nil }},
		prequential.Learning("popularity", popularity, false),
		prequential.Learning("transitions", transitions, false),
	)
	return e
}

func (e *Evaluator) rankServed(_ context.Context, instances []online.Instance) ([]prequential.Judgement, error) {
	out := make([]prequential.Judgement, len(instances))
	for i, in := range instances {
		var err error
		if out[i], err = e.served.judge(e.at[in.Event], in, e.items.Vocabulary().ID); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Run evaluates until ctx ends, which is a clean end.
func (e *Evaluator) Run(ctx context.Context) error {
	names := stream.NamesOf(e.cfg.Kafka.TopicPrefix)
	begin, err := ends(ctx, e.cfg.Kafka, names.Interactions())
	if err != nil {
		return ended(ctx, err)
	}
	merge, err := stream.NewMerge(ctx, e.cfg.Kafka, names.Interactions(), nil)
	if err != nil {
		return ended(ctx, fmt.Errorf("reading %s: %w", names.Interactions(), err))
	}
	defer merge.Close()
	return e.run(ctx, merge, begin)
}

func (e *Evaluator) run(ctx context.Context, merge *stream.Merge, begin map[int32]int64) error {
	defer e.served.close()
	work, working := errgroup.WithContext(ctx)
	work.Go(func() error { return e.follow(working, stream.NamesOf(e.cfg.Kafka.TopicPrefix).Snapshots()) })
	work.Go(func() error { return e.evaluate(working, merge, begin) })
	return ended(ctx, work.Wait())
}

// ended returns nil when the end was asked for.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func (e *Evaluator) follow(ctx context.Context, topic string) error {
	reader := stream.NewChunkReader(stream.MaxIncomplete)
	return stream.Follow(ctx, e.cfg.Kafka, topic, func(rec *kgo.Record) error {
		blob, err := reader.Add(rec)
		if err == nil && blob != nil && blob.Key == e.cfg.Recommender.Name {
			var snap *snapshot.Snapshot
			if snap, err = snapshot.Decode(blob.Manifest, blob.Payload); err == nil {
				err = e.served.add(snap)
			}
		}
		if err != nil {
			e.log.Warn("snapshot not usable", "error", err)
		}
		return nil
	}, func() {})
}

// evaluate takes the log in. What was in it at the start, before begin, is learnt
// and not ranked.
func (e *Evaluator) evaluate(ctx context.Context, merge *stream.Merge, begin map[int32]int64) error {
	e.paced = total(merge.Offsets())
	for {
		e.served.advance(merge.Offsets())
		records, err := merge.Batch(ctx, batchEvents, e.cfg.Trainer.Linger)
		if err != nil {
			return err
		}
		fresh := func(rec *kgo.Record) bool { return rec.Offset >= begin[rec.Partition] }
		if slices.ContainsFunc(records, fresh) {
			if err := e.pace(ctx, total(merge.Offsets())); err != nil {
				return err
			}
		}
		for len(records) > 0 {
			rank := fresh(records[0])
			n := slices.IndexFunc(records, func(rec *kgo.Record) bool { return fresh(rec) != rank })
			if n < 0 {
				n = len(records)
			}
			if err := e.observe(ctx, records[:n], rank); err != nil {
				return err
			}
			records = records[n:]
		}
	}
}

func (e *Evaluator) observe(ctx context.Context, records []*kgo.Record, rank bool) error {
	var events []online.Event
	e.at = e.at[:0]
	for _, rec := range records {
		ev, err := stream.DecodeInteraction(rec)
		if err != nil {
			continue // the trainer dead-letters it
		}
		events = append(events, online.Event{Key: online.EventKey(ev.Source, ev.ID), User: ev.Body.User, Item: ev.Body.Item, Time: ev.Time})
		e.at = append(e.at, position{rec.Partition, rec.Offset})
	}
	if err := e.eval.Observe(ctx, events, rank); err != nil {
		return err
	}
	ranked := e.eval.Counts().Ranked
	e.ranked.Store(ranked)
	if ranked-e.marked >= int64(max(1, e.cfg.Evaluator.Window/10)) || ranked > 0 && e.marked == 0 {
		e.marked = ranked
		e.publish()
	}
	return nil
}

// pace keeps the evaluator from running far ahead of the snapshots on a replay
// that is faster than the trainer: what it would measure then is a model that
// nobody would have been served. The wait is bounded, and a wait that ended so is
// good for another MaxLead records: without a trainer the evaluation goes on, at
// MaxLead records each MaxWait.
func (e *Evaluator) pace(ctx context.Context, read int64) error {
	var timeout <-chan time.Time
	for {
		learnt, next := e.served.newest()
		if read-max(learnt, e.paced) <= e.cfg.Evaluator.MaxLead {
			return nil
		}
		if timeout == nil {
			t := time.NewTimer(e.cfg.Evaluator.MaxWait)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-next:
		case <-timeout:
			e.paced = read
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e *Evaluator) publish() {
	p := Point{Events: e.eval.Counts().Ranked, Time: time.Now().UTC(), Arms: map[string]prequential.Summary{}}
	for i, name := range e.eval.Arms() {
		s := e.eval.Tallies()[i].Window()
		if s.Events == 0 {
			continue
		}
		p.Arms[name] = s
		for metric, v := range map[string]float64{
			"hit@10": s.Hit10, "ndcg@10": s.NDCG10, "mrr": s.MRR, "log_p": s.LogP,
			"masked_hit@10": s.MaskedHit10, "masked_ndcg@10": s.MaskedNDCG10,
		} {
			e.gauge.WithLabelValues(name, metric).Set(v)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.curve = append(e.curve, p)
	if len(e.curve) > maxCurve {
		thin := e.curve[:0]
		for i := 0; i < len(e.curve); i += 2 {
			thin = append(thin, e.curve[i])
		}
		e.curve = thin
	}
}

// Curve returns the points so far, oldest first.
func (e *Evaluator) Curve() []Point {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Point(nil), e.curve...)
}

// Ranked returns how many events were ranked so far.
func (e *Evaluator) Ranked() int64 { return e.ranked.Load() }

func total(offsets map[int32]int64) (sum int64) {
	for _, o := range offsets {
		sum += o
	}
	return sum
}

// ends returns the end offset of each partition of a topic.
func ends(ctx context.Context, cfg config.Kafka, topic string) (map[int32]int64, error) {
	opts, err := stream.ClientOptions(cfg)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("reading the ends of %s: %w", topic, err)
	}
	defer client.Close()
	listed, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("reading the ends of %s: %w", topic, err)
	}
	out := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { out[o.Partition] = o.Offset })
	return out, nil
}
