package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"seralm/experiments"
)

func evalCompareCommand() *cobra.Command {
	var arms []string
	var seen string
	c := &cobra.Command{
		Use:   "compare A.json B.json",
		Short: "How much better B is than A, case by case, with 95 % intervals over users and seeds",
		Example: `  seralm eval compare base.json title.json
  seralm eval compare titles.json texts.json --arm sasrec+title@0.3 --arm sasrec+texts@0.3`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(arms) > 2 {
				return fmt.Errorf("%d arms are named; name one for both files, or one for each", len(arms))
			}
			var names [2]string
			copy(names[:], arms)
			if len(arms) == 1 {
				names[1] = names[0]
			}
			a, err := experiments.ReadHoldout(args[0])
			if err != nil {
				return err
			}
			b, err := experiments.ReadHoldout(args[1])
			if err != nil {
				return err
			}
			if seen != "" {
				if a, err = a.Seen(seen); err != nil {
					return err
				}
				if b, err = b.Seen(seen); err != nil {
					return err
				}
			}
			comparisons, err := experiments.Compare(a, names[0], b, names[1])
			if err != nil {
				return err
			}
			t := table.NewWriter()
			t.SetOutputMirror(cmd.OutOrStdout())
			t.SetStyle(table.StyleLight)
			t.AppendHeader(table.Row{"metric", "A", "B", "B - A", "95 % interval", ""})
			for _, c := range comparisons {
				verdict := ""
				if c.Low > 0 {
					verdict = "B higher"
				} else if c.High < 0 {
					verdict = "B lower"
				}
				f := func(v float64) string { return fmt.Sprintf("%.4f", v) }
				t.AppendRow(table.Row{c.Metric, f(c.A), f(c.B), fmt.Sprintf("%+.4f", c.Mean), fmt.Sprintf("%+.4f %+.4f", c.Low, c.High), verdict})
			}
			t.Render()
			if programs := experiments.Programs(a, names[0], b, names[1]); programs != nil {
				fmt.Fprintf(cmd.OutOrStdout(), "The runs are of these versions of this program: %s. What may have changed between them is part of the differences.\n", strings.Join(programs, ", "))
			}
			return nil
		},
	}
	c.Flags().StringArrayVar(&arms, "arm", nil, "arm of A, and given twice of B (default: the only one)")
	c.Flags().StringVar(&seen, "seen", "", seenFlag)
	return c
}

const seenFlag = "only cases whose item occurs so often in what was learnt: 0, 1-5, 21-"

func evalTableCommand() *cobra.Command {
	var seen []string
	c := &cobra.Command{
		Use:   "table FILES...",
		Short: "Markdown tables of leave-one-out and cold-start results, and of prequential ones' last half",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return experiments.Tables(cmd.OutOrStdout(), seen, args...)
		},
	}
	c.Flags().StringSliceVar(&seen, "seen", nil, seenFlag+"; several, one after the other")
	return c
}

func evalPlotCommand() *cobra.Command {
	var out, metric string
	c := &cobra.Command{
		Use:     "plot FILES...",
		Short:   "Draw learning curves or prequential curves of result files",
		Example: `  seralm eval plot prequential-ml-1m.json --metric masked_ndcg@10 --out curve.svg`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			format := strings.TrimPrefix(filepath.Ext(out), ".")
			if format != "svg" && format != "png" {
				return fmt.Errorf("--out %q: name a file that ends in .svg or .png", out)
			}
			return experiments.WriteFile(out, func(w io.Writer) error { return experiments.Plot(w, format, metric, args...) })
		},
	}
	c.Flags().StringVar(&out, "out", "", "file to draw to, .svg or .png")
	c.Flags().StringVar(&metric, "metric", "masked_ndcg@10", "one of "+strings.Join(experiments.CurveMetrics, ", "))
	return c
}
