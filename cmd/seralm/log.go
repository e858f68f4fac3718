package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/cmd/internal/process"
	"seralm/config"
	"seralm/models/snapshot"
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

func snapshotCommand() *cobra.Command {
	c := &cobra.Command{Use: "snapshot", Short: "Look at the snapshots on the log"}
	list := &cobra.Command{
		Use: "list", Short: "List the snapshots, oldest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := snapshots(cmd)
			if err != nil {
				return err
			}
			t := table.NewWriter()
			t.SetOutputMirror(cmd.OutOrStdout())
			t.SetStyle(table.StyleLight)
			t.AppendHeader(table.Row{"model", "epoch", "step", "items", "bytes", "learnt up to", "published"})
			for _, s := range all {
				var size int64
				for _, p := range s.Parts {
					size += p.Size
				}
				t.AppendRow(table.Row{s.Model, s.Epoch, s.Step, len(s.IDs), size, s.Watermark.Format(time.RFC3339), s.Created.Format(time.RFC3339)})
			}
			t.Render()
			return nil
		},
	}
	inspect := &cobra.Command{
		Use: "inspect", Short: "Check the newest snapshot and print its manifest and tensors", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := snapshots(cmd)
			if err != nil {
				return err
			}
			if len(all) == 0 {
				return fmt.Errorf("there is no snapshot yet; the trainer publishes the first after its first step")
			}
			s := all[len(all)-1]
			w := cmd.OutOrStdout()
			a := s.Architecture
			fmt.Fprintf(w, "model %s  epoch %d  step %d  (%s: dim %d, %d layers, %d heads, inner %d, max_len %d)\n", s.Model, s.Epoch, s.Step, a.Name, a.Dim, a.Layers, a.Heads, a.Inner, a.MaxLen)
			fmt.Fprintf(w, "items %d  vocabulary %s\noffsets %v  learnt up to %s\n", len(s.IDs), s.VocabularyHash, s.Offsets, s.Watermark.Format(time.RFC3339))
			for _, p := range s.Parts {
				fmt.Fprintf(w, "part %s  %d bytes  sha256 %s\n", p.Name, p.Size, p.SHA256)
			}
			for name, t := range s.Tensors {
				fmt.Fprintf(w, "tensor %s %v\n", name, t.Shape)
			}
			return nil
		},
	}
	c.AddCommand(list, inspect)
	return c
}

// snapshots reads the topic to its end; damaged ones are named on standard error.
func snapshots(cmd *cobra.Command) ([]*snapshot.Snapshot, error) {
	cfg, err := loadLog(cmd)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	reader := stream.NewChunkReader(1 << 30)
	var all []*snapshot.Snapshot
	caughtUp := false
	err = stream.Follow(ctx, cfg.Kafka, stream.NamesOf(cfg.Kafka.TopicPrefix).Snapshots(), func(rec *kgo.Record) error {
		blob, err := reader.Add(rec)
		if err == nil && blob != nil {
			var s *snapshot.Snapshot
			if s, err = snapshot.Decode(blob.Manifest, blob.Payload); err == nil {
				all = append(all, s)
			}
		}
		if err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "offset %d: %v\n", rec.Offset, err)
		}
		return nil
	}, func() { caughtUp = true; cancel() })
	if caughtUp {
		return all, nil
	}
	return nil, err
}
