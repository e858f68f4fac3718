package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"seralm/cmd/internal/process"
	"seralm/config"
	"seralm/producers/replay"
	"seralm/serving"
)

func demoCommand() *cobra.Command {
	var d datasetFlags
	var show demo
	c := &cobra.Command{
		Use:   "demo",
		Short: "Stream real ratings through a learning system and show what it recommends",
		Long: `Stream real ratings through a learning system, all of it in this process, in a
folder that is removed at the end: what is recommended to a user of your choice, how
the model gets better as the events pass, how a click changes what is recommended, and
how a film that nobody has seen finds its audience by what is written about it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			cfg, err := process.Load(cmd)
			if err != nil {
				return err
			}
			if len(cfg.Kafka.Brokers) > 0 || cfg.Redis.Addr != "" {
				return errors.New("the demo brings a broker and views of its own, so that it leaves no trace in yours: " +
					"unset kafka.brokers and redis.addr, or use `seralm up` and `seralm replay`")
			}
			if show.data, err = d.open(cmd); err != nil {
				return err
			}
			if cfg.DataDir, err = os.MkdirTemp("", "seralm-demo-"); err != nil {
				return fmt.Errorf("making the demo's folder: %w (set TMPDIR to a folder that this user may write)", err)
			}
			defer func() { err = errors.Join(err, os.RemoveAll(cfg.DataDir)) }()
			cfg.Log.Level = "warn" // the demo does the talking
			// Everything shares this machine's cores: nobody minds a slow answer here.
			cfg.Serving.Deadline, cfg.Serving.HistoryDeadline = time.Second, time.Second
			cfg.HTTP.Addr = freeAddress(cfg.HTTP)
			if cfg, err = show.knowledge(cfg); err != nil {
				return err
			}
			// A hundred thousand events in steps of the default size are 400 steps, which
			// teach a new model little: more of them, and larger. And nobody rates a film twice.
			def := config.Default()
			if def.Recommender.KnowledgeDim = cfg.Recommender.KnowledgeDim; cfg.Trainer == def.Trainer && cfg.Recommender == def.Recommender {
				cfg.Trainer.BatchEvents, cfg.Recommender.LearningRate, cfg.Recommender.Dropout = 64, 3e-3, 0.5
				cfg.Recommender.HistoryBias = true
			}
			show.out, show.began = cmd.OutOrStdout(), time.Now()
			return show.run(cmd.Context(), cfg)
		},
	}
	d.add(c)
	c.Flags().StringVar(&show.user, "user", "", "whose recommendations to show first (default: somebody with a hundred ratings or more)")
	c.Flags().BoolVar(&show.exit, "exit", false, "end when everything was shown, instead of going on to serve")
	c.Flags().DurationVar(&show.patience, "patience", 15*time.Minute, "give up when the stream is not learnt after so long")
	return c
}

// freeAddress is the configured one or, if that is taken, another port: a newcomer's
// 8080 often is.
func freeAddress(cfg config.HTTP) string {
	l, err := serving.Listen(cfg)
	if err != nil {
		return "127.0.0.1:0"
	}
	defer l.Close()
	return cfg.Addr
}

// run starts everything, replays the data set beside it, and tells the story.
func (d *demo) run(ctx context.Context, cfg config.Config) error {
	d.chooseUsers()
	if d.user != "" && d.users[0] != d.user {
		return fmt.Errorf("the data set has no user %q; it has for example %s", d.user, strings.Join(d.users, ", "))
	}
	p, err := start(ctx, cfg, defaultRoles(cfg))
	if err != nil {
		return err
	}
	defer p.Close()
	roles, err := addRoles(p, defaultRoles(cfg), d.users)
	if err != nil {
		return err
	}
	d.base = "http://" + p.Addr()
	told := errors.New("the story is told")
	p.Add("demo", func(ctx context.Context) error {
		if err := d.tell(ctx, p.Config, roles); err != nil || !d.exit {
			return err
		}
		return told
	})
	if err := p.Run(ctx); !errors.Is(err, told) {
		return err
	}
	return nil
}

// tell is the demo from the first event to the last click.
func (d *demo) tell(ctx context.Context, cfg config.Config, roles watched) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.patience, fmt.Errorf("the demo did not get through in %s (--patience)", d.patience))
	defer cancel()
	d.greet()
	replayed := make(chan error, 1)
	go func() {
		_, err := replay.Run(ctx, replay.Options{Data: d.data, Kafka: cfg.Kafka, Dir: filepath.Join(cfg.DataDir, "replay"), Items: true})
		replayed <- err
	}()
	err := d.watch(ctx, roles.quality, replayed)
	if err == nil {
		err = d.results(ctx, roles.quality)
	}
	if err == nil {
		err = d.clicks(ctx)
	}
	if err == nil && cfg.Knowledge.Enabled {
		err = d.newcomer(ctx, cfg.Kafka, roles.writing)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	if err == nil && !d.exit {
		fmt.Fprintf(d.out, "\nThe system goes on serving. Open %s and click on a film; Ctrl-C ends it.\n", d.base)
	}
	return err
}

// chooseUsers takes three users to show: the one asked for, if there is one, and
// others with a hundred events or, failing that, fewer.
func (d *demo) chooseUsers() {
	counts, order := map[string]int{}, []string{}
	for _, e := range d.data.Interactions(0) {
		if counts[e.Body.User]++; counts[e.Body.User] == 1 {
			order = append(order, e.Body.User)
		}
	}
	if counts[d.user] > 0 {
		d.users = append(d.users, d.user)
	}
	for _, least := range []int{100, 20, 1} {
		for _, u := range order {
			if len(d.users) < 3 && counts[u] >= least && counts[u] < 3*least && !slices.Contains(d.users, u) {
				d.users = append(d.users, u)
			}
		}
	}
}

// count writes a number with separators.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
