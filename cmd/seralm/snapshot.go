package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/segmentio/encoding/json"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/models/snapshot"
	"seralm/stream"
)

func snapshotCommand() *cobra.Command {
	c := &cobra.Command{Use: "snapshot", Short: "Look at the snapshots on the log, and go back to one"}
	list := &cobra.Command{
		Use: "list", Short: "List the snapshots of recommenders and policies, oldest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			t := table.NewWriter()
			t.SetOutputMirror(cmd.OutOrStdout())
			t.SetStyle(table.StyleLight)
			t.AppendHeader(table.Row{"model", "epoch", "step", "items", "bytes", "learnt up to", "published"})
			err = snapshots(cmd, cfg, func(s published) {
				if p := s.policy; p != nil {
					t.AppendRow(table.Row{s.name, p.Epoch, p.Policy.Step, "", len(p.Adapter), "", p.Created.Format(time.RFC3339)})
					return
				}
				r := s.recommender
				var size int64
				for _, p := range r.Parts {
					size += p.Size
				}
				t.AppendRow(table.Row{r.Model, r.Epoch, r.Step, len(r.IDs), size, r.Watermark.Format(time.RFC3339), r.Created.Format(time.RFC3339)})
			})
			if err != nil {
				return err
			}
			t.Render()
			return nil
		},
	}
	inspect := &cobra.Command{
		Use:   "inspect [NAME]",
		Short: "Check the newest snapshot of a recommender or policy and print what is in it",
		Long: `Check the newest snapshot of the recommender or policy of that name, by default of
recommender.name, and print what is in it.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			name := cfg.Recommender.Name
			if len(args) == 1 {
				name = args[0]
			}
			var newest *published
			err = snapshots(cmd, cfg, func(s published) {
				if s.name == name {
					newest = &s
				}
			})
			if err != nil {
				return err
			}
			if newest != nil {
				return newest.print(cmd.OutOrStdout())
			}
			return fmt.Errorf("there is no snapshot of %s yet; a trainer publishes the first soon after its first step (`seralm snapshot list` lists those that there are)", name)
		},
	}
	c.AddCommand(list, inspect, publishCommand())
	return c
}

func publishCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "publish EPOCH STEP",
		Short: "Publish an older snapshot of the recommender again, as the newest",
		Long: `Publish an older snapshot of recommender.name, which the topic still holds, again: the
way back from a model that should not be served. Scorers take it if they run with
serving.allow_rollback. Stop the trainer first: its next snapshot takes the place of this
one, as any that is newer does.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			var blob *stream.Blob
			err = snapshots(cmd, cfg, func(p published) {
				r := p.recommender
				if r != nil && p.name == cfg.Recommender.Name && fmt.Sprint(r.Epoch) == args[0] && fmt.Sprint(r.Step) == args[1] {
					blob = p.blob
				}
			})
			if err != nil {
				return err
			}
			if blob == nil {
				return fmt.Errorf("the topic holds no snapshot of %s of epoch %s and step %s; `seralm snapshot list` lists those that there are, of which trainer.snapshots are kept", cfg.Recommender.Name, args[0], args[1])
			}
			slots, _, err := stream.ReadSlots(cmd.Context(), cfg.Kafka, cfg.Recommender.Name, cfg.Trainer.SnapshotKeep)
			if err != nil {
				return err
			}
			client, err := newClient(cfg.Kafka)
			if err != nil {
				return err
			}
			defer client.Close()
			records := slots.Records(stream.NamesOf(cfg.Kafka.TopicPrefix).Snapshots(), blob.ID, blob.Manifest, blob.Payload, stream.DefaultChunk)
			if err := client.ProduceSync(cmd.Context(), records...).FirstErr(); err != nil {
				return fmt.Errorf("publishing snapshot %s: %w", blob.ID, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "published again: %s, epoch %s, step %s\n", cfg.Recommender.Name, args[0], args[1])
			return nil
		},
	}
}

// published is a snapshot of a recommender, or of a policy.
type published struct {
	name        string
	blob        *stream.Blob
	recommender *snapshot.Snapshot
	policy      *stream.PolicySnapshot
}

// errOther says that a record of the topic is neither: a consumer's own state.
var errOther = errors.New("no snapshot")

func decodePublished(b *stream.Blob) (published, error) {
	var kind struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(b.Manifest, &kind); err != nil {
		return published{}, fmt.Errorf("snapshot %s: its manifest: %w", b.ID, err)
	}
	switch kind.Kind {
	case snapshot.KindFull:
		s, err := snapshot.Decode(b.Manifest, b.Payload)
		return published{name: b.Key, blob: b, recommender: s}, err
	case stream.KindAdapter:
		s, err := stream.DecodePolicySnapshot(b)
		return published{name: b.Key, blob: b, policy: &s}, err
	}
	return published{}, errOther
}

func (p published) print(w io.Writer) error {
	var tensors map[string]snapshot.Tensor
	if s := p.policy; s != nil {
		fmt.Fprintf(w, "policy %s  epoch %d  iterations %d  of %s\noffsets of samples %v  published %s\n", p.name, s.Epoch, s.Policy.Step, s.Policy.Name, s.Offsets, s.Created.Format(time.RFC3339))
		var err error
		if tensors, err = snapshot.DecodeTensors(s.Adapter); err != nil {
			return fmt.Errorf("its adapter: %w", err)
		}
	} else {
		s := p.recommender
		a := s.Architecture
		fmt.Fprintf(w, "model %s  epoch %d  step %d  (%s: dim %d, %d layers, %d heads, inner %d, max_len %d)\n", s.Model, s.Epoch, s.Step, a.Name, a.Dim, a.Layers, a.Heads, a.Inner, a.MaxLen)
		fmt.Fprintf(w, "items %d  vocabulary %s\noffsets %v  learnt up to %s\n", len(s.IDs), s.VocabularyHash, s.Offsets, s.Watermark.Format(time.RFC3339))
		for _, p := range s.Parts {
			fmt.Fprintf(w, "part %s  %d bytes  sha256 %s\n", p.Name, p.Size, p.SHA256)
		}
		tensors = s.Tensors
	}
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		fmt.Fprintf(w, "tensor %s %v\n", name, tensors[name].Shape)
	}
	return nil
}

// snapshots reads the topic to its end and hands over each that is in it, one at a time,
// for they are large; damaged ones are named on standard error.
func snapshots(cmd *cobra.Command, cfg config.Config, each func(published)) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	reader := stream.NewChunkReader(stream.MaxIncomplete)
	caughtUp := false
	err := stream.Follow(ctx, cfg.Kafka, stream.NamesOf(cfg.Kafka.TopicPrefix).Snapshots(), func(rec *kgo.Record) error {
		blob, err := reader.Add(rec)
		if err == nil && blob != nil {
			var s published
			if s, err = decodePublished(blob); err == nil {
				each(s)
			}
		}
		if err != nil && !errors.Is(err, errOther) {
			fmt.Fprintf(cmd.ErrOrStderr(), "offset %d: %v\n", rec.Offset, err)
		}
		return nil
	}, func() { caughtUp = true; cancel() })
	if caughtUp {
		return nil
	}
	return err
}
