package main

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"seralm/cmd/internal/process"
	"seralm/config"
	"seralm/consumers/pregenerator"
	"seralm/consumers/pregenerator/native"
	"seralm/consumers/rollout"
	"seralm/experiments"
	"seralm/feature"
	"seralm/stream"
)

func knowledgeCommand() *cobra.Command {
	c := &cobra.Command{Use: "knowledge", Short: "Write, look at, import and export what is known of items"}
	c.AddCommand(generateCommand(), showCommand(), diffCommand(), importCommand(), exportCommand(), statsCommand())
	return c
}

func generateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "generate",
		Short: "Write what is missing, and end when nothing is",
		Long: `Write what is missing: a vector of the title of every item without knowledge, then a
language model's text and its vector, the newest and most popular items first. Each
batch is in the log when it is done: interrupted or killed, it goes on where it was.

While it runs, a pregenerator role of this system stands by; it goes on five minutes
after the last record.`,
		Example: `  SERALM_KNOWLEDGE_DOMAIN=movies seralm knowledge generate`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			models, err := loadModels(cfg)
			if err != nil {
				return err
			}
			defer models.close()
			o := pregenerator.Options{Writer: models.writer, Encoder: models.encoder, Registry: prometheus.NewRegistry(), Once: true}
			if cfg.Redis.Addr != "" {
				store, err := feature.Open(cmd.Context(), cfg.Redis)
				if err != nil {
					return err
				}
				defer store.Close()
				o.Popular = store
			}
			return generate(cmd, cfg, o)
		},
	}
}

// generate runs a pregenerator with a bar on a terminal, or else with lines in the log.
func generate(cmd *cobra.Command, cfg config.Config, o pregenerator.Options) error {
	f, ok := cmd.ErrOrStderr().(*os.File)
	bar := ok && term.IsTerminal(int(f.Fd()))
	if bar {
		cfg.Log.Level = slog.LevelWarn.String() // the bar tells the rest
	}
	o.Logger = process.Logger(cfg.Log)
	p, err := pregenerator.New(cfg, o)
	if err != nil {
		return err
	}
	began, stop := time.Now(), func() {}
	if bar {
		stop = showBar(f, p.Progress)
	}
	err = p.Run(cmd.Context())
	stop()
	g := p.Progress()
	fmt.Fprintf(cmd.OutOrStdout(), "%d texts of %d tokens in %s; %d wait\n", g.Written, g.Tokens, time.Since(began).Round(time.Second), g.Waiting)
	if err == nil {
		err = cmd.Context().Err() // interrupted: what is written stays
	}
	return err
}

// showBar draws a bar until the function it returns is called.
func showBar(w io.Writer, progress func() pregenerator.Progress) (stop func()) {
	b := progressbar.NewOptions(-1, progressbar.OptionSetWriter(w), progressbar.OptionSetWidth(24), progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(false), progressbar.OptionSetDescription("reading the log, encoding titles"))
	show := func() {
		g := progress()
		if !g.Ready {
			return
		}
		b.ChangeMax(max(1, g.Written+g.Waiting))
		b.Describe(fmt.Sprintf("texts, %.0f a minute, %.0f tokens/s, %s left", 60*g.PerSecond, g.TokensPerSecond, g.Left))
		_ = b.Set(g.Written) // a bar that cannot be drawn is no reason to stop
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				show()
			}
		}
	}()
	return func() {
		close(quit)
		<-done
		show()
		fmt.Fprintln(w)
	}
}

func showCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show ITEM", Short: "Print what is known of an item, what made it and when", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			k, err := pregenerator.Find(cmd.Context(), cfg.Kafka, args[0])
			if errors.Is(err, pregenerator.ErrUnknown) {
				return fmt.Errorf("%w (`seralm knowledge generate` writes what is missing)", err)
			}
			if err != nil {
				return err
			}
			showKnowledge(cmd.OutOrStdout(), k)
			return nil
		},
	}
}

func showKnowledge(out io.Writer, k stream.Knowledge) {
	fmt.Fprintf(out, "item     %s\norigin   %s\n", k.Item, k.Origin)
	if k.Policy.Name != "" {
		fmt.Fprintf(out, "model    %s\n", k.Policy)
	}
	if k.PromptHash != "" {
		fmt.Fprintf(out, "prompt   %s\n", k.PromptHash)
	}
	fmt.Fprintf(out, "encoder  %s (%d numbers)\nwritten  %s, %s ago\n\n%s\n", k.Encoder, len(k.Vector),
		k.Time.Format(time.RFC3339), time.Since(k.Time).Round(time.Second), k.Text)
}

func diffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff ITEM", Short: "Print what is known of an item beside what roll-outs propose, or have replaced", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			k, err := pregenerator.Find(cmd.Context(), cfg.Kafka, args[0])
			if err != nil {
				return err
			}
			beside, err := rollout.Beside(cmd.Context(), cfg.Kafka, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintln(out, "--- served")
			showKnowledge(out, k)
			if len(beside) == 0 {
				fmt.Fprintln(out, "\nno roll-out proposes another text, or could put one back")
			}
			for _, b := range beside {
				fmt.Fprintf(out, "\n--- %s\n", b.What)
				showKnowledge(out, b.Knowledge)
			}
			return nil
		},
	}
}

func importCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "Encode ready texts and make them the knowledge of their items",
		Long: `Encode ready texts and make them the knowledge of their items. FILE is a JSON object,
{"item": "text", ...}, or what ` + "`seralm knowledge export`" + ` wrote, gzipped or not; - is standard
input. No language model replaces an imported text. Importing the same file again is
harmless.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			in := cmd.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			encoder, err := native.LoadEncoder(cfg)
			if err != nil {
				return err
			}
			defer encoder.Close()
			client, err := newClient(cfg.Kafka)
			if err != nil {
				return err
			}
			defer client.Close()
			told := time.Now()
			n, err := pregenerator.Import(cmd.Context(), client, stream.NamesOf(cfg.Kafka.TopicPrefix), encoder, in, func(written int) {
				if time.Since(told) > 5*time.Second {
					told = time.Now()
					fmt.Fprintf(cmd.ErrOrStderr(), "%d texts imported\n", written)
				}
			})
			fmt.Fprintf(cmd.OutOrStdout(), "%d texts imported\n", n)
			if err != nil {
				return fmt.Errorf("importing %s: %w", args[0], err)
			}
			return nil
		},
	}
}

func exportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export FILE",
		Short: "Write what is known of every item as lines of JSON",
		Long: `Write what is known of every item as lines of JSON, gzipped if the name of FILE ends in
.gz; - is standard output. A vector is the base64 of little-endian float32 numbers.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			if args[0] == "-" {
				_, err := pregenerator.Export(cmd.Context(), cfg.Kafka, cmd.OutOrStdout())
				return err
			}
			n := 0
			err = experiments.WriteFile(args[0], func(w io.Writer) error {
				if !strings.HasSuffix(args[0], ".gz") {
					n, err = pregenerator.Export(cmd.Context(), cfg.Kafka, w)
					return err
				}
				z := gzip.NewWriter(w)
				n, err = pregenerator.Export(cmd.Context(), cfg.Kafka, z)
				return errors.Join(err, z.Close())
			})
			if err != nil {
				return fmt.Errorf("exporting what is known: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d items exported\n", n)
			return nil
		},
	}
}

func statsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stats", Short: "Count what is known, by where it came from and what made it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadLog(cmd)
			if err != nil {
				return err
			}
			c, err := pregenerator.Count(cmd.Context(), cfg.Kafka)
			if err != nil {
				return err
			}
			var rows []table.Row
			for kind, n := range c.Known {
				policy := "-"
				if kind.Policy.Name != "" {
					policy = kind.Policy.String()
				}
				rows = append(rows, table.Row{kind.Origin, policy, kind.Encoder, n})
			}
			slices.SortFunc(rows, func(a, b table.Row) int { return strings.Compare(fmt.Sprint(a...), fmt.Sprint(b...)) })
			t := table.NewWriter()
			t.SetOutputMirror(cmd.OutOrStdout())
			t.SetStyle(table.StyleLight)
			t.AppendHeader(table.Row{"origin", "model", "encoder", "items"})
			t.AppendRows(rows)
			t.Render()
			fmt.Fprintf(cmd.OutOrStdout(), "%d items are announced and shown: %d have the vector of their title only, %d have nothing\n", c.Items, c.Titles, c.Without)
			return nil
		},
	}
}
