package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"seralm/cmd/internal/process"
	"seralm/config"
	"seralm/loadtest"
)

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "seralm",
		Short: "A streaming recommender whose language model learns from the recommender",
		Long: `SeRALM learns from a stream of user interactions on Kafka while it passes, and
serves recommendations from snapshots of what it learnt.

Without a configuration everything runs embedded in one process: an in-process
Kafka-protocol broker, an in-process Redis-protocol store, loopback HTTP.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	process.ConfigFlag(root.PersistentFlags())
	root.AddCommand(
		upCommand(), demoCommand(), trainCommand(), serveCommand(), gatewayCommand(),
		replayCommand(), evalCommand(), loadtest.Command(), topicsCommand(), snapshotCommand(),
		knowledgeCommand(), rolloutCommand(), alignCommand(), rebuildCommand(), configCommand(), versionCommand(),
	)
	for _, c := range root.Commands() {
		if c.HasSubCommands() && !c.Runnable() {
			c.RunE = choose
		}
	}
	return root
}

// choose is what a command that only holds others does by itself. Left to cobra, one
// that is misspelt prints the help and succeeds, and a script goes on.
func choose(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return fmt.Errorf("%s: there is no command %q; there are %s", c.CommandPath(), args[0], strings.Join(names, ", "))
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "seralm", config.Version) },
	}
}

func configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check or show the configuration"}
	check := &cobra.Command{
		Use: "check", Short: "Say whether the configuration is valid, and why not", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := process.Load(cmd); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the configuration is valid")
			return nil
		},
	}
	var env bool
	show := &cobra.Command{
		Use: "show", Short: "Print the configuration in force, secrets hidden", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if env {
				names, err := config.Variables()
				if err != nil {
					return err
				}
				for _, n := range names {
					fmt.Fprintln(cmd.OutOrStdout(), n)
				}
				return nil
			}
			cfg, err := process.Load(cmd)
			if err != nil {
				return err
			}
			out, err := cfg.YAML()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
	show.Flags().BoolVar(&env, "env", false, "list the environment variables instead")
	c.AddCommand(check, show)
	return c
}
