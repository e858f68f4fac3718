// Command seralm-serve answers look-ups and takes events over HTTP: the part of
// SeRALM that runs many times. It does not link libtorch, which would make its
// image four times as large; a test holds it to that.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"seralm/cmd/internal/process"
	"seralm/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "seralm-serve: %v\n", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	c := &cobra.Command{
		Use:   "seralm-serve",
		Short: "Answer look-ups and take events over HTTP",
		Long: `Answer look-ups from the snapshots that a trainer publishes, and write the events
that apps post to the log. Needs a Kafka and a Redis (kafka.brokers, redis.addr).`,
		Version: config.Version, Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := process.Load(cmd)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			p, err := process.Start(ctx, cfg, process.Logger(cfg.Log), process.Needs{Views: true, Shared: true})
			if err != nil {
				return err
			}
			defer p.Close()
			if err := p.Serve(true, nil); err != nil {
				return err
			}
			return p.Run(ctx)
		},
	}
	process.ConfigFlag(c.Flags())
	return c
}
