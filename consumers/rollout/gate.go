package rollout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"seralm/config"
	"seralm/models/snapshot"
	"seralm/stream"
)

// Options are the parts of a Gate.
type Options struct {
	Open     Open
	Registry prometheus.Registerer
	Logger   *slog.Logger
}

// Gate is the consumer.
type Gate struct {
	Options
	cfg     config.Config
	names   stream.Names
	metrics *gateMetrics
	poll    time.Duration // between two looks at whether enough events have come
}

// New returns a gate that has not started.
func New(cfg config.Config, o Options) *Gate {
	o.Logger = o.Logger.With("role", "rollout")
	return &Gate{Options: o, cfg: cfg, names: stream.NamesOf(cfg.Kafka.TopicPrefix), metrics: newMetrics(o.Registry), poll: 2 * time.Second}
}

// Run judges roll-outs until ctx ends, which is a clean end (nil).
func (g *Gate) Run(ctx context.Context) error {
	opts, err := stream.ClientOptions(g.cfg.Kafka)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("connecting the gate: %w", err)
	}
	defer client.Close()
	w := newWatch(g.cfg, g.Logger)
	group, working := errgroup.WithContext(ctx)
	group.Go(func() error { return w.followRollouts(working) })
	group.Go(func() error { return w.followSnapshots(working) })
	group.Go(func() error { return g.judge(working, w, client) })
	if err := group.Wait(); ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	return nil
}

// judge decides on each roll-out that wants it.
func (g *Gate) judge(ctx context.Context, w *watch, client *kgo.Client) error {
	var enough int64 // offsets of interactions below which another look is in vain
	var of int64     // the roll-out that enough is of
	for {
		st, blob, news := w.look()
		wait := (<-chan time.Time)(nil)
		if st.Phase == stream.RolloutJudging && blob != nil {
			if of != st.ID {
				of, enough = st.ID, 0
				g.Logger.Info("a roll-out is judged when enough interactions have come that its recommender has not learnt", "rollout", st.ID, "wanted", Least(g.cfg.Alignment))
			}
			d, more, err := g.attempt(ctx, st, blob, kadm.NewClient(client), enough)
			if err != nil {
				return fmt.Errorf("judging roll-out %d: %w", st.ID, err)
			}
			if d != nil {
				if err := g.decide(ctx, client, *d); err != nil {
					return err
				}
				w.decided(st.ID)
				continue
			}
			enough = more
			wait = time.After(g.poll)
		}
		select {
		case <-news:
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// leastCold is how many events of items with a draft a comparison in the cold view is
// made of, at least: an interval of fewer says nothing.
const leastCold = 30

// Least is how many held-out interactions the gate waits for before it judges.
func Least(a config.Alignment) int { return max(1, a.RolloutEvents/4) }

// attempt returns the decision on a roll-out, or nil and how many interactions the log
// must hold before another attempt has more to go by.
func (g *Gate) attempt(ctx context.Context, st stream.Rollout, blob *stream.Blob, admin *kadm.Client, enough int64) (*stream.Decision, int64, error) {
	most, least := g.cfg.Alignment.RolloutEvents, Least(g.cfg.Alignment)
	ends, err := stream.CommittedEnds(ctx, admin, g.names.Interactions())
	if err != nil {
		return nil, 0, err
	}
	manifest, err := snapshot.DecodeManifest(blob.Manifest)
	if err != nil {
		return nil, 0, err
	}
	end := total(ends)
	if held := end - total(manifest.Offsets); held < int64(least) || end < enough {
		g.metrics.events.Set(float64(max(0, held)))
		return nil, enough, nil
	}
	hold := func(reason string, e *stream.Evidence) *stream.Decision {
		return &stream.Decision{Rollout: st.ID, Action: stream.ActionHold, By: stream.ByGate, Reason: reason, Evidence: e}
	}
	c, err := g.prepare(ctx, st, blob)
	var no *unfitError
	switch {
	case errors.As(err, &no):
		return hold(no.Error(), nil), 0, nil
	case err != nil:
		return nil, 0, err
	}
	instances, err := heldOut(ctx, g.cfg, c.model.Offsets, c.model.Architecture.MaxLen, most)
	if err != nil {
		return nil, 0, err
	}
	cases := c.cases(instances)
	g.metrics.events.Set(float64(len(cases)))
	cold := 0
	for _, k := range cases {
		if k.cold {
			cold++
		}
	}
	full := len(instances) == most
	switch {
	case !full && (len(cases) < least || cold < leastCold):
		g.Logger.Info("waiting for interactions to judge by", "rollout", st.ID, "events", len(cases), "wanted", least, "of_items_with_a_draft", cold, "wanted_of_these", leastCold)
		return nil, end + int64(max(1, least/10)), nil
	case len(cases) < least || cold < leastCold:
		return hold(fmt.Sprintf("of the newest %d held-out interactions, %d are with items that the recommender knows, %d with items that have a draft; it takes %d and %d",
			most, len(cases), cold, least, leastCold), nil), 0, nil
	}
	began := time.Now()
	evidence, err := c.compare(ctx, cases, g.Open)
	switch {
	case errors.As(err, &no):
		return hold(no.Error(), nil), 0, nil
	case err != nil:
		return nil, 0, err
	}
	evidence.Tolerance = g.cfg.Alignment.RolloutTolerance
	action, reason := verdict(evidence)
	g.metrics.judged(evidence)
	g.Logger.Info("roll-out judged", "rollout", st.ID, "action", action, "reason", reason, "seconds", time.Since(began).Seconds())
	return &stream.Decision{Rollout: st.ID, Action: action, By: stream.ByGate, Reason: reason, Evidence: &evidence}, 0, nil
}

// verdict is the rule: in neither view worse by more than the tolerance, as far as the
// held-out events can tell.
func verdict(e stream.Evidence) (stream.RolloutAction, string) {
	for _, v := range []struct {
		name string
		c    stream.Comparison
	}{{"warm", e.Warm}, {"cold", e.Cold}} {
		if !(v.c.Low >= -e.Tolerance) {
			return stream.ActionHold, fmt.Sprintf("in the %s view log p may be worse by %.4g nats, more than %.4g", v.name, -v.c.Low, e.Tolerance)
		}
	}
	return stream.ActionPromote, fmt.Sprintf("log p changes by %+.4g (warm) and %+.4g (cold) nats, at least %+.4g and %+.4g", e.Warm.Change, e.Cold.Change, e.Warm.Low, e.Cold.Low)
}

// decide writes a decision.
func (g *Gate) decide(ctx context.Context, client *kgo.Client, d stream.Decision) error {
	rec, err := stream.RolloutRecord(g.names.Rollouts(), "seralm/rollout", time.Now(), d)
	if err == nil {
		err = client.ProduceSync(ctx, rec).FirstErr()
	}
	if err != nil {
		return fmt.Errorf("writing the decision on roll-out %d: %w", d.Rollout, err)
	}
	g.metrics.decisions.WithLabelValues(string(d.Action)).Inc()
	return nil
}

func total(offsets map[int32]int64) (sum int64) {
	for _, o := range offsets {
		sum += o
	}
	return sum
}
