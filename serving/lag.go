package serving

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/models/snapshot"
	"seralm/stream"
)

// lagEvery is how often the ends of the interactions topic are asked for.
const lagEvery = 2 * time.Second

// lag knows how far the log of interactions reaches.
type lag struct {
	topic string
	admin *kadm.Client
	log   *slog.Logger
	ends  atomic.Pointer[map[int32]int64]
}

func newLag(topic string, client *kgo.Client, log *slog.Logger) *lag {
	return &lag{topic: topic, admin: kadm.NewClient(client), log: log}
}

// run refreshes the ends until ctx ends. While the log is away the last known
// ends stand, for a model cannot fall further behind then.
func (l *lag) run(ctx context.Context) error {
	ticker := time.NewTicker(lagEvery)
	defer ticker.Stop()
	failing := false
	for {
		err := l.refresh(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failing {
			l.log.Warn("the model's lag is not known", "topic", l.topic, "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (l *lag) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lagEvery)
	defer cancel()
	ends, err := stream.CommittedEnds(ctx, l.admin, l.topic)
	if err != nil {
		return err
	}
	l.ends.Store(&ends)
	return nil
}

// unlearned is how many records of the log the snapshot has not learnt; known is
// false before the log has answered once.
func (l *lag) unlearned(m snapshot.Manifest) (events int64, known bool) {
	ends := l.ends.Load()
	if ends == nil {
		return 0, false
	}
	for partition, end := range *ends {
		events += max(0, end-m.Offsets[partition])
	}
	return events, true
}
