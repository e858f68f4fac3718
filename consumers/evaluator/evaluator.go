package evaluator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

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
			Help: "Prequential quality over the sliding window, history not masked."}, []string{"arm", "metric"}),
	}
	reg.MustRegister(e.gauge)
	popularity, transitions := seqrec.NewPopularity(), seqrec.NewTransitions()
	e.eval = prequential.New(e.items, cfg.Evaluator.Window,
		prequential.Arm{Name: cfg.Recommender.Architecture, Rank: e.rankServed, Learn: func(context.Context, online.Batch, int, uint64) error { return nil }},
		prequential.Learning("popularity", popularity, false),
		prequential.Learning("transitions", transitions, false),
	)
	return e
}

func (e *Evaluator) rankServed(_ context.Context, instances []online.Instance) ([]prequential.Judgement, error) {
	out := make([]prequential.Judgement, len(instances))
	for i, in := range instances {
		at := e.at[in.Event]
		m := e.served.before(at.partition, at.offset)
		if m == nil {
			out[i].Absent = true
			continue
		}
		j, err := m.judge(in.History, in.Target, e.items.Vocabulary().ID)
		if err != nil {
			return nil, err
		}
		out[i] = j
	}
	return out, nil
}

// Run evaluates until ctx ends, which is a clean end.
func (e *Evaluator) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	names := stream.NamesOf(e.cfg.Kafka.TopicPrefix)
	begin, err := ends(ctx, e.cfg.Kafka, names.Interactions())
	if err != nil {
		return err
	}
	merge, err := stream.NewMerge(ctx, e.cfg.Kafka, names.Interactions(), nil)
	if err != nil {
		return fmt.Errorf("reading %s: %w", names.Interactions(), err)
	}
	defer merge.Close()

	followed := make(chan error, 1)
	go func() { followed <- e.follow(ctx, names.Snapshots()) }()
	err = e.evaluate(ctx, merge, begin)
	cancel()
	follow := <-followed
	e.served.prune(0)
	if err == nil || errors.Is(err, context.Canceled) {
		err = follow
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (e *Evaluator) follow(ctx context.Context, topic string) error {
	reader := stream.NewChunkReader(1 << 30)
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

func (e *Evaluator) evaluate(ctx context.Context, merge *stream.Merge, begin map[int32]int64) error {
	var marked int64
	for {
		records, err := merge.Batch(ctx, batchEvents, e.cfg.Trainer.Linger)
		if err != nil {
			return err
		}
		if err := e.pace(ctx, total(merge.Offsets())); err != nil {
			return err
		}
		var events []online.Event
		e.at = e.at[:0]
		fresh := false // among them is one that arrived after the start
		for _, rec := range records {
			fresh = fresh || rec.Offset >= begin[rec.Partition]
			ev, err := stream.DecodeInteraction(rec)
			if err != nil {
				continue // the trainer dead-letters it
			}
			events = append(events, online.Event{Key: online.EventKey(ev.Source, ev.ID), User: ev.Body.User, Item: ev.Body.Item, Time: ev.Time})
			e.at = append(e.at, position{rec.Partition, rec.Offset})
		}
		e.served.prune(kept)
		if err := e.eval.Observe(ctx, events, fresh); err != nil {
			return err
		}
		e.ranked.Store(e.eval.Counts().Ranked)
		if c := e.eval.Counts(); c.Ranked-marked >= int64(max(1, e.cfg.Evaluator.Window/10)) || c.Ranked > 0 && marked == 0 {
			marked = c.Ranked
			e.publish()
		}
	}
}

// pace keeps the evaluator from running far ahead of the snapshots on a replay
// that is faster than the trainer: what it would measure then is a model that
// nobody would have been served. The wait is bounded: without a trainer the
// evaluation goes on.
func (e *Evaluator) pace(ctx context.Context, read int64) error {
	var timeout <-chan time.Time
	for {
		learnt, next := e.served.newest()
		if read-learnt <= e.cfg.Evaluator.MaxLead {
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
