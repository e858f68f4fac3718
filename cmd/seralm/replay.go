package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"seralm/producers/replay"
)

func replayCommand() *cobra.Command {
	var d datasetFlags
	var o replay.Options
	c := &cobra.Command{
		Use:   "replay",
		Short: "Write a data set to the log as the stream it once was",
		Long: `Write a data set to the log as the stream it once was: the catalogue, then every
interaction in its exact order. Interrupted, it goes on where it stopped.`,
		Example: `  seralm replay --dataset testdata/ml-latest-small
  seralm replay --dataset ml-1m --speed 86400          # a day of it in a second
  seralm replay --dataset events.csv --columns user=uid,item=sku,time=ts,format=ms`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			if o.Data, err = d.open(cmd); err != nil {
				return err
			}
			o.Kafka, o.Dir, o.Items, o.Progress = cfg.Kafka, filepath.Join(cfg.DataDir, "replay"), true, cmd.ErrOrStderr()
			r, err := replay.Run(cmd.Context(), o)
			fmt.Fprintln(cmd.OutOrStdout(), r)
			return err
		},
	}
	d.add(c)
	c.Flags().Float64Var(&o.Speed, "speed", 0, "seconds of the data set per second; 0 = as fast as possible")
	c.Flags().BoolVar(&o.Restart, "restart", false, "begin anew where an earlier replay stopped or ended")
	return c
}
