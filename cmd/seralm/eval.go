package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"seralm/cmd/internal/process"
	"seralm/experiments"
	"seralm/models/prequential"
	"seralm/producers/dataset"
)

func evalCommand() *cobra.Command {
	c := &cobra.Command{Use: "eval", Short: "Measure recommenders on a data set, without a broker"}
	c.AddCommand(evalPrequentialCommand(), evalLeaveOneOutCommand(), evalCompareCommand(), evalTableCommand(), evalPlotCommand(), evalAlignCommand(), evalRewardsCommand())
	return c
}

func evalPrequentialCommand() *cobra.Command {
	var d datasetFlags
	var out string
	c := &cobra.Command{
		Use:   "prequential",
		Short: "Test, then train: rank each event before learning it, beside popularity and item-transition kNN",
		Example: `  seralm eval prequential --dataset testdata/ml-latest-small
  seralm eval prequential --dataset ml-1m --min-value 3 --json ml-1m.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := process.Load(cmd)
			if err != nil {
				return err
			}
			data, err := d.open(cmd)
			if err != nil {
				return err
			}
			model, err := newModel(cfg.Recommender)
			if err != nil {
				return err
			}
			defer model.Close()
			r, err := experiments.Prequential(cmd.Context(), cfg, data, model, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			printPrequential(cmd.OutOrStdout(), r)
			return writeJSON(out, r)
		},
	}
	d.add(c)
	c.Flags().StringVar(&out, "json", "", "write the result, with all that made it, to this file")
	return c
}

func printPrequential(w io.Writer, r experiments.PrequentialResult) {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"last half", "Hit@10", "NDCG@10", "MRR", "log p", "Hit@10 masked", "NDCG@10 masked"})
	for _, name := range r.Order {
		t.AppendRow(summaryRow(name, r.LastHalf[name]))
	}
	t.Render()
	c := r.Counts
	fmt.Fprintf(w, "%d events ranked; %d first of their user, %d of an item never seen before (a miss for all), %d repeated; %.0f s on %s\n",
		c.Ranked, c.First, c.NewItems, c.Duplicates, r.Seconds, r.Machine)
}

func summaryRow(name string, s prequential.Summary) table.Row {
	f := func(v float64) string { return fmt.Sprintf("%.4f", v) }
	return table.Row{name, f(s.Hit10), f(s.NDCG10), f(s.MRR), fmt.Sprintf("%.3f", s.LogP), f(s.MaskedHit10), f(s.MaskedNDCG10)}
}

// writeJSON writes a result file; an empty path writes none.
func writeJSON(path string, v any) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// datasetFlags are the flags of every command that reads a data set.
type datasetFlags struct {
	o       dataset.Options
	columns string
}

func (d *datasetFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&d.o.Path, "dataset", "testdata/ml-latest-small", "folder or interactions file of the data set")
	f.StringVar((*string)(&d.o.Format), "format", "", "its format, where the file names do not tell")
	f.StringVar(&d.columns, "columns", "", "columns of a table, e.g. user=uid,item=sku,time=ts,format=ms")
	f.Float64Var(&d.o.MinValue, "min-value", 0, "leave out interactions with a lower value (the papers use 3)")
	f.IntVar(&d.o.MinUser, "min-user", 0, "leave out users with fewer interactions")
	f.IntVar(&d.o.MinItem, "min-item", 0, "leave out items with fewer interactions")
	f.IntVar(&d.o.Limit, "limit", 0, "only the first so many interactions (0 = all)")
}

func (d *datasetFlags) open(cmd *cobra.Command) (*dataset.Dataset, error) {
	columns, err := dataset.ParseColumns(d.columns)
	if err != nil {
		return nil, err
	}
	d.o.Columns = columns
	return dataset.Open(cmd.Context(), d.o)
}
