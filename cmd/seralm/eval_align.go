package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"seralm/cmd/internal/process"
	generator "seralm/consumers/generator/native"
	knowledge "seralm/consumers/pregenerator/native"
	policy "seralm/consumers/trainer/policy/native"
	"seralm/experiments"
	"seralm/models/onnx"
)

// Values of --adapter.
const (
	adapterLearnt = "learnt"
	adapterNone   = "none"
)

// alignFlags are those of a command about an alignment on a data set.
type alignFlags struct {
	datasetFlags
	training   experiments.Training
	known, dir string
	seed       uint64
	warmUp     string
	warmUps    int
}

func (l *alignFlags) add(c *cobra.Command) {
	l.datasetFlags.add(c)
	trainingFlags(c, &l.training)
	f := c.Flags()
	f.StringVar(&l.known, "knowledge", experiments.Titles, `texts of the model that is not aligned, which the recommender learns from: a file {"item": "text"}, or title`)
	f.StringVar(&l.dir, "dir", "", "folder of the alignment")
	f.Uint64Var(&l.seed, "seed", 1, "of recommender, adapter and texts")
	_ = c.MarkFlagRequired("dir") // it exists
}

// open makes the alignment of the folder and uses it; learns says that the language
// model is to be taught.
func (l *alignFlags) open(cmd *cobra.Command, learns bool, use func(*experiments.Aligner) error) error {
	cfg, err := process.Load(cmd)
	if err != nil {
		return err
	}
	data, err := l.datasetFlags.open(cmd)
	if err != nil {
		return err
	}
	if err := onnx.Init(cfg.Native.ONNXRuntime); err != nil {
		return err
	}
	encoder, err := knowledge.LoadEncoder(cfg)
	if err != nil {
		return err
	}
	defer encoder.Close()
	cfg.Alignment.Seed, cfg.Recommender.Seed, cfg.Recommender.KnowledgeDim = l.seed, l.seed, encoder.Dim()
	a := experiments.Alignment{
		Config: cfg, Encoder: encoder, Open: generator.Open,
		Judge: experiments.Arm{Recommender: cfg.Recommender, Training: l.training, New: anyModel},
	}
	if a.Judge.Knowledge, err = experiments.ReadKnowledge(cmd.Context(), data, l.known, encoder); err != nil {
		return err
	}
	if l.warmUps > 0 {
		if a.WarmUp, err = experiments.ReadWarmUp(l.warmUp, l.warmUps); err != nil {
			return err
		}
	}
	written, err := generator.LoadPolicy(cfg)
	if err != nil {
		return err
	}
	defer written.Close()
	a.Policy = written
	if learns {
		model, err := policy.Load(cfg)
		if err != nil {
			return err
		}
		defer model.Close()
		a.Model = model
	}
	al, err := experiments.NewAligner(data, a, l.dir, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer al.Close()
	return use(al)
}

func evalAlignCommand() *cobra.Command {
	var l alignFlags
	var texts experiments.Texts
	var iterations int
	var adapter string
	c := &cobra.Command{
		Use:   "align",
		Short: "Align the language model with a recommender of the data set, and write texts with it",
		Long: `Align the language model with a recommender of the data set, and write texts with it,
without a broker: the generator and the policy's trainer take turns in one process
(alignment.refresh is not looked at).

The recommender that judges texts learns the training part of leave-one-out (all but
each user's last two interactions) from the texts of --knowledge, and then stays as it
is. Rewards are of the same interactions: set alignment.reservoir to their number, and
each text is judged by all of them.

Everything is in the folder of --dir: the recommender, checkpoints of the policy,
progress.jsonl with a line for each iteration. The same command goes on where it was
interrupted; with more --iterations it goes on further.

With --warm-up the first --warm-up-iterations of them teach the model to write the texts
of a file, whatever their reward.

With --texts the policy then writes about each item, the most popular first: an arm for
seralm eval leaveoneout --knowledge. --adapter none leaves out what was learnt, and
--best-of K takes of K such texts the one with the best reward.`,
		Example: `  seralm eval align --knowledge texts.json --dir align-1 --iterations 300 --texts aligned.json
  seralm eval align --knowledge texts.json --dir align-1 --best-of 4 --texts best.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if adapter != adapterLearnt && adapter != adapterNone {
				return fmt.Errorf("--adapter %q: it is %s or %s", adapter, adapterLearnt, adapterNone)
			}
			if texts.Best < 1 || texts.Best > 64 || texts.Items < 0 || iterations < 0 {
				return errors.New("--best-of is 1 to 64, --items and --iterations are 0 or more")
			}
			texts.Bare = adapter == adapterNone || texts.Best > 1
			if texts.Bare && iterations > 0 {
				return errors.New("with --adapter none or --best-of nothing is learnt: leave --iterations out")
			}
			if l.warmUps < 0 || (l.warmUps > 0) != (l.warmUp != "") {
				return errors.New("--warm-up FILE and --warm-up-iterations N, 1 or more, go together")
			}
			return l.open(cmd, iterations > 0, func(al *experiments.Aligner) error {
				if iterations > 0 {
					if err := al.Learn(cmd.Context(), iterations); err != nil {
						return err
					}
				}
				if texts.Path == "" {
					return nil
				}
				return al.Write(cmd.Context(), texts)
			})
		},
	}
	l.add(c)
	f := c.Flags()
	f.IntVar(&iterations, "iterations", 0, "so many in all, those of earlier runs among them")
	f.StringVar(&l.warmUp, "warm-up", "", `file of texts {"item": "text"} to teach the model first, for so many --warm-up-iterations`)
	f.IntVar(&l.warmUps, "warm-up-iterations", 0, "of --iterations, the first so many; each of alignment.batch x alignment.candidates texts")
	f.StringVar(&texts.Path, "texts", "", `write a text of each item to this file, as {"item": "text"}`)
	f.StringVar(&adapter, "adapter", adapterLearnt, "what writes the texts: learnt, or none for the model that is not aligned")
	f.IntVar(&texts.Items, "items", 0, "write about so many items only, the most popular (0 = all)")
	f.IntVar(&texts.Best, "best-of", 1, "write so many texts of each item without what was learnt, and take the one with the best reward")
	return c
}
