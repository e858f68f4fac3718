package loadtest

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// Command returns `seralm loadtest`.
func Command() *cobra.Command {
	o := Defaults()
	var users, items, stages, slo, jsonFile, hgrmFile, arrivals string
	cmd := &cobra.Command{
		Use:   "loadtest",
		Short: "Measure a running server: look-ups and events at a planned rate",
		Long: `Send look-ups and events to a running server at planned times, and report how long
users would have waited, counted from those times.

The events are real: they enter the log and the models learn from them. Use a
server that is there to be tested.`,
		Example: `  seralm loadtest --rate 1000 --duration 60s --slo p99=10ms,errors=0.1%
  seralm loadtest --stages 30s:100-2000,60s:2000 --arrivals poisson --json result.json
  seralm loadtest --saturate 16 --events-share 0 --slo rps=5000
  seralm loadtest --rate 50 --probe-freshness 10 --slo freshness.p50=10ms`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			objectives, err := ParseSLO(slo)
			if err != nil {
				return fmt.Errorf("--slo: %w", err)
			}
			if o.Stages, err = ParseStages(stages); err != nil {
				return fmt.Errorf("--stages: %w", err)
			}
			if o.Users, err = ParsePopulation(users); err != nil {
				return fmt.Errorf("--users: %w", err)
			}
			if items != "" {
				if o.Items, err = ParsePopulation(items); err != nil {
					return fmt.Errorf("--items: %w", err)
				}
			}
			o.Arrivals, o.Progress = Arrivals(arrivals), cmd.ErrOrStderr()
			rep, err := Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			missed := rep.Check(objectives)
			if err := write(cmd, &rep, jsonFile, hgrmFile); err != nil {
				return err
			}
			if rep.Interrupted {
				return errors.Join(missed, cmd.Context().Err())
			}
			return missed
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Target, "target", o.Target, "base URL of the server")
	f.Float64Var(&o.Rate, "rate", o.Rate, "planned requests per second")
	f.DurationVar(&o.Duration, "duration", o.Duration, "how long to measure, after the warm-up")
	f.StringVar(&stages, "stages", "", "instead of rate and duration: DURATION:RATE or DURATION:FROM-TO, separated by commas")
	f.DurationVar(&o.Warmup, "warmup", o.Warmup, "sent first and not counted")
	f.StringVar(&arrivals, "arrivals", string(o.Arrivals), "constant or poisson")
	f.IntVar(&o.Saturate, "saturate", 0, "instead of a planned rate: keep this many connections busy")
	f.StringVar(&users, "users", "610", "who asks: N (ids 1 to N), FIRST-LAST, or @FILE with one id a line, the busiest first")
	f.StringVar(&items, "items", "", "what is clicked, in the same form (default: what the server recommends)")
	f.Float64Var(&o.Zipf, "zipf", o.Zipf, "exponent of the skew of users and items; 0 = uniform")
	f.Float64Var(&o.EventsShare, "events-share", o.EventsShare, "share of requests that post an event")
	f.StringVar(&o.EventType, "event-type", o.EventType, "type of the events")
	f.IntVar(&o.N, "n", o.N, "items per look-up")
	f.IntVar(&o.MaxInFlight, "max-in-flight", o.MaxInFlight, "connections at most, one request on each")
	f.DurationVar(&o.Timeout, "timeout", o.Timeout, "a user's patience, from the planned time")
	f.DurationVar(&o.DropAfter, "drop-after", o.DropAfter, "drop a request that waited this long for a connection")
	f.DurationVar(&o.LateAfter, "late-after", o.LateAfter, "count a request as late when sent this much after its planned time")
	f.Float64Var(&o.ProbeFreshness, "probe-freshness", 0, "times a second to measure how long an event takes to change a look-up")
	f.Uint64Var(&o.Seed, "seed", o.Seed, "of arrivals, users and items")
	f.BoolVar(&o.AllowRemote, "allow-remote", false, "send to addresses that are neither loopback nor private; the server must be yours")
	f.StringVar(&slo, "slo", "", "objectives that set the exit code, as in p99=2ms,errors=0.1%,lookups.p99.9=20ms,rps=5000")
	f.StringVar(&jsonFile, "json", "", "write the report as JSON to this file (- = standard output, the text then goes to standard error)")
	f.StringVar(&hgrmFile, "hgrm", "", "write the latencies as an HdrHistogram percentile table to this file")
	return cmd
}

func write(cmd *cobra.Command, rep *Report, jsonFile, hgrmFile string) error {
	text := cmd.OutOrStdout()
	switch jsonFile {
	case "":
	case "-":
		text = cmd.ErrOrStderr()
		if err := rep.WriteJSON(cmd.OutOrStdout()); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	default:
		if err := toFile(jsonFile, rep.WriteJSON); err != nil {
			return err
		}
	}
	if hgrmFile != "" {
		if err := toFile(hgrmFile, rep.WriteHGRM); err != nil {
			return err
		}
	}
	if err := rep.WriteText(text); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func toFile(path string, fill func(io.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	defer func() {
		if closing := f.Close(); err == nil && closing != nil {
			err = fmt.Errorf("writing the report: %w", closing)
		}
	}()
	if err := fill(f); err != nil {
		return fmt.Errorf("writing the report to %s: %w", path, err)
	}
	return nil
}
