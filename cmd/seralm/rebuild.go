package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"seralm/config"
	"seralm/feature"
	"seralm/stream"
)

func rebuildCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rebuild",
		Short: "Wipe the views in Redis and wait until they are made from the log again",
		Long: `Wipe the views in Redis and wait until the histories consumers have made them from
the log again. Look-ups go on meanwhile, less personal. Running it again is safe.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			if cfg.Redis.Addr == "" {
				return errors.New("redis.addr is empty: the embedded views are made from the log at every start, there is nothing to rebuild")
			}
			return rebuild(cmd, cfg)
		},
	}
}

func rebuild(cmd *cobra.Command, cfg config.Config) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	store, err := feature.Open(ctx, cfg.Redis)
	if err != nil {
		return err
	}
	defer store.Close()
	client, err := newClient(cfg.Kafka)
	if err != nil {
		return err
	}
	defer client.Close()
	topic := stream.NamesOf(cfg.Kafka.TopicPrefix).Interactions()
	ends, err := committed(ctx, kadm.NewClient(client), topic)
	if err != nil {
		return err
	}
	removed, err := store.Wipe(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "removed %d keys; waiting for the histories consumers\n", removed)
	for told := time.Now(); ; {
		held, err := store.Offsets(ctx)
		if err != nil {
			return err
		}
		left := missing(held, ends)
		if left == 0 {
			fmt.Fprintln(out, "the views hold everything again that the log held at the start")
			return nil
		}
		if time.Since(told) > 2*time.Second {
			told = time.Now()
			fmt.Fprintf(out, "%d records to go (is a histories consumer running?)\n", left)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// committed returns the end of what readers may see in each partition.
func committed(ctx context.Context, admin *kadm.Client, topic string) (map[int32]int64, error) {
	listed, err := admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the end of topic %s: %w", topic, err)
	}
	ends := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends, nil
}

// missing is how many offsets lie between what is held and the ends.
func missing(held, ends map[int32]int64) (n int64) {
	for p, end := range ends {
		n += max(0, end-held[p])
	}
	return n
}
