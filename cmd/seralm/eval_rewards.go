package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"seralm/experiments"
	"seralm/models/metrics"
)

func evalRewardsCommand() *cobra.Command {
	var l alignFlags
	var items, best int
	var out string
	c := &cobra.Command{
		Use:   "rewards",
		Short: "How far what a text is worth to half of the users is what it is worth to the other half",
		Long: `How far what a text is worth to half of the users is what it is worth to the other half.

The model that is not aligned writes --best-of texts of each of the most popular items.
Each half of the users, who are divided by chance, rewards all of them, and chooses
one of each item; the other half says what that one is worth above the mean of its
item's texts. A reward that is mostly noise gains nothing there.

Texts and the recommender that judges them are in the folder of --dir, which may be that
of seralm eval align with the same settings. The same command goes on where it was
interrupted. The recommender has learnt from both halves.`,
		Example: `  seralm eval rewards --knowledge texts.json --dir align-1 --json rewards.json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if best < 2 || best > 64 || items < 1 {
				return errors.New("--best-of is 2 to 64, --items is 1 or more")
			}
			return l.open(cmd, false, func(al *experiments.Aligner) error {
				r, err := al.Rewards(cmd.Context(), items, best)
				if err != nil {
					return err
				}
				printRewards(cmd.OutOrStdout(), r)
				return writeJSON(out, r)
			})
		},
	}
	l.add(c)
	f := c.Flags()
	f.IntVar(&items, "items", 200, "write about so many items, the most popular")
	f.IntVar(&best, "best-of", 4, "write so many texts of each item")
	f.StringVar(&out, "json", "", "write the result, with all that made it, to this file")
	return c
}

func printRewards(w io.Writer, r experiments.RewardsResult) {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"chosen by", "items", "rank correlation with the other half", "gain there, nats an item", "gain in the half that chose"})
	f := func(format string, v metrics.Interval) string { return fmt.Sprintf(format, v.Mean, v.Low, v.High) }
	for _, row := range []struct {
		by string
		experiments.Carry
	}{{"catalogue reward", r.Catalogue}, {"p(y|x,s) of one instance", r.Instance}} {
		t.AppendRow(table.Row{
			row.by, row.Items, f("%.2f [%.2f, %.2f]", row.Correlation), f("%+.2f [%+.2f, %+.2f]", row.Gain), f("%+.2f [%+.2f, %+.2f]", row.Own),
		})
	}
	t.Render()
	fmt.Fprintf(w, "%d texts of each item; %d and %d instances; %d items of which fewer than two texts say something; %.0f s on %s\n",
		r.Texts, r.Instances[0], r.Instances[1], r.Silent, r.Seconds, r.Machine)
}
