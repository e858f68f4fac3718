// Package process is what the programs of SeRALM have in common: one process with
// its logger, its metrics, its connection to the log and to the views, and one HTTP
// listener. Roles are added to it; it runs them until one fails or it is told to
// stop, and ends them in an order that loses nothing: first the listener, so that
// nothing new comes in, then the roles, then the connections, then the broker.
//
// It wires packages together, and those roles that speak HTTP (web.go). It must not
// import consumers, or models that link libtorch: seralm-serve is made of it.
package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"seralm/config"
	"seralm/feature"
	"seralm/serving"
	"seralm/serving/middleware"
	"seralm/stream"
)

// Process is made by Start, given its roles, run once and closed.
type Process struct {
	Config  config.Config // with the address of the broker in use
	Log     *slog.Logger
	Metrics *prometheus.Registry
	Kafka   *kgo.Client    // for producing
	Store   *feature.Store // nil unless asked for

	broker   *stream.Broker
	listener net.Listener
	handler  http.Handler
	roles    []role
}

type role struct {
	name string
	run  func(context.Context) error
}

// Needs says which shared parts the roles of a process use.
type Needs struct {
	Broker bool // start the embedded broker when no broker is configured
	Views  bool // connect to Redis, or start the embedded one
	Shared bool // other processes use the same views: an embedded one would not do
}

// Start connects the process to the log and, if needed, to the views. What fails is
// named with its remedy, and nothing is left behind.
func Start(ctx context.Context, cfg config.Config, log *slog.Logger, n Needs) (*Process, error) {
	p := &Process{Config: cfg, Log: log, Metrics: prometheus.NewRegistry()}
	p.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := p.connect(ctx, n); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Process) connect(ctx context.Context, n Needs) (err error) {
	// The listener first: a busy port should not cost a minute of loading.
	if p.listener, err = serving.Listen(p.Config.HTTP); err != nil {
		return err
	}
	if err := p.findBroker(n.Broker); err != nil {
		return err
	}
	opts, err := stream.ClientOptions(p.Config.Kafka)
	if err != nil {
		return err
	}
	if p.Kafka, err = kgo.NewClient(opts...); err != nil {
		return fmt.Errorf("configuring the Kafka client: %w", err)
	}
	if err := p.topics(ctx); err != nil {
		return err
	}
	if !n.Views {
		return nil
	}
	if n.Shared && p.Config.Redis.Addr == "" {
		return errors.New("redis.addr is empty, and the embedded views cannot be shared between processes: " +
			"name a Redis (SERALM_REDIS_ADDR=host:port), or run all roles in one process with `seralm up`")
	}
	if p.Config.Redis.Addr == "" {
		p.Store, err = feature.Open(ctx, p.Config.Redis)
		return err
	}
	// One that is away comes back.
	p.Store, err = feature.OpenPatiently(ctx, p.Config.Redis, func(away error) {
		p.Log.Error("Redis does not answer; until it does, histories wait, and look-ups are of popular items last known and of what callers send", "redis", p.Config.Redis.Addr, "error", away)
	})
	return err
}

// findBroker decides which broker the process uses: the configured one, the
// embedded one of this process, or that of a process beside it.
func (p *Process) findBroker(embed bool) (err error) {
	if len(p.Config.Kafka.Brokers) > 0 {
		return nil
	}
	if embed {
		if p.broker, err = stream.StartBroker(p.Config); err != nil {
			return err
		}
		p.Config.Kafka.Brokers = []string{p.broker.Addr()}
		return nil
	}
	p.Config.Kafka, err = Running(p.Config)
	return err
}

