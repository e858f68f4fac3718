package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// AwaitSettled returns when everything that a topic held at the call is committed or
// aborted, so that a reader of committed records sees all of it. A writer that looks
// for its own last records must wait so: another writer's open transaction, which began
// before them, hides them. One whose writer died ends by timeout.
func AwaitSettled(ctx context.Context, admin *kadm.Client, topic string) error {
	wanted, err := admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = wanted.Error()
	}
	if err != nil {
		return fmt.Errorf("asking for the end of topic %s: %w", topic, err)
	}
	for {
		ends, err := CommittedEnds(ctx, admin, topic)
		if err != nil {
			return err
		}
		settled := true
		wanted.Each(func(o kadm.ListedOffset) { settled = settled && ends[o.Partition] >= o.Offset })
		if settled {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
