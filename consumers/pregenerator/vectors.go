package pregenerator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/prompts"
	"seralm/stream"
)

const (
	// vectorJobs bounds the titles that wait to be encoded: a megabyte.
	vectorJobs = 1024
	// vectorBatch is how many of them are encoded at once.
	vectorBatch = 64
	// readTimeout bounds the reading of one record that the log must have.
	readTimeout = time.Minute
)

// job is an item for which something else than a text is due.
type job struct {
	item  string
	at    place  // the item event that words and hash are of
	words string // to encode; "" = read the item again
	hash  string // of the item's prompt
}

func (s *session) hand(ctx context.Context, j job) error {
	select {
	case s.vectors <- j:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// encode does the jobs, as many at a time as wait.
func (s *session) encode(ctx context.Context) error {
	if !s.await(ctx, s.knowledge) {
		return ctx.Err()
	}
	for {
		var batch []job
		select {
		case j := <-s.vectors:
			batch = append(batch, j)
		case <-ctx.Done():
			return ctx.Err()
		}
		for more := true; more && len(batch) < vectorBatch; {
			select {
			case j := <-s.vectors:
				batch = append(batch, j)
			default:
				more = false
			}
		}
		n := len(batch)
		for len(batch) > 0 {
			left, err := s.vectorise(ctx, batch)
			if err != nil {
				return err
			}
			batch = batch[:0]
			for _, item := range left {
				batch = append(batch, job{item: item})
			}
		}
		s.ledger.handed(-n)
	}
}

// vectorise does a batch, and returns the items that have more due: they changed
// meanwhile.
func (s *session) vectorise(ctx context.Context, batch []job) (left []string, err error) {
	var results []result
	var words []string
	seen := map[string]bool{}
	for _, j := range batch {
		if seen[j.item] {
			continue // what is due is looked up, whatever the job was handed out for
		}
		seen[j.item] = true
		r, ok, err := s.prepare(ctx, j)
		if err != nil {
			return nil, err
		}
		if ok {
			results, words = append(results, r), append(words, r.know.Text)
		}
	}
	vectors, err := s.Encoder.Encode(ctx, words)
	if err != nil {
		return nil, fmt.Errorf("encoding titles: %w", err)
	}
	for i := range results {
		if results[i].due != removal {
			results[i].know.Vector, results[i].know.Encoder = vectors[i], s.Encoder.Version()
		}
	}
	done, left, err := s.out.publish(ctx, results)
	s.metrics.published(done)
	return left, err
}

// prepare returns what a job makes of its item, without vector; false when nothing is
// due any more, or the item is about to change.
func (s *session) prepare(ctx context.Context, j job) (result, bool, error) {
	e, d := s.ledger.look(j.item)
	r := result{due: d, prompt: e.prompt, know: stream.Knowledge{Item: j.item}}
	switch d {
	case removal:
		return r, true, nil
	case title:
		if j.words == "" || j.at != e.at {
			ev, ok, err := s.readItem(ctx, e)
			if err != nil || !ok {
				return r, false, err
			}
			j.words, j.hash = prompts.Words(promptItem(ev.Body)), s.template.Hash(promptItem(ev.Body))
		}
		r.know.Text, r.know.Origin, r.know.PromptHash = j.words, stream.OriginTitle, j.hash
		return r, true, nil
	case again:
		rec, ok, err := s.read(ctx, s.names.Knowledge(), e.known.at)
		if err != nil || !ok {
			return r, false, err
		}
		ev, err := stream.DecodeKnowledge(rec)
		if err != nil {
			return r, false, fmt.Errorf("topic %s partition %d offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
		}
		r.know, r.of = ev.Body, e.known.at
		return r, true, nil
	}
	return r, false, nil
}

// readItem reads an item's newest event again.
func (s *session) readItem(ctx context.Context, e entry) (stream.Event[stream.Item], bool, error) {
	rec, ok, err := s.read(ctx, s.names.Items(), e.at)
	if err != nil || !ok {
		return stream.Event[stream.Item]{}, false, err
	}
	ev, err := stream.DecodeItem(rec)
	if err == nil && ev.Body.Item != e.id {
		err = errors.New("the record is another item's: the topic was made anew")
	}
	if err != nil {
		return ev, false, fmt.Errorf("topic %s partition %d offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
	}
	return ev, true, nil
}

// read reads a record that was seen before. It reports false when a newer one of its
// key has taken its place, which the followers will come to.
func (s *session) read(ctx context.Context, topic string, at place) (*kgo.Record, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rec, err := stream.ReadRecord(ctx, s.cfg.Kafka, topic, at.partition, at.offset)
	if errors.Is(err, stream.ErrGone) {
		return nil, false, nil
	}
	return rec, err == nil, err
}
