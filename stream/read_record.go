package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
)

// ErrGone says that the log no longer holds the record that was asked for. In a
// compacted topic that is so when a newer record of its key has been written.
var ErrGone = errors.New("the log no longer holds the record")

// ReadRecord reads the one record at (topic, partition, offset), which was seen
// there before. Compaction never removes the newest record of a key, so whoever
// remembers where that is need not remember the record. It waits until ctx ends
// for a record that is not there yet.
//
// Each call connects anew: it is for what happens rarely.
func ReadRecord(ctx context.Context, cfg config.Kafka, topic string, partition int32, offset int64) (*kgo.Record, error) {
	rec, err := readRecord(ctx, cfg, topic, partition, offset)
	if err != nil {
		return nil, fmt.Errorf("reading topic %s partition %d offset %d: %w", topic, partition, offset, err)
	}
	return rec, nil
}

func readRecord(ctx context.Context, cfg config.Kafka, topic string, partition int32, offset int64) (*kgo.Record, error) {
	cl, err := newClient(cfg,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(offset)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		// What follows the record is of no use; a broker sends at least one batch.
		// (FetchMaxBytes stays: kfake sends no list of aborted transactions where it cuts.)
		kgo.FetchMaxPartitionBytes(1),
	)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	for {
		fetches := cl.PollRecords(ctx, 1)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		for _, rec := range fetches.Records() {
			if rec.Offset != offset {
				return nil, ErrGone
			}
			return rec, nil
		}
	}
}
