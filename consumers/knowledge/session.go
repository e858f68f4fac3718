package knowledge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/feature"
	"seralm/stream"
)

const (
	// pollRecords bounds what is in memory; a record is some kilobytes.
	pollRecords = 256
	// auditEach is how often the view is asked whether it still holds what was applied.
	auditEach = time.Second
	// attemptTimeout bounds one attempt at something that is tried again.
	attemptTimeout = 10 * time.Second
)

// session reads from where the view ends, until something goes wrong or ctx ends.
type session struct {
	*View
	client  *kgo.Client
	admin   *kadm.Client
	letters *stream.DeadLetters
	next    map[int32]int64 // the view holds everything before it
}

func (v *View) session(ctx context.Context) error {
	opts, err := stream.ClientOptions(v.cfg.Kafka)
	if err != nil {
		return finalError{err}
	}
	client, err := kgo.NewClient(append(opts,
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.KeepControlRecords(), // the view's offset moves over them
		kgo.FetchMaxWait(250*time.Millisecond),
	)...)
	if err != nil {
		return finalError{fmt.Errorf("configuring the Kafka client: %w", err)}
	}
	defer client.Close()
	s := &session{View: v, client: client, admin: kadm.NewClient(client)}
	s.letters = stream.NewDeadLetters(client, stream.NamesOf(v.cfg.Kafka.TopicPrefix), "knowledge", v.reg)
	if err := s.begin(ctx); err != nil {
		return err
	}
	for audit := time.Now().Add(auditEach); ctx.Err() == nil; {
		polling, cancel := context.WithDeadline(ctx, audit)
		fetches := client.PollRecords(polling, pollRecords)
		cancel()
		runs, err := s.runs(ctx, fetches)
		if applied := s.apply(ctx, runs); err == nil {
			err = applied
		}
		if err == nil && !time.Now().Before(audit) {
			audit = time.Now().Add(auditEach)
			err = s.audit(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// begin asks the view where it ends and starts to read there. Where compaction or a
// deletion has taken what comes next, reading begins behind that: what the log still
// holds is all that is known. A view that ends behind the log's own end is of another
// log.
func (s *session) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	topics, err := s.admin.ListTopics(ctx, s.topic)
	if err == nil {
		err = topics[s.topic].Err
	}
	if err != nil {
		return fmt.Errorf("describing topic %s: %w", s.topic, err)
	}
	first, err := offsets(s.admin.ListStartOffsets(ctx, s.topic))
	if err != nil {
		return err
	}
	if s.next, err = s.store.StartKnowledge(ctx, topics[s.topic].ID.String(), first); err != nil {
		return err
	}
	// Asked after the view: another instance may have moved it on meanwhile.
	end, err := offsets(s.admin.ListEndOffsets(ctx, s.topic))
	if err != nil {
		return err
	}
	at := map[int32]kgo.Offset{}
	for p, next := range s.next {
		if next > end[p] {
			return fmt.Errorf("%w: run `seralm rebuild knowledge` to make the view from what the log holds",
				&stream.LostError{Topic: s.topic, Partition: p, Wanted: next, Earliest: first[p], Latest: end[p]})
		}
		at[p] = kgo.NewOffset().At(max(next, first[p]))
	}
	s.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{s.topic: at})
	return nil
}

func offsets(listed kadm.ListedOffsets, err error) (map[int32]int64, error) {
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("listing offsets: %w", err)
	}
	out := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { out[o.Partition] = o.Offset })
	return out, nil
}

// runs turns what a poll brought into runs. With an error, they are of what came
// before it.
func (s *session) runs(ctx context.Context, fetches kgo.Fetches) (runs []feature.KnowledgeRun, failed error) {
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		if f.Err != nil {
			failed = errors.Join(failed, s.explain(f))
		}
		if len(f.Records) == 0 {
			return
		}
		run := feature.KnowledgeRun{Partition: f.Partition, From: s.next[f.Partition], To: s.next[f.Partition]}
		for _, rec := range f.Records {
			if !rec.Attrs.IsControl() {
				ev, err := stream.DecodeKnowledge(rec)
				if err == nil {
					run.Records = append(run.Records, entry(ev))
				} else if err = s.letters.Put(ctx, rec, "invalid", err); err != nil {
					failed = errors.Join(failed, err)
					break
				}
			}
			run.To = rec.Offset + 1
		}
		if run.To > run.From {
			runs = append(runs, run)
		}
	})
	return runs, failed
}

func entry(ev stream.Event[stream.Knowledge]) feature.KnowledgeRecord {
	k := ev.Body
	return feature.KnowledgeRecord{Offset: ev.Offset, Removed: ev.Deleted, Knowledge: feature.Knowledge{
		Item: k.Item, Text: k.Text, Vector: k.Vector, PromptHash: k.PromptHash, Policy: k.Policy.Name, PolicyStep: k.Policy.Step,
		Encoder: k.Encoder, Origin: string(k.Origin), Time: ev.Time.Truncate(time.Millisecond),
	}}
}

// explain says what an error that came instead of records means. The client itself
// retries what passes.
func (s *session) explain(f kgo.FetchTopicPartition) error {
	if errors.Is(f.Err, context.Canceled) || errors.Is(f.Err, context.DeadlineExceeded) {
		return nil
	}
	err := fmt.Errorf("reading topic %s partition %d: %w", s.topic, f.Partition, f.Err)
	var answered *kerr.Error
	if errors.As(f.Err, &answered) && !answered.Retriable && !errors.Is(f.Err, kerr.OffsetOutOfRange) {
		return finalError{err}
	}
	return err
}

// apply applies the runs and returns what is wrong with the first that failed.
func (s *session) apply(ctx context.Context, runs []feature.KnowledgeRun) error {
	if len(runs) == 0 {
		return nil
	}
	var failed error
	// What is being applied when the role ends is applied: redis.timeout bounds it.
	for i, out := range s.store.PutKnowledge(context.WithoutCancel(ctx), runs...) {
		for _, verdict := range out.Verdicts {
			if verdict == feature.Applied {
				s.records.WithLabelValues("applied").Inc()
			} else {
				s.records.WithLabelValues("old").Inc()
			}
		}
		if out.Err == nil {
			s.next[runs[i].Partition] = runs[i].To
		} else if failed == nil {
			failed = out.Err
		}
	}
	return failed
}

// errGrown ends a session to begin one that reads new partitions, too.
var errGrown = errors.New("the topic has other partitions than before")

// audit compares the view's offsets with ours: whoever emptied Redis or put an older
// copy in its place need not wait for a record to have it noticed.
func (s *session) audit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	held, err := s.store.KnowledgeOffsets(ctx)
	if err != nil {
		return err
	}
	for p, next := range s.next {
		if at, ok := held[p]; !ok {
			return &feature.BehindError{Partition: p, Next: -1}
		} else if at < next {
			return &feature.BehindError{Partition: p, Next: at}
		}
	}
	ends, err := offsets(s.admin.ListCommittedOffsets(ctx, s.topic))
	if err != nil {
		return err
	}
	if len(ends) != len(s.next) {
		return errGrown
	}
	lag := int64(0)
	for p, end := range ends {
		lag += max(0, end-s.next[p])
	}
	s.lag.Set(float64(lag))
	return nil
}
