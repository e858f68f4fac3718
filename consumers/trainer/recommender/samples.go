package recommender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/consumers/trainer/journal"
	"seralm/models/online"
	"seralm/stream"
)

// What became of a sample, as counted.
const (
	sampleLearnt    = "learnt"
	sampleStale     = "stale"
	sampleEncoder   = "encoder"
	sampleDimension = "dimension"
	sampleUnknown   = "unknown_item"
	sampleAhead     = "ahead"
	sampleInvalid   = "invalid"
	sampleLost      = "lost"
)

// waiting is a record, and the sample that it is if err is nil.
type waiting struct {
	record *kgo.Record
	stream.Event[stream.Sample]
	err error
}

// ahead says whether a sample's interaction is not among those learnt, which are those
// before some offsets.
func (w waiting) ahead(learnt map[int32]int64) bool {
	return w.err == nil && w.Body.Instance.Offset >= learnt[w.Body.Instance.Partition]
}

func decodeSamples(records []*kgo.Record) []waiting {
	out := make([]waiting, len(records))
	for i, rec := range records {
		out[i].record = rec
		out[i].Event, out[i].err = stream.DecodeSample(rec)
	}
	return out
}

// sampleLook is how often the trainer looks for samples while no events come.
const sampleLook = time.Second

// sampled follows the samples topic, the trainer's second input. What a step took of it
// is journalled with the step, and what it left out of that is a function of the records
// and of the journal, so that replaying the journal learns the same samples.
//
// A step takes at most trainer.batch_events of them: the generator writes at most one
// sample for each interaction, so at that bound, and at no lower one, samples never fall
// behind the events that they were drawn from, however much of both there is to learn. A
// step without events is made once alignment.batch of them wait, which is an iteration of
// the policy's trainer, too: each in a step of its own would be a noisy gradient.
//
// A sample waits until the interaction that it is drawn from is learnt. A trainer that
// begins anew meets samples of the whole stream at its start; to learn them there would be
// to know the answers before the questions, and the evaluator could not tell.
//
// Memory: the samples of one step, and what a stream.Merge reads ahead.
type sampled struct {
	on          bool
	kafka       config.Kafka
	topic       string
	policyName  string // key of its snapshots
	dim         int    // of a vector
	most, alone int    // samples of a step; those that make one without events
	maxAge      int64  // iterations of the policy
	log         *slog.Logger
	results     *prometheus.CounterVec

	merge   *stream.Merge
	held    []waiting // read, not learnt
	next    map[int32]int64
	policy  stream.ModelVersion // the newest known
	strange map[string]bool     // reasons and encoders that were told of
	learnt  atomic.Pointer[map[int32]int64]
}

func newSampled(cfg config.Config, results *prometheus.CounterVec, log *slog.Logger) *sampled {
	return &sampled{
		on:    cfg.Alignment.Enabled && cfg.Recommender.KnowledgeDim > 0,
		kafka: cfg.Kafka, topic: stream.NamesOf(cfg.Kafka.TopicPrefix).Samples(), policyName: cfg.Alignment.Name, dim: cfg.Recommender.KnowledgeDim,
		most: cfg.Trainer.BatchEvents, alone: min(cfg.Alignment.Batch, cfg.Trainer.BatchEvents), maxAge: int64(cfg.Alignment.MaxStaleness),
		log: log, results: results, next: map[int32]int64{}, strange: map[string]bool{},
	}
}

// open starts to read where the last learnt step ended, if there is something to learn
// or to learn again. Samples that the log lost meanwhile are counted: they are older than
// any that would be learnt, or the interactions of their time are lost as well.
func (s *sampled) open(ctx context.Context, journalled []journal.Entry) error {
	needed := s.on
	for _, e := range journalled {
		needed = needed || e.Step.Samples != nil
	}
	if !needed {
		return nil
	}
	for s.merge == nil {
		merge, err := stream.NewMerge(ctx, s.kafka, s.topic, s.next)
		var lost *stream.LostError
		switch {
		case errors.As(err, &lost) && lost.Wanted < lost.Earliest:
			s.results.WithLabelValues(sampleLost).Add(float64(lost.Count()))
			s.log.Error("samples were deleted before they were learnt: going on behind them", "partition", lost.Partition, "records", lost.Count(), "error", lost)
			s.next[lost.Partition] = lost.Earliest
		case err != nil:
			return fmt.Errorf("reading %s: %w", s.topic, err)
		default:
			s.merge = merge
		}
	}
	s.next = s.merge.Offsets()
	s.publish()
	return nil
}

// live ends the replay of the journal: it notes which version of the policy was published
// last. Where samples wait since long, none of them tells that they are old.
func (s *sampled) live(ctx context.Context) error {
	if !s.on {
		return nil
	}
	_, blob, err := stream.ReadSlots(ctx, s.kafka, s.policyName, 1)
	if err != nil || blob == nil {
		return err
	}
	newest, err := stream.DecodePolicySnapshot(blob)
	if err != nil {
		return fmt.Errorf("reading which version policy %s has: %w", s.policyName, err)
	}
	s.policy = later(s.policy, newest.Policy)
	return nil
}

// later is the later of two versions, of which b was met last. Versions of another policy
// cannot be compared: it is the one that is written with now.
func later(a, b stream.ModelVersion) stream.ModelVersion {
	if a.Name == b.Name && a.Step > b.Step {
		return a
	}
	return b
}

func (s *sampled) close() {
	if s.merge != nil {
		s.merge.Close()
	}
}

