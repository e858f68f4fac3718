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
			st, err := rollout.State(ctx, cfg.Kafka)
			if err != nil {
				return err
			}
			written, waiting, err := samples(ctx, cfg)
			if err != nil {
				return err
			}
			if p == nil {
				fmt.Fprintf(out, "policy       %s has published nothing yet\n", cfg.Alignment.Name)
			} else {
				fmt.Fprintf(out, "policy       %s: %d iterations, epoch %d, published %s ago\n", p.Policy.Name, p.Policy.Step, p.Epoch, time.Since(p.Created).Round(time.Second))
			}
			fmt.Fprintf(out, "samples      %d offsets written, %d of them not learnt from yet\n", written, waiting)
			if r == nil {
				fmt.Fprintf(out, "recommender  %s has published nothing yet\n", cfg.Recommender.Name)
			} else {
				fmt.Fprintf(out, "recommender  %s: step %d, epoch %d, published %s ago\n", r.Model, r.Step, r.Epoch, time.Since(r.Created).Round(time.Second))
			}
			if p != nil {
				served := int64(0)
				if st.Served != nil && st.Alignment == cfg.Alignment.Name {
					served = st.Served.Policy.Step
				}
				fmt.Fprintf(out, "staleness    what is served is %d iterations behind (a roll-out begins %d after the last)\n", p.Policy.Step-served, cfg.Alignment.RolloutSteps)
			}
			fmt.Fprintln(out)
			showRollout(out, st)
			fmt.Fprintf(out, "\nmetrics      %s\n", alignMetrics)
			return nil
		},
	}
}

// newestModels returns the newest snapshots of policy and recommender, nil where there is
// none.
func newestModels(ctx context.Context, cfg config.Config) (p *stream.PolicySnapshot, r *snapshot.Manifest, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	chunks, caughtUp := stream.NewChunkReader(1<<30), false
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
			if m, err := snapshot.DecodeManifest(blob.Manifest); err == nil && (r == nil || r.Version().Less(m.Version())) {
				r = &m
			}
		}
		return nil
	}, func() { caughtUp = true; cancel() })
	if caughtUp {
		err = nil
	}
	return p, r, err
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
