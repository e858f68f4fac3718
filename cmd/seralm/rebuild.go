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
		Use:       "rebuild [" + roleHistories + "] [" + roleKnowledge + "]",
		Short:     "Wipe the views in Redis and wait until they are made from the log again",
		ValidArgs: []string{roleHistories, roleKnowledge},
		Long: `Wipe the views in Redis and wait until the consumers of the same name have made them
from the log again: the histories, and the knowledge where knowledge.enabled is set, or
those that are named. Look-ups go on meanwhile, less personal. Running it again is safe.`,
		Args: cobra.OnlyValidArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			if cfg.Redis.Addr == "" {
				return errors.New("redis.addr is empty: the embedded views are made from the log at every start, there is nothing to rebuild")
			}
			if len(args) == 0 {
				args = []string{roleHistories}
				if cfg.Knowledge.Enabled {
					args = append(args, roleKnowledge)
				}
			}
			store, err := feature.Open(cmd.Context(), cfg.Redis)
			if err != nil {
				return err
			}
			defer store.Close()
			names := stream.NamesOf(cfg.Kafka.TopicPrefix)
			views := map[string]view{
				roleHistories: {names.Interactions(), store.Wipe, store.Offsets},
				roleKnowledge: {names.Knowledge(), store.WipeKnowledge, store.KnowledgeOffsets},
			}
			for _, name := range args {
				if err := rebuild(cmd, cfg, name, views[name]); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// view is what rebuild needs of a view in Redis.
type view struct {
	topic   string
	wipe    func(context.Context) (int64, error)
	offsets func(context.Context) (map[int32]int64, error)
}

func rebuild(cmd *cobra.Command, cfg config.Config, name string, v view) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	client, err := newClient(cfg.Kafka)
	if err != nil {
		return err
	}
	defer client.Close()
	ends, err := stream.CommittedEnds(ctx, kadm.NewClient(client), v.topic)
	if err != nil {
		return err
	}
	removed, err := v.wipe(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: removed %d keys; waiting for the consumers\n", name, removed)
	for told := time.Now(); ; {
		held, err := v.offsets(ctx)
		if err != nil {
			return err
		}
		left := missing(held, ends)
		if left == 0 {
			fmt.Fprintf(out, "%s: the view holds everything again that the log held at the start\n", name)
			return nil
		}
		if time.Since(told) > 2*time.Second {
			told = time.Now()
			fmt.Fprintf(out, "%s: %d records to go (is a process with the role %s running?)\n", name, left, name)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// missing is how many offsets lie between what is held and the ends.
func missing(held, ends map[int32]int64) (n int64) {
	for p, end := range ends {
		n += max(0, end-held[p])
	}
	return n
}
