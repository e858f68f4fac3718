package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/consumers/rollout"
	"seralm/consumers/trainer/policy"
	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/stream"
)

func alignCommand() *cobra.Command {
	c := &cobra.Command{Use: "align", Short: "Look at the alignment of the language model"}
	c.AddCommand(alignStatusCommand())
	return c
}

// alignMetrics are where the rest is told.
const alignMetrics = `seralm_policy_*, seralm_generator_* (learning and sampling), seralm_rollout_* (rolling out)`

func alignStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Print how far policy, recommender, samples and roll-out are", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			ctx, out := cmd.Context(), cmd.OutOrStdout()
			p, r, err := newestModels(ctx, cfg)
			if err != nil {
				return err
			}
			written, waiting, err := samples(ctx, cfg)
			if err != nil {
				return err
			}
			if p == nil {
				fmt.Fprintf(out, "policy       %s has published nothing yet; it does when it has made %d iterations of %d samples (alignment.refresh, alignment.batch)\n",
					cfg.Alignment.Name, max(1, cfg.Alignment.Refresh), cfg.Alignment.Batch)
			} else {
				fmt.Fprintf(out, "policy       %s: %d iterations, epoch %d, published %s ago\n", p.Policy.Name, p.Policy.Step, p.Epoch, time.Since(p.Created).Round(time.Second))
			}
			fmt.Fprintf(out, "samples      %d offsets written, %d of them not learnt from yet\n", written, waiting)
			if r == nil {
				fmt.Fprintf(out, "recommender  %s has published nothing yet\n", cfg.Recommender.Name)
			} else {
				fmt.Fprintf(out, "recommender  %s: step %d, epoch %d, published %s ago\n", r.Model, r.Step, r.Epoch, time.Since(r.Created).Round(time.Second))
				if warning := deaf(r); warning != "" {
					fmt.Fprintf(out, "WARNING      %s\n", warning)
				}
			}
			st, err := rollout.State(ctx, cfg.Kafka)
			if err != nil {
				return err
			}
			if p != nil {
				served := int64(0)
				if st.Served != nil && st.Alignment == cfg.Alignment.Name {
					served = st.Served.Policy.Step
				}
				fmt.Fprintf(out, "staleness    what is served is %d iterations behind\n", p.Policy.Step-served)
			}
			fmt.Fprintln(out)
			if err := showRollout(ctx, out, cfg, st, p); err != nil {
				return err
			}
			fmt.Fprintf(out, "\nmetrics      %s\n", alignMetrics)
			return nil
		},
	}
}

// newestModels returns the newest snapshots of policy and recommender, nil where there is
// none.
func newestModels(ctx context.Context, cfg config.Config) (p *stream.PolicySnapshot, r *snapshot.Snapshot, err error) {
	var newest *stream.Blob // of the recommender
	var version snapshot.Version
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	chunks, caughtUp := stream.NewChunkReader(stream.MaxIncomplete), false
	err = stream.Follow(ctx, cfg.Kafka, stream.NamesOf(cfg.Kafka.TopicPrefix).Snapshots(), func(rec *kgo.Record) error {
		name, _, _ := strings.Cut(string(rec.Key), "/")
		if name != cfg.Alignment.Name && name != cfg.Recommender.Name {
			return nil
		}
		blob, err := chunks.Add(rec)
		if err != nil || blob == nil {
			return nil //nolint:nilerr // what is damaged has no effect for any reader
		}
		if name == cfg.Alignment.Name {
			if s, err := stream.DecodePolicySnapshot(blob); err == nil && (p == nil || s.Newer(*p)) {
				p = &s
			}
		} else {
			if m, err := snapshot.DecodeManifest(blob.Manifest); err == nil && (newest == nil || version.Less(m.Version())) {
				newest, version = blob, m.Version()
			}
		}
		return nil
	}, func() { caughtUp = true; cancel() })
	if !caughtUp {
		return nil, nil, err
	}
	if newest == nil {
		return p, nil, nil
	}
	if r, err = snapshot.Decode(newest.Manifest, newest.Payload); err != nil {
		return nil, nil, fmt.Errorf("snapshot %s: %w", newest.ID, err)
	}
	return p, r, nil
}

// deaf says why a recommender cannot judge what a language model writes; empty when it
// can.
func deaf(r *snapshot.Snapshot) string {
	switch t, err := tower.New(r.Tensors); {
	case err != nil:
		return err.Error()
	case t == nil:
		return "this recommender reads no texts, so that it cannot judge any (recommender.knowledge_dim)"
	case !t.Reads():
		return "this recommender has learnt from no item's vector yet: all texts are worth the same to it, and the generator waits. Does a pregenerator run, and have items a title?"
	}
	return ""
}

// samples counts the offsets of the samples topic, and those that the policy's trainer has
// not learnt from.
func samples(ctx context.Context, cfg config.Config) (written, waiting int64, err error) {
	client, err := newClient(cfg.Kafka)
	if err != nil {
		return 0, 0, err
	}
	defer client.Close()
	admin, topic := kadm.NewClient(client), stream.NamesOf(cfg.Kafka.TopicPrefix).Samples()
	ends, err := stream.CommittedEnds(ctx, admin, topic)
	if err != nil {
		return 0, 0, err
	}
	learnt, err := admin.FetchOffsets(ctx, policy.Group(cfg.Alignment.Name))
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // the trainer never committed
		return 0, 0, fmt.Errorf("asking how far the policy's trainer is: %w", err)
	}
	for p, end := range ends {
		written += end
		at, _ := learnt.Lookup(topic, p) // 0 where it has none
		waiting += max(0, end-at.At)
	}
	return written, waiting, nil
}
