package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"seralm/cmd/internal/process"
	"seralm/config"
	"seralm/consumers/evaluator"
	"seralm/consumers/generator"
	sampling "seralm/consumers/generator/native"
	"seralm/consumers/histories"
	"seralm/consumers/knowledge"
	"seralm/consumers/pregenerator"
	"seralm/consumers/pregenerator/native"
	"seralm/consumers/trainer/policy"
	learning "seralm/consumers/trainer/policy/native"
	"seralm/consumers/trainer/recommender"
)

// Roles that a process can have.
const (
	roleServe     = "serve"
	roleGateway   = "gateway"
	roleHistories = "histories"
	roleTrainer   = "trainer"
	roleEvaluator = "evaluator"

	rolePregenerator = "pregenerator" // writes what is known of items
	roleKnowledge    = "knowledge"    // makes the view of it

	roleGenerator = "generator" // samples texts, and has a recommender judge them
	rolePolicy    = "policy"    // teaches the language model which were worth more
	roleRollout   = "rollout"   // decides whether what it writes then is served
)

var (
	coreRoles      = []string{roleServe, roleGateway, roleHistories, roleTrainer, roleEvaluator}
	knowledgeRoles = []string{rolePregenerator, roleKnowledge}
	alignmentRoles = []string{roleGenerator, rolePolicy, roleRollout}
	allRoles       = slices.Concat(coreRoles, knowledgeRoles, alignmentRoles)
)

// defaultRoles are those of a process that is the whole system.
func defaultRoles(cfg config.Config) []string {
	roles := coreRoles
	if cfg.Knowledge.Enabled {
		roles = slices.Concat(roles, knowledgeRoles)
	}
	if cfg.Alignment.Enabled {
		roles = slices.Concat(roles, alignmentRoles)
	}
	return roles
}

func upCommand() *cobra.Command {
	var roles []string
	c := &cobra.Command{
		Use:   "up",
		Short: "Run roles in one process; all of them by default",
		Long: `Run roles in one process; all of them by default, with an embedded broker and
embedded views where none are configured. The broker is embedded only beside all of
` + strings.Join(coreRoles, ", ") + `: a part of the system alone on a broker of
its own would wait for ever.

Roles: ` + strings.Join(coreRoles, ", ") + `; and with knowledge.enabled
` + strings.Join(knowledgeRoles, ", ") + `; and with alignment.enabled
` + strings.Join(alignmentRoles, ", ") + `.`,
		Example: `  seralm up
  SERALM_KAFKA_BROKERS=kafka:9092 SERALM_REDIS_ADDR=redis:6379 seralm up --roles=trainer`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runRoles(cmd, roles) },
	}
	c.Flags().StringSliceVar(&roles, "roles", nil, "what this process does; none = all")
	return c
}

func trainCommand() *cobra.Command {
	return roleCommand("train", "Learn from the stream and publish snapshots", roleTrainer)
}

func serveCommand() *cobra.Command {
	return roleCommand("serve", "Answer look-ups and take events over HTTP, as seralm-serve does", roleServe, roleGateway)
}

func gatewayCommand() *cobra.Command {
	return roleCommand("gateway", "Take events over HTTP", roleGateway)
}

func roleCommand(use, short string, roles ...string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runRoles(cmd, roles) },
	}
}

func runRoles(cmd *cobra.Command, roles []string) error {
	cfg, err := process.Load(cmd)
	if err != nil {
		return err
	}
	if len(roles) == 0 {
		roles = defaultRoles(cfg)
	}
	p, err := start(cmd.Context(), cfg, roles)
	if err != nil {
		return err
	}
	defer p.Close()
	if _, err := addRoles(p, roles, nil); err != nil {
		return err
	}
	p.Log.Info("started", "roles", strings.Join(roles, ","), "http", p.Addr(), "brokers", strings.Join(p.Config.Kafka.Brokers, ","), "version", config.Version)
	if p.Embedded() {
		p.Log.Warn("the embedded broker is for one machine and for trying; production is a real Kafka (kafka.brokers) and a real Redis (redis.addr)")
	}
	return p.Run(cmd.Context())
}

