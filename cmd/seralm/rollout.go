package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"seralm/cmd/internal/process"
	"seralm/config"
	"seralm/consumers/pregenerator"
	"seralm/consumers/rollout"
	"seralm/stream"
)

func addRollout(p *process.Process) error {
	if err := p.LoadONNX(); err != nil {
		return err
	}
	p.Add(roleRollout, rollout.New(p.Config, rollout.Options{Open: rollout.ONNX, Registry: p.Metrics, Logger: p.Log}).Run)
	return nil
}

func rolloutCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "rollout", Short: "See how far a policy's texts are, promote them, or take them back",
		Long: `A roll-out takes the texts of a newer policy to what is served: the pregenerator writes
them as drafts, the role rollout compares them with the served ones on held-out
interactions, and says promote or hold. An operator may do either, and roll back.`,
	}
	c.AddCommand(rolloutStatusCommand(), promoteCommand(), rollbackCommand())
	return c
}

func rolloutStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Print the newest roll-out, what the gate found, and what the next waits for", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			st, err := rollout.State(cmd.Context(), cfg.Kafka)
			if err != nil {
				return err
			}
			p, _, err := newestModels(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			return showRollout(cmd.Context(), cmd.OutOrStdout(), cfg, st, p)
		},
	}
}

// showRollout prints the newest roll-out and what is awaited: by it while it is open, else
// by the next; p is what the policy has published, nil for nothing.
func showRollout(ctx context.Context, out io.Writer, cfg config.Config, st stream.Rollout, p *stream.PolicySnapshot) error {
	if st.ID == 0 {
		fmt.Fprintln(out, "no roll-out has begun")
	} else {
		showState(out, st)
	}
	var waits []string
	switch {
	case st.Phase == stream.RolloutWriting:
		waits = []string{"the drafts, which the pregenerator writes by turns with new items' texts"}
		if most := cfg.Alignment.RolloutItems; most > 0 {
			waits[0] += fmt.Sprintf(": at most %d (alignment.rollout_items)", most)
		}
	case st.Phase == stream.RolloutJudging && st.Decision != nil:
		waits = []string{"the pregenerator: it does what the gate says when its present batch of texts is written"}
	case st.Phase == stream.RolloutJudging:
		since, err := rollout.Since(ctx, cfg.Kafka, st)
		if err != nil {
			return err
		}
		waits = []string{fmt.Sprintf("the gate: %d interactions came since the roll-out began, it takes about %d (a quarter of alignment.rollout_events) with items that the recommender knows",
			since, rollout.Least(cfg.Alignment))}
	case !st.Phase.Open():
		known, err := pregenerator.Count(ctx, cfg.Kafka)
		if err != nil {
			return err
		}
		published := int64(0)
		if p != nil {
			published = p.Policy.Step
		}
		waits = pregenerator.Waits(cfg.Alignment, st, published, known)
	}
	for _, line := range waits {
		fmt.Fprintf(out, "waits for %s\n", line)
	}
	return nil
}

func showState(out io.Writer, st stream.Rollout) {
	served := "the language model as it is"
	if st.Served != nil {
		served = fmt.Sprintf("%s, of roll-out %d", st.Served.Policy, st.Served.Rollout)
	}
	fmt.Fprintf(out, "roll-out  %d of policy %s\nphase     %s, %s ago\n", st.ID, st.Policy, st.Phase, time.Since(st.Time).Round(time.Second))
	if st.Reason != "" {
		fmt.Fprintf(out, "because   %s\n", st.Reason)
	}
	fmt.Fprintf(out, "items     %d with a draft, %d moved, %d stale\nserved    %s\n", st.Drafts, st.Moved, st.Stale, served)
	if st.Decision == nil || st.Decision.Evidence == nil {
		return
	}
	e := st.Decision.Evidence
	fmt.Fprintf(out, "gate      %s, with recommender %s epoch %d step %d, %d items\n", st.Decision.Action, e.Recommender.Name, e.Recommender.Epoch, e.Recommender.Step, e.Items)
	for _, v := range []struct {
		view string
		c    stream.Comparison
	}{{"warm", e.Warm}, {"cold", e.Cold}} {
		fmt.Fprintf(out, "  %s    log p %.4f, with the drafts %.4f: %+.4f [%+.4f, %+.4f] nats over %d events of %d users\n",
			v.view, v.c.Served, v.c.Candidate, v.c.Change, v.c.Low, v.c.High, v.c.Events, v.c.Users)
	}
}

func promoteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "promote", Short: "Have the drafts served, whatever the gate says", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return decide(cmd, stream.ActionPromote, func(st stream.Rollout) (int64, error) {
				if !st.Promotable() {
					return 0, fmt.Errorf("roll-out %d is %s: a roll-out can be promoted while it is judging or held", st.ID, st.Phase)
				}
				return st.ID, nil
			})
		},
	}
}

func rollbackCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rollback [ROLL-OUT]", Short: "Drop the drafts of a roll-out, or put back the texts that it replaced",
		Long: `Drop the drafts of a roll-out that is not served yet, or put back, bit for bit, the texts
that the served one replaced. Without a number the newest that can be. There is one way
back: a served roll-out can be taken back until the next is promoted.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return decide(cmd, stream.ActionRollback, func(st stream.Rollout) (int64, error) {
				can := st.Withdrawable()
				if len(can) == 0 {
					return 0, fmt.Errorf("roll-out %d is %s, and there is nothing to take back", st.ID, st.Phase)
				}
				if len(args) == 0 {
					return can[0], nil
				}
				id, err := strconv.ParseInt(args[0], 10, 64)
				if err != nil {
					return 0, fmt.Errorf("%q is not the number of a roll-out", args[0])
				}
				if !slices.Contains(can, id) {
					return 0, fmt.Errorf("roll-out %d cannot be taken back now; of these one can: %v", id, can)
				}
				return id, nil
			})
		},
	}
}

// decide writes what the operator wants of the roll-out that which chooses.
func decide(cmd *cobra.Command, action stream.RolloutAction, which func(stream.Rollout) (int64, error)) error {
	cfg, err := loadLog(cmd)
	if err != nil {
		return err
	}
	st, err := rollout.State(cmd.Context(), cfg.Kafka)
	if err != nil {
		return err
	}
	if st.ID == 0 {
		return fmt.Errorf("no roll-out has begun yet")
	}
	id, err := which(st)
	if err != nil {
		return err
	}
	client, err := newClient(cfg.Kafka)
	if err != nil {
		return err
	}
	defer client.Close()
	rec, err := stream.RolloutRecord(stream.NamesOf(cfg.Kafka.TopicPrefix).Rollouts(), "seralm/rollout", time.Now(),
		stream.Decision{Rollout: id, Action: action, By: stream.ByOperator, Reason: "an operator said " + string(action)})
	if err == nil {
		err = client.ProduceSync(cmd.Context(), rec).FirstErr()
	}
	if err != nil {
		return fmt.Errorf("asking for the %s of roll-out %d: %w", action, id, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s of roll-out %d is asked for; the pregenerator does it when its present batch is written (seralm rollout status)\n", action, id)
	return nil
}
