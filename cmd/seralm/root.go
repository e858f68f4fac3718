package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"seralm/config"
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
	root.PersistentFlags().StringP("config", "c", os.Getenv("SERALM_CONFIG"), "configuration file (also SERALM_CONFIG); none = the defaults")
	root.AddCommand(
		upCommand(), demoCommand(), trainCommand(), serveCommand(), gatewayCommand(),
		replayCommand(), evalCommand(), loadtestCommand(), topicsCommand(), snapshotCommand(),
		rebuildCommand(), configCommand(), versionCommand(),
	)
	return root
}

// load reads the configuration that the command line names.
func load(cmd *cobra.Command) (config.Config, error) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return config.Config{}, err
	}
	return config.Load(path, os.Environ())
}

// logger returns the process's logger as the configuration wants it.
func logger(c config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // Validate has checked it
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
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
			if _, err := load(cmd); err != nil {
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
			cfg, err := load(cmd)
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
