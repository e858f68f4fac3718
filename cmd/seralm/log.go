package main

import (
	"fmt"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/cmd/internal/process"
	"seralm/config"
	"seralm/stream"
)

// loadLog reads the configuration for a command that works on a log which other
// processes fill.
func loadLog(cmd *cobra.Command) (config.Config, error) {
	cfg, err := process.Load(cmd)
	if err != nil {
		return cfg, err
	}
	cfg.Kafka, err = process.Running(cfg)
	return cfg, err
}

func newClient(cfg config.Kafka, extra ...kgo.Opt) (*kgo.Client, error) {
	opts, err := stream.ClientOptions(cfg)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(opts, extra...)...)
	if err != nil {
		return nil, fmt.Errorf("connecting to %v: %w", cfg.Brokers, err)
	}
	return client, nil
}

func topicsCommand() *cobra.Command {
	c := &cobra.Command{Use: "topics", Short: "Create or list the topics"}
	run := func(f func(cmd *cobra.Command, cfg config.Config, admin *kadm.Client) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			client, err := newClient(cfg.Kafka)
			if err != nil {
				return err
			}
			defer client.Close()
			return f(cmd, cfg, kadm.NewClient(client))
		}
	}
	create := &cobra.Command{
		Use: "create", Short: "Create the topics that are missing and check those that exist", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, cfg config.Config, admin *kadm.Client) error {
			if err := stream.Ensure(cmd.Context(), admin, cfg.Kafka); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the topics are there")
			return nil
		}),
	}
	list := &cobra.Command{
		Use: "list", Short: "List the topics with their partitions and records", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, cfg config.Config, admin *kadm.Client) error {
			names := stream.NamesOf(cfg.Kafka.TopicPrefix).All()
			starts, err := admin.ListStartOffsets(cmd.Context(), names...)
			if err != nil {
				return err
			}
			ends, err := admin.ListEndOffsets(cmd.Context(), names...)
			if err != nil {
				return err
			}
			t := table.NewWriter()
			t.SetOutputMirror(cmd.OutOrStdout())
			t.SetStyle(table.StyleLight)
			t.AppendHeader(table.Row{"topic", "partitions", "offsets held"})
			for _, n := range names {
				var held int64
				partitions := 0
				for p, end := range ends[n] {
					if end.Err != nil {
						continue
					}
					partitions++
					held += end.Offset - starts[n][p].Offset
				}
				t.AppendRow(table.Row{n, partitions, held})
			}
			t.Render()
			return nil
		}),
	}
	c.AddCommand(create, list)
	return c
}