// Running returns the log's configuration for a command that runs no broker of its
// own: as it stands, or with the address of the embedded broker that another
// process runs on the same data folder.
func Running(cfg config.Config) (config.Kafka, error) {
	if len(cfg.Kafka.Brokers) > 0 {
		return cfg.Kafka, nil
	}
	addr, err := stream.RunningBroker(cfg)
	if err != nil {
		return cfg.Kafka, err
	}
	if addr == "" {
		return cfg.Kafka, fmt.Errorf("there is no broker: kafka.brokers is empty, and no `seralm up` runs on data_dir %q. "+
			"Start it with all its roles, or name the brokers (SERALM_KAFKA_BROKERS=host:port)", cfg.DataDir)
	}
	cfg.Kafka.Brokers = []string{addr}
	return cfg.Kafka, nil
}

// topics makes the topics of the embedded broker. Those of a real cluster are made
// by `seralm topics create`, whose user may do that; here it is only asked whether
// they are there, which is the first sign of life of the brokers too.
func (p *Process) topics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	admin := kadm.NewClient(p.Kafka)
	if p.broker != nil {
		if err := stream.Retain(ctx, admin, p.Config.Kafka); err != nil {
			return err
		}
		return stream.Ensure(ctx, admin, p.Config.Kafka)
	}
	name := stream.NamesOf(p.Config.Kafka.TopicPrefix).Interactions()
	listed, err := admin.ListTopics(ctx, name)
	switch {
	case err != nil:
		return fmt.Errorf("asking the brokers %v for their topics: %w (are they up, and may this user describe topics?)", p.Config.Kafka.Brokers, err)
	case listed[name].Err != nil:
		return fmt.Errorf("topic %s: %w (create the topics with `seralm topics create`)", name, listed[name].Err)
	}
	return nil
}

// Addr is where the process listens.
func (p *Process) Addr() string { return p.listener.Addr().String() }

// Embedded reports whether the broker runs inside this process.
func (p *Process) Embedded() bool { return p.broker != nil }

// Add gives the process a role. run ends with nil when its context does; any other
// end of it ends the process, whose supervisor starts it again: every role resumes
// exactly where it was.
func (p *Process) Add(name string, run func(context.Context) error) {
	p.roles = append(p.roles, role{name, run})
}

// Handle sets what the listener answers; without it, health and metrics only.
func (p *Process) Handle(h http.Handler) { p.handler = h }

// Run runs the roles and the listener until ctx ends (nil) or one of them fails.
func (p *Process) Run(ctx context.Context) error {
	if p.handler == nil {
		p.handler = operations(p.Metrics)
	}
	var leaving atomic.Bool
	wrapped := middleware.New(p.Metrics, p.Log).Wrap(unready(&leaving, p.handler))

	// The roles outlive the listener: what it accepted while draining needs them.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	roles, working := errgroup.WithContext(working)
	for _, r := range p.roles {
		roles.Go(func() error {
			if err := r.run(working); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			return nil
		})
	}
	listening, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	context.AfterFunc(working, hangUp) // a role failed
	context.AfterFunc(ctx, func() {
		leaving.Store(true)
		time.AfterFunc(p.Config.HTTP.DrainDelay, hangUp)
	})
	err := serving.Serve(listening, p.listener, p.Config.HTTP, wrapped, p.Log)
	stop()
	if failed := roles.Wait(); failed != nil {
		return failed
	}
	return err
}

// Close ends the connections and the embedded parts.
func (p *Process) Close() {
	if p.listener != nil {
		_ = p.listener.Close() // closed already when it was served
	}
	if p.Kafka != nil {
		p.Kafka.Close()
	}
	if p.Store != nil {
		if err := p.Store.Close(); err != nil {
			p.Log.Warn("closing the views failed", "error", err)
		}
	}
	if p.broker != nil {
		p.broker.Close()
	}
}

// Logger returns the process's logger as the configuration wants it.
func Logger(c config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // Validate has checked it
	o := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(os.Stderr, o)
	if c.Format == "json" {
		h = slog.NewJSONHandler(os.Stderr, o)
	}
	log := slog.New(h)
	slog.SetDefault(log) // the Kafka client's and the embedded broker's warnings
	return log
}
