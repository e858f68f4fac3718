package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"seralm/cmd/internal/process"
	"seralm/config"
	"seralm/experiments"
	"seralm/models/prequential"
	"seralm/models/seqrec"
	"seralm/producers/dataset"
)

func evalCommand() *cobra.Command {
	c := &cobra.Command{Use: "eval", Short: "Measure recommenders on a data set, without a broker"}
	c.AddCommand(evalPrequentialCommand(), evalLeaveOneOutCommand(), evalCompareCommand(), evalTableCommand(), evalPlotCommand(), evalAlignCommand(), evalRewardsCommand())
	return c
}

func evalPrequentialCommand() *cobra.Command {
	var d datasetFlags
	var contest experiments.Contest
	var out string
	c := &cobra.Command{
		Use:   "prequential",
		Short: "Test, then train: rank each event before learning it, beside popularity and item-transition kNN",
		Long: `Test, then train: rank each event before learning it. Every recommender that is named
learns online from the same events, beside popularity and item-transition kNN.

With --retrain another of each learns nothing between, and is trained from scratch, on
all events so far, whenever so much time has passed in the data: what is done every
night in many places. Until its first training it misses. It costs --epochs passes over
everything, every time. Its log p is the mean over fewer events, of the items it knew.

The file of --json has the curve so far while it runs, and says that it is unfinished.

With --delay every arm learns what it has ranked when so many further events were
ranked: what it costs to be late.`,
		Example: `  seralm eval prequential --dataset testdata/ml-latest-small
  seralm eval prequential --dataset ml-1m --min-value 3 --json ml-1m.json
  seralm eval prequential --dataset ml-1m --recommender sasrec,gru4rec --retrain 24h --epochs 5 --json two.json`,
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
			if len(contest.Recommenders) == 0 {
				contest.Recommenders = []string{cfg.Recommender.Architecture}
			}
			contest.New = func(r config.Recommender) (seqrec.Recommender, error) {
				of := cfg
				of.Recommender = r // some sizes do not suit all architectures
				if err := of.Validate(); err != nil {
					return nil, err
				}
				return newModel(r)
			}
			r, err := experiments.Prequential(cmd.Context(), cfg, data, contest, cmd.ErrOrStderr(),
				func(r experiments.PrequentialResult) error { return writeJSON(out, r) })
			if err != nil {
				return err
			}
			printPrequential(cmd.OutOrStdout(), r)
			return writeJSON(out, r)
		},
	}
	d.add(c)
	f := c.Flags()
	f.StringSliceVar(&contest.Recommenders, "recommender", nil, "one or more of "+strings.Join(config.Architectures, ", ")+" (default: recommender.architecture)")
	f.DurationVar(&contest.Retrain.Every, "retrain", 0, "beside each, one that is trained from scratch every so much time of the data, e.g. 24h")
	f.IntVar(&contest.Retrain.Epochs, "epochs", 20, "passes over the data of such a training")
	f.IntVar(&contest.Delay, "delay", 0, "learn an event when so many further ones were ranked")
	f.StringVar(&out, "json", "", "write the result, with all that made it, to this file")
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
	return experiments.WriteFile(path, func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	})
}

// datasetFlags are the flags of every command that reads a data set.
type datasetFlags struct {
	o       dataset.Options
	columns string
}

func (d *datasetFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&d.o.Path, "dataset", "testdata/ml-latest-small", "folder or interactions file of the data set")
	f.StringVar(&d.o.Name, "name", "", "of the data set, by which its events are told from others' (default: that of the folder or file)")
	f.StringVar((*string)(&d.o.Format), "format", "", "its format, where the file names do not tell")
	f.StringVar((*string)(&d.o.Encoding), "encoding", "", "of its text: utf-8 or latin-1 (default: as its format has it)")
	f.StringVar(&d.columns, "columns", "", "columns of a table, e.g. user=uid,item=sku,time=ts,format=ms")
	f.Float64Var(&d.o.MinValue, "min-value", 0, "leave out interactions with a lower value (the papers use 3)")
	f.IntVar(&d.o.MinUser, "min-user", 0, "leave out users with fewer interactions; counted once, together with --min-item, where RecBole counts again until nothing changes")
	f.IntVar(&d.o.MinItem, "min-item", 0, "leave out items with fewer interactions, likewise")
	f.IntVar(&d.o.Limit, "limit", 0, "only the first so many interactions (0 = all)")
}

func (d *datasetFlags) open(cmd *cobra.Command) (*dataset.Dataset, error) {
	columns, err := dataset.ParseColumns(d.columns)
	if err != nil {
		return nil, err
	}
	d.o.Columns = columns
	data, err := dataset.Open(cmd.Context(), d.o)
	if err == nil && data.Summary().ByID {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: every user's items stand in the order of their ids, which is no order of time: what is measured or learnt here of sequences means little; give it times or positions\n", data.Name())
	}
	return data, err
}
