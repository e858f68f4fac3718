// Package journal reads back which records the steps of a model were made of, as its
// trainer wrote it in the transaction of each step. What it promises to both trainers:
// all steps that are committed, in order and without a gap, or an error.
//
// It imports stream and config. It must not know what a step learns.
package journal

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/stream"
)

// Partition of the steps topic, which has one: a model's steps are one sequence.
const Partition = 0

// Entry is a step of the journal.
type Entry struct {
	Step stream.Step
	Next int64 // where the journal goes on after it
}

// Journal is what the steps topic says of one model.
type Journal struct {
	Steps []Entry // those after the checkpoint, in order
	Epoch int64   // highest epoch seen
	Next  int64   // where the journal goes on after all of it
}

// Replay has learn take the steps in order, until ctx ends, it fails or says stop. behind
// are those that are left: a model that is behind its journal is older than what is published.
func (j Journal) Replay(ctx context.Context, learn func(context.Context, Entry) (stop bool, err error)) (behind int, stop bool, err error) {
	behind = len(j.Steps)
	for err == nil && !stop && behind > 0 && ctx.Err() == nil {
		if stop, err = learn(ctx, j.Steps[len(j.Steps)-behind]); err == nil {
			behind--
		}
	}
	return behind, stop, err
}

// Read reads the steps topic from offset `from` to its end and returns the steps of the
// model above `after`. It is called after older writers of the model were fenced, so
// nothing it has not seen can still be committed. setting is the configuration's key of
// the model's name, for the remedies in errors.
func Read(ctx context.Context, cfg config.Kafka, model, setting string, from, after int64) (Journal, error) {
	topic := stream.NamesOf(cfg.TopicPrefix).Steps()
	j := Journal{Next: from}
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
	start, _ := starts.Lookup(topic, Partition)
	last, err := end(ctx, admin, topic, setting, from)
	if err != nil {
		return j, err
	}
	at := max(from, start.Offset)
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {Partition: kgo.NewOffset().At(at)}})
	for at < last {
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
			if bad != nil || rec.Attrs.IsControl() || rec.Offset >= last {
				return
			}
			ev, err := stream.DecodeStep(rec)
			if err != nil {
				bad = fmt.Errorf("the journal %s is damaged at offset %d: %w", topic, rec.Offset, err)
				return
			}
			if s := ev.Body; s.Model == model {
				j.Epoch = max(j.Epoch, s.Epoch)
				if s.Step > after {
					j.Steps = append(j.Steps, Entry{s, at})
				}
			}
		})
		if bad != nil {
			return j, bad
		}
	}
	j.Next = at
	for i, e := range j.Steps {
		if want := after + 1 + int64(i); e.Step.Step != want {
			return j, fmt.Errorf("the journal %s holds step %d of model %s where step %d is wanted: what the checkpoint needs was deleted. "+
				"Raise kafka.retention for the next time; set another %s to learn what is left of the log from its start", topic, e.Step.Step, model, want, setting)
		}
	}
	return j, nil
}

// end returns the end of the journal, once all of it is committed. The topic is shared:
// another model's step that is being committed hides what stands behind it.
func end(ctx context.Context, admin *kadm.Client, topic, setting string, from int64) (int64, error) {
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("reading the journal %s: %w", topic, err)
	}
	end, ok := ends.Lookup(topic, Partition)
	if !ok {
		return 0, fmt.Errorf("reading the journal: topic %s does not exist (run `seralm topics create`)", topic)
	}
	if from > end.Offset {
		return 0, fmt.Errorf("the checkpoint is ahead of the log: it read the journal %s up to offset %d, which ends at %d. "+
			"This is another log than the one the checkpoint was made on; point kafka.brokers at that one, or set another %s to learn this one from its start",
			topic, from, end.Offset, setting)
	}
	if err := stream.AwaitSettled(ctx, admin, topic); err != nil {
		return 0, fmt.Errorf("reading the journal: %w", err)
	}
	return end.Offset, nil
}
