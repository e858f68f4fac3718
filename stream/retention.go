package stream

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// keeper is a producer id that no producer has.
const keeper = math.MaxInt64

// keepOffsets sees to it that no partition runs empty. kfake counts offsets in the
// files of a partition, so after retention took the last one, the next start would
// number records from 0 again, and every consumer would find the log shorter than
// what it has read. So a partition whose newest record grows old is given a newer
// one, the end of a transaction that never was: readers skip it.
func (b *Broker) keepOffsets() error {
	topics, err := storedTopics(b.dir)
	if err != nil {
		return err
	}
	var marked []openTxn
	now := time.Now().UnixMilli()
	for _, t := range topics {
		retention := t.retention()
		for _, p := range b.cluster.PartitionInfos(t.Name) {
			old := retention >= 0 && now-p.MaxTimestamp > retention/2
			if p.HighWatermark > 0 && (old || p.NumBytes == 0) {
				marked = append(marked, openTxn{t.Name, p.Partition, keeper, 0})
			}
		}
	}
	if len(marked) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	for _, m := range marked {
		if err := writeAbort(ctx, cl, m); err != nil {
			return fmt.Errorf("topic %s partition %d: %w", m.topic, m.partition, err)
		}
	}
	return nil
}

// retention is how long the topic keeps records, in milliseconds; negative is for
// ever.
func (t storedTopic) retention() int64 {
	if ms, err := strconv.ParseInt(t.Configs["retention.ms"], 10, 64); err == nil {
		return ms
	}
	return (7 * 24 * time.Hour).Milliseconds() // Kafka's and kfake's default
}
