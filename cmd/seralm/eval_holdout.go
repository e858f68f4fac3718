package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"seralm/cmd/internal/process"
	"seralm/config"
	"seralm/consumers/pregenerator/native"
	"seralm/experiments"
	"seralm/models/seqrec"
)

func evalLeaveOneOutCommand() *cobra.Command {
	var d datasetFlags
	var a experiments.Arm
	var hide float64
	var seeds []uint
	var knowledge, out string
	c := &cobra.Command{
		Use:   "leaveoneout",
		Short: "Learn all but each user's last two interactions, and rank the last among all items",
		Long: `Learn all but each user's last two interactions in epochs, keep the epoch that ranks the
second last best, and rank the last among all items: with the user's history among
them, and without ("masked").

With --hide a share of the items is taken out instead, and every interaction with one
of them is ranked given what its user took before: cold start. What the model knows of
such an item is its text.

Sizes, learning rate and dropout are the configuration's (recommender.*). The seeds of
an arm are written to the file of --json one by one: the same command goes on where it was
interrupted, and other arms are added to the same file.`,
		Example: `  seralm eval leaveoneout --min-value 3 --seeds 1,2,3 --json loo.json
  seralm eval leaveoneout --min-value 3 --seeds 1,2,3 --json loo.json --knowledge title
  seralm eval table loo.json`,
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
			r := &cfg.Recommender
			if name, _ := cmd.Flags().GetString("recommender"); name != "" {
				r.Architecture = name
			}
			if drop, _ := cmd.Flags().GetFloat64("id-dropout"); cmd.Flags().Changed("id-dropout") {
				r.IDDropout = drop
			}
			var encoder experiments.Encoder
			if r.KnowledgeDim = 0; knowledge == experiments.NoKnowledge {
				r.IDDropout = 0
			} else {
				e, err := native.LoadEncoder(cfg)
				if err != nil {
					return err
				}
				defer e.Close()
				encoder, r.KnowledgeDim = e, e.Dim()
			}
			a.Recommender, a.New = *r, anyModel
			if strings.Contains(knowledge, seedPart) {
				a.Knowledge = experiments.Knowledge{Source: experiments.Source{Name: filepath.Base(knowledge), Encoder: encoder.Version()}}
				a.Each = func(ctx context.Context, seed uint64) (experiments.Knowledge, error) {
					return experiments.ReadKnowledge(ctx, data, strings.ReplaceAll(knowledge, seedPart, fmt.Sprint(seed)), encoder)
				}
			} else if a.Knowledge, err = experiments.ReadKnowledge(cmd.Context(), data, knowledge, encoder); err != nil {
				return err
			}
			if a.Name == "" {
				a.Name = armName(*r, a.Knowledge.Source)
			}
			numbers := make([]uint64, len(seeds))
			for i, s := range seeds {
				numbers[i] = uint64(s)
			}
			result, err := experiments.Holdout(cmd.Context(), data, a, hide, numbers, out, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return experiments.Table(cmd.OutOrStdout(), result)
		},
	}
	d.add(c)
	f := c.Flags()
	f.String("recommender", "", strings.Join(config.Architectures, ", ")+", popularity or transitions (default: recommender.architecture)")
	f.StringVar(&knowledge, "knowledge", experiments.NoKnowledge, `what is known of items: none, title, or a file {"item": "text"} or export, gzipped or not; in its name `+seedPart+` stands for the seed`)
	f.Float64("id-dropout", 0, "share of items learnt from their vectors alone (default: recommender.id_dropout)")
	f.Float64Var(&hide, "hide", 0, "cold start: hide this share of the items")
	f.UintSliceVar(&seeds, "seeds", []uint{1}, "run once for each")
	trainingFlags(c, &a.Training)
	f.StringVar(&a.Name, "arm", "", "name in the result (default: made of recommender and knowledge)")
	f.StringVar(&out, "json", "", "add the result, with all that made it, to this file")
	return c
}

// seedPart of the name of a file of texts stands for the seed, where each has its own.
const seedPart = "{seed}"

// trainingFlags are those of a recommender that learns in epochs.
func trainingFlags(c *cobra.Command, t *experiments.Training) {
	f := c.Flags()
	f.IntVar(&t.Epochs, "epochs", 200, "at most so many passes over the data")
	f.IntVar(&t.Batch, "batch", 128, "sequences of a step")
	f.IntVar(&t.Patience, "patience", 10, "end after so many epochs without a better validation")
	f.StringVar(&t.Stop, "stop", "masked_ndcg@10", "what of the validation must get better: "+strings.Join(experiments.Metrics(), ", "))
	f.StringVar(&t.Schedule, "schedule", "constant", "of the learning rate: constant, or cosine with an epoch of warm-up")
	f.IntVar(&t.Validate, "validate", 0, "validate with so many users, drawn by seed (0 = all)")
}

// anyModel makes a recommender, the references among them.
func anyModel(c config.Recommender) (seqrec.Recommender, error) {
	switch c.Architecture {
	case "popularity":
		return seqrec.NewPopularity(), nil
	case "transitions":
		return seqrec.NewTransitions(), nil
	}
	return newModel(c)
}

func armName(r config.Recommender, s experiments.Source) string {
	if s.Name == experiments.NoKnowledge {
		return r.Architecture
	}
	what, _, _ := strings.Cut(filepath.Base(s.Name), ".")
	return fmt.Sprintf("%s+%s@%g", r.Architecture, what, r.IDDropout)
}
