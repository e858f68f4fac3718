package recommender

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/models/online"
	"seralm/models/vocab"
	"seralm/stream"
)

// tellBytes bounds what one step tells of items as it is journalled, base64 in JSON: half
// of what a broker takes in one record by default, of which the order of the events needs
// the rest.
const tellBytes = 512 << 10

// tellSize is how much of it an item takes.
func tellSize(id string, dim int) int { return len(id)*6 + (4*dim+2)/3*4 + 32 } // \u00xx, at worst

// What became of a record of knowledge, as counted.
const (
	told    = "told"
	refused = "refused"
)

// known follows the knowledge topic and holds what the model has not been told yet:
// vectors that are newer than the model's, and those of items that have no row. What
// it tells, and when, is no function of the log (the topic is compacted); the trainer
// journals it. After a restart it reads the topic again, and leaves out what the model
// has already. A removal is not told: who serves knows that the item is gone.
//
// Memory: one vector for each item that has knowledge and no row, and the ids of those
// that have a row and whose knowledge was removed.
type known struct {
	kafka   config.Kafka
	dim     int
	model   online.Knowing
	log     *slog.Logger
	results *prometheus.CounterVec
	read    chan struct{} // closed when the topic was read to its end, or cannot be

	mu      sync.Mutex
	vectors map[string][]float32
	news    map[string]bool    // items whose vector came since the last look at them
	removed map[string]bool    // items of whose vector the model was not told that it is gone
	rows    int                // of the vocabulary at that look
	arrival context.CancelFunc // called when there is news
	reread  context.CancelFunc // ends the reading, to begin it anew
	strange map[string]bool    // encoders whose vectors were refused
	encoder string             // of the vector that came last
	failed  error
}

// newKnown follows nothing yet. The model must be an online.Knowing.
func newKnown(cfg config.Config, model Model, results *prometheus.CounterVec, log *slog.Logger) *known {
	k := &known{
		kafka: cfg.Kafka, dim: cfg.Recommender.KnowledgeDim, log: log, results: results, read: make(chan struct{}),
		vectors: map[string][]float32{}, news: map[string]bool{}, removed: map[string]bool{}, strange: map[string]bool{},
	}
	k.model = model.(online.Knowing) // a model of this package's callers that has a knowledge_dim
	return k
}

// follow reads the topic until ctx ends or it cannot be read, which due tells.
func (k *known) follow(ctx context.Context) {
	once := sync.OnceFunc(func() { close(k.read) })
	defer once()
	topic := stream.NamesOf(k.kafka.TopicPrefix).Knowledge()
	for ctx.Err() == nil {
		reading, stop := context.WithCancel(ctx)
		k.mu.Lock()
		k.reread = stop
		k.mu.Unlock()
		err := stream.Follow(reading, k.kafka, topic, k.take, once)
		again := reading.Err() != nil
		stop()
		if !again {
			k.mu.Lock()
			k.failed = fmt.Errorf("reading what is known of items: %w", err)
			k.wake()
			k.mu.Unlock()
			return
		}
	}
}

// wait returns when the topic has been read to its end.
func (k *known) wait(ctx context.Context) error {
	select {
	case <-k.read:
	case <-ctx.Done():
	}
	return nil
}

// again reads the topic from its start: the model has forgotten.
func (k *known) again() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.reread != nil {
		k.reread()
	}
}

func (k *known) take(rec *kgo.Record) error {
	ev, err := stream.DecodeKnowledge(rec)
	if err != nil {
		// The consumer that makes the view of this topic sets it aside.
		k.results.WithLabelValues(refused).Inc()
		k.log.Warn("a record is no knowledge", "topic", rec.Topic, "partition", rec.Partition, "offset", rec.Offset, "error", err)
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case ev.Deleted:
		delete(k.vectors, ev.Body.Item)
		delete(k.news, ev.Body.Item)
		k.removed[ev.Body.Item] = true
	case len(ev.Body.Vector) != k.dim:
		k.results.WithLabelValues(refused).Inc()
		if encoder := ev.Body.Encoder; !k.strange[encoder] && len(k.strange) < 100 {
			k.strange[encoder] = true
			k.log.Error("vectors of this encoder are not used: the model was made for others (recommender.knowledge_dim)",
				"encoder", encoder, "length", len(ev.Body.Vector), "knowledge_dim", k.dim)
		}
	default:
		k.encoder = ev.Body.Encoder
		k.vectors[ev.Body.Item] = ev.Body.Vector
		k.news[ev.Body.Item] = true
		delete(k.removed, ev.Body.Item)
		k.wake()
	}
	return nil
}

func (k *known) wake() {
	if k.arrival != nil {
		k.arrival()
	}
}

// onArrival has f called when there is news, at once if there is some now, until the
// function that it returns is called.
func (k *known) onArrival(f context.CancelFunc) (stop func()) {
	if k == nil {
		return func() {}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.arrival = f
	if len(k.news) > 0 || k.failed != nil {
		f()
	}
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.arrival = nil
	}
}

// readEncoder is the encoder whose vectors the model reads; empty where it reads none.
func (k *known) readEncoder() string {
	if k == nil {
		return ""
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.encoder
}

// due returns what to tell the model next, in the order of the items' rows. renewed are
// the rows that the step gives to other items; the model does not know of that yet.
func (k *known) due(v *vocab.Vocabulary, renewed []online.Renewal) ([]online.Known, error) {
	if k == nil {
		return nil, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed != nil {
		return nil, k.failed
	}
	var admitted []string // since the last look
	for ; k.rows < v.Rows(); k.rows++ {
		admitted = append(admitted, v.ID(int32(k.rows)))
	}
	begins := map[int32]bool{} // rows without a vector, whatever the model holds
	for _, r := range renewed {
		begins[r.Row] = true
		admitted = append(admitted, v.ID(r.Row))
		if _, newer := k.vectors[r.Was]; !newer && !k.removed[r.Was] {
			if had := k.model.Knowledge(r.Row); had != nil { // for when the item comes back
				k.vectors[r.Was] = had
			}
		}
	}
	for id := range k.removed {
		if _, ok := v.Row(id); !ok {
			delete(k.removed, id)
		}
	}
	for _, id := range admitted {
		if _, ok := k.vectors[id]; ok {
			k.news[id] = true
		}
	}
	var rows []int32
	for id := range k.news {
		row, ok := v.Row(id)
		if !ok {
			delete(k.news, id) // until it is admitted
			continue
		}
		rows = append(rows, row)
	}
	slices.Sort(rows)
	size := 0
	var out []online.Known
	for _, row := range rows {
		id := v.ID(row)
		if size += tellSize(id, k.dim); size > tellBytes && len(out) > 0 {
			break // the rest stays news
		}
		vector := k.vectors[id]
		delete(k.news, id)
		delete(k.vectors, id)
		if !begins[row] && slices.Equal(vector, k.model.Knowledge(row)) {
			continue
		}
		out = append(out, online.Known{Item: id, Vector: vector})
	}
	k.results.WithLabelValues(told).Add(float64(len(out)))
	return out, nil
}