// read takes in what the topic holds; enough says that it makes a step by itself. It
// waits for no sample.
func (s *sampled) read(ctx context.Context) (enough bool, err error) {
	if !s.on {
		return false, nil
	}
	records, err := s.merge.Ready(ctx, s.most-len(s.held))
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", s.topic, err)
	}
	s.held = append(s.held, decodeSamples(records)...)
	return len(s.held) >= s.alone, nil
}

// taken is what a step takes of the topic.
type taken struct {
	learnable []online.Sample
	batch     *stream.SampleBatch // to journal; nil where nothing was taken
	// What the follower knows when the step is learnt, and how much less it holds.
	next   map[int32]int64
	policy stream.ModelVersion
	held   int
}

// due returns what the next step takes, when it takes interactions up to the offsets
// learnt, if any at all. encoder is the one whose vectors the model reads.
func (s *sampled) due(events bool, learnt map[int32]int64, encoder string) taken {
	n := 0
	switch {
	case events:
		for n < len(s.held) && !s.held[n].ahead(learnt) {
			n++
		}
	case len(s.held) >= s.alone:
		// There were no interactions after these samples had been read. So all that they may
		// be drawn from is learnt: what is ahead is so for ever, and must not stay in the way.
		n = len(s.held)
	}
	if n == 0 {
		return taken{}
	}
	records := make([]*kgo.Record, n)
	for i, w := range s.held[:n] {
		records[i] = w.record
	}
	t := taken{
		next:  maps.Clone(s.next),
		batch: &stream.SampleBatch{Order: stream.EncodeOrder(records), Count: n, Policy: s.policy, Encoder: encoder},
		held:  n,
	}
	at := map[int32]int{}
	for _, rec := range records {
		i, ok := at[rec.Partition]
		if !ok {
			i = len(t.batch.Ranges)
			at[rec.Partition] = i
			t.batch.Ranges = append(t.batch.Ranges, stream.Range{Partition: rec.Partition, From: s.next[rec.Partition]})
		}
		t.batch.Ranges[i].To = rec.Offset + 1
		t.next[rec.Partition] = rec.Offset + 1
	}
	t.learnable, t.policy = s.usable(s.held[:n], learnt, *t.batch)
	return t
}

// again returns what a journalled step took, which took interactions up to the offsets
// learnt.
func (s *sampled) again(ctx context.Context, learnt map[int32]int64, b *stream.SampleBatch) (taken, error) {
	if b == nil {
		return taken{}, nil
	}
	records, err := s.merge.Ranges(ctx, b.Ranges, b.Order)
	if err != nil {
		return taken{}, err
	}
	t := taken{batch: b, next: s.merge.Offsets()}
	t.learnable, t.policy = s.usable(decodeSamples(records), learnt, *b)
	return t, nil
}

// advance notes that what was taken is learnt.
func (s *sampled) advance(t taken) {
	if t.batch == nil {
		return
	}
	s.held, s.next, s.policy = s.held[t.held:], t.next, t.policy
	s.publish()
}

func (s *sampled) publish() {
	next := s.next
	s.learnt.Store(&next)
}

// usable returns what can be learnt from of a batch's records, in their order, and the
// newest version of the policy after them. It counts the rest. It is a function of its
// arguments, for the journal has no more.
func (s *sampled) usable(all []waiting, learnt map[int32]int64, b stream.SampleBatch) (out []online.Sample, policy stream.ModelVersion) {
	policy = b.Policy
	for _, w := range all {
		rec, body, v := w.record, w.Body, w.Body.Versions
		if w.err != nil {
			// The policy's trainer sets it aside.
			s.leave(sampleInvalid, "", rec, w.err)
			continue
		}
		policy = later(policy, v.Policy)
		sample := online.Sample{Key: online.EventKey(w.Source, w.ID), X: body.X, Y: body.Y, Item: body.Item}
		for _, c := range body.Candidates {
			if len(c.Vector) == s.dim {
				sample.Texts = append(sample.Texts, c.Vector)
			}
		}
		switch age := policy.Step - v.Policy.Step; {
		case age > s.maxAge:
			s.leave(sampleStale, "", rec, fmt.Errorf("its policy was at iteration %d, it is at %d now, alignment.max_staleness is %d", v.Policy.Step, policy.Step, s.maxAge))
		case w.ahead(learnt):
			s.leave(sampleAhead, "", rec, fmt.Errorf("its interaction, partition %d offset %d, is not in the log that the trainer reads", body.Instance.Partition, body.Instance.Offset))
		case b.Encoder != "" && v.Encoder != b.Encoder:
			s.leave(sampleEncoder, v.Encoder, rec, fmt.Errorf("its vectors are of encoder %q, the model reads those of %q", v.Encoder, b.Encoder))
		case len(sample.Texts) == 0:
			s.leave(sampleDimension, v.Encoder, rec, fmt.Errorf("none of its vectors has recommender.knowledge_dim (%d) numbers", s.dim))
		default:
			out = append(out, sample)
		}
	}
	return out, policy
}

// leave counts a sample that is left out, and says why the first time.
func (s *sampled) leave(result, detail string, rec *kgo.Record, why error) {
	s.results.WithLabelValues(result).Inc()
	if what := result + " " + detail; !s.strange[what] && len(s.strange) < 100 {
		s.strange[what] = true
		s.log.Warn("samples are left out; the first", "reason", result, "partition", rec.Partition, "offset", rec.Offset, "error", why)
	}
}
