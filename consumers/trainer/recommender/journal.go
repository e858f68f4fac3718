package recommender

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/stream"
)

// The steps topic has one partition: a model's steps are one sequence.
const journalPartition = 0

// journal is what the steps topic says of one model.
type journal struct {
	steps []stream.Step // those after the checkpoint, in order
	epoch int64         // highest epoch seen
	next  int64         // where the journal goes on
}

// readJournal reads the steps topic from offset `from` to its last stable offset
// and returns the steps of the model above `after`. It is called after older
// writers were fenced, so nothing it has not seen can still be committed.
func readJournal(ctx context.Context, cfg config.Kafka, model string, from, after int64) (journal, error) {
	topic := stream.NamesOf(cfg.TopicPrefix).Steps()
	j := journal{next: from}
	opts, err := stream.ClientOptions(cfg)
	if err != nil {
		return j, err
	}
	// Control records show the transaction markers: without them a reader cannot
	// tell whether it has reached the end, whose last offset is a marker.
	opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return j, fmt.Errorf("reading the journal: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return j, fmt.Errorf("reading the journal %s: %w", topic, err)
	}
	start, _ := starts.Lookup(topic, journalPartition)
	end, err := journalEnd(ctx, admin, topic, from)
	if err != nil {
		return j, err
	}
	at := max(from, start.Offset)
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {journalPartition: kgo.NewOffset().At(at)}})
	for at < end {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return j, err
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			return j, fmt.Errorf("reading the journal %s: %w", topic, errs[0].Err)
		}
		var bad error
		fetches.EachRecord(func(rec *kgo.Record) {
			at = rec.Offset + 1
			if bad != nil || rec.Attrs.IsControl() || rec.Offset >= end {
				return
			}
			ev, err := stream.DecodeStep(rec)
			if err != nil {
				bad = fmt.Errorf("the journal %s is damaged at offset %d: %w", topic, rec.Offset, err)
				return
			}
			if s := ev.Body; s.Model == model {
				j.epoch = max(j.epoch, s.Epoch)
				if s.Step > after {
					j.steps = append(j.steps, s)
				}
			}
		})
		if bad != nil {
			return j, bad
		}
	}
	j.next = at
	for i, s := range j.steps {
		if want := after + 1 + int64(i); s.Step != want {
			return j, fmt.Errorf("the journal %s holds step %d of model %s where step %d is wanted: what the checkpoint needs was deleted. "+
				"Raise kafka.retention for the next time; set another recommender.name to learn what is left of the log from its start", topic, s.Step, model, want)
		}
	}
	return j, nil
}

// journalEnd returns the end of what is committed in the journal, once that has
// reached `from`: the offset up to which the checkpoint has read it. The topic is
// shared, so another model's trainer that died within a transaction holds the
// committed end back until that transaction times out.
func journalEnd(ctx context.Context, admin *kadm.Client, topic string, from int64) (int64, error) {
	for {
		ends, err := admin.ListEndOffsets(ctx, topic)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return 0, fmt.Errorf("reading the journal %s: %w", topic, err)
		}
		end, ok := ends.Lookup(topic, journalPartition)
		if !ok {
			return 0, fmt.Errorf("reading the journal: topic %s does not exist (run `seralm topics create`)", topic)
		}
		if from > end.Offset {
			return 0, fmt.Errorf("the checkpoint is ahead of the log: it read the journal %s up to offset %d, which ends at %d. "+
				"This is another log than the one the checkpoint was made on; point kafka.brokers at that one, or set another recommender.name to learn this one from its start",
				topic, from, end.Offset)
		}
		committed, err := admin.ListCommittedOffsets(ctx, topic)
		if err == nil {
			err = committed.Error()
		}
		if err != nil {
			return 0, fmt.Errorf("reading the journal %s: %w", topic, err)
		}
		if c, ok := committed.Lookup(topic, journalPartition); ok && c.Offset >= from {
			return c.Offset, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