// start makes a process for the roles.
func start(ctx context.Context, cfg config.Config, roles []string) (*process.Process, error) {
	for _, r := range roles {
		if !slices.Contains(allRoles, r) {
			return nil, fmt.Errorf("there is no role %q; there are %s", r, strings.Join(allRoles, ", "))
		}
	}
	has := func(role string) bool { return slices.Contains(roles, role) }
	serve, histories, knowledge := has(roleServe), has(roleHistories), has(roleKnowledge)
	return process.Start(ctx, cfg, process.Logger(cfg.Log), process.Needs{
		// A part of the system alone on a broker of its own would wait for ever.
		Broker: !slices.ContainsFunc(coreRoles, func(role string) bool { return !has(role) }),
		// The pregenerator can do without: then it does not know what is popular.
		Views:  serve || histories || knowledge || has(rolePregenerator) && cfg.Redis.Addr != "",
		Shared: serve != histories || knowledge && !serve,
	})
}

// watched are the roles of a process that tell how far they are; nil where it has not
// that role.
type watched struct {
	quality *evaluator.Evaluator
	writing *pregenerator.Pregenerator
}

// addRoles gives the process its roles.
func addRoles(p *process.Process, roles []string, users []string) (w watched, err error) {
	has := func(role string) bool { return slices.Contains(roles, role) }
	switch {
	case has(roleServe):
		if err := p.Serve(has(roleGateway), users); err != nil {
			return w, err
		}
	case has(roleGateway):
		p.TakeEvents()
	}
	if has(roleHistories) {
		p.Add(roleHistories, histories.New(p.Config, p.Store, p.Metrics, p.Log).Run)
	}
	if has(roleTrainer) {
		if err := addTrainer(p); err != nil {
			return w, err
		}
	}
	if has(roleKnowledge) {
		p.Add(roleKnowledge, knowledge.New(p.Config, p.Store, p.Metrics, p.Log).Run)
	}
	if has(rolePregenerator) {
		if w.writing, err = addPregenerator(p); err != nil {
			return w, err
		}
	}
	if has(roleGenerator) {
		if err := addGenerator(p); err != nil {
			return w, err
		}
	}
	if has(rolePolicy) {
		if err := addPolicy(p); err != nil {
			return w, err
		}
	}
	if has(roleRollout) {
		if err := addRollout(p); err != nil {
			return w, err
		}
	}
	if has(roleEvaluator) {
		if err := p.LoadONNX(); err != nil {
			return w, err
		}
		w.quality = evaluator.New(p.Config, p.Metrics, p.Log)
		p.Add(roleEvaluator, w.quality.Run)
	}
	return w, nil
}

func addTrainer(p *process.Process) error {
	model, err := newModel(p.Config.Recommender)
	if err != nil {
		return err
	}
	t := recommender.New(p.Config, recommender.Options{Model: model, Registry: p.Metrics, Logger: p.Log})
	p.Add(roleTrainer, func(ctx context.Context) error {
		defer model.Close()
		return t.Run(ctx)
	})
	return nil
}

func addPregenerator(p *process.Process) (*pregenerator.Pregenerator, error) {
	models, err := loadModels(p.Config)
	if err != nil {
		return nil, err
	}
	o := pregenerator.Options{Writer: models.writer, Encoder: models.encoder, Registry: p.Metrics, Logger: p.Log}
	if p.Store != nil {
		o.Popular = p.Store
	}
	g, err := pregenerator.New(p.Config, o)
	if err != nil {
		return nil, err
	}
	p.Add(rolePregenerator, func(ctx context.Context) error {
		defer models.close()
		return g.Run(ctx)
	})
	return g, nil
}

func addGenerator(p *process.Process) error {
	if err := p.LoadONNX(); err != nil {
		return err
	}
	encoder, err := native.LoadEncoder(p.Config)
	if err != nil {
		return err
	}
	model, err := sampling.LoadPolicy(p.Config)
	if err != nil {
		encoder.Close()
		return err
	}
	g, err := generator.New(p.Config, generator.Options{Policy: model, Encoder: encoder, Open: sampling.Open, Registry: p.Metrics, Logger: p.Log})
	if err != nil {
		encoder.Close()
		model.Close()
		return err
	}
	p.Add(roleGenerator, func(ctx context.Context) error {
		defer encoder.Close()
		defer model.Close()
		return g.Run(ctx)
	})
	return nil
}

func addPolicy(p *process.Process) error {
	model, err := learning.Load(p.Config)
	if err != nil {
		return err
	}
	t := policy.New(p.Config, policy.Options{Model: model, Registry: p.Metrics, Logger: p.Log})
	p.Add(rolePolicy, func(ctx context.Context) error {
		defer model.Close()
		return t.Run(ctx)
	})
	return nil
}
