package histories

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/feature"
	"seralm/stream"
)

const (
	// pollRecords bounds what is applied between two chances to rebalance, and with
	// it how long a member that leaves is waited for: some 100 ms.
	pollRecords = 4096
	// auditEach is how often the view is asked whether it still holds what was
	// applied, and how often offsets are committed.
	auditEach = time.Second
	// attemptTimeout bounds one attempt at something that is tried again.
	attemptTimeout = 10 * time.Second
	// complainEach keeps an outage from filling the log with itself.
	complainEach = 30 * time.Second
)

// Consumer is one member of the group. Any number of them share the partitions.
type Consumer struct {
	cfg     config.Config
	store   *feature.Store
	writer  *feature.Writer
	reg     prometheus.Registerer
	log     *slog.Logger
	metrics *metrics

	topic, group string
	// session is how long a member that died keeps its partitions; brokers accept 6 s
	// and more.
	session time.Duration
	// poison is how many records a minute may be set aside.
	poison int

	client  *kgo.Client
	admin   *kadm.Client
	letters *stream.DeadLetters
	fail    context.CancelCauseFunc // ends Run with an error

	mu      sync.Mutex
	parts   map[int32]*part // the present assignment
	awaited map[int32]int64 // assigned, but the view does not say yet where it ends: what the group committed

	complaints sync.Mutex
	complained time.Time
}

// part is a partition that this member reads. What changes after it was assigned is
// changed by the loop alone, with Consumer.mu held.
type part struct {
	next    int64    // the view holds everything before it
	pending *pending // read, not yet applied
	behind  bool     // the view lost something: ask it where to go on
}

// New returns a member that has not joined yet. It writes to store, which must be
// the one that cfg.Redis names.
func New(cfg config.Config, store *feature.Store, reg prometheus.Registerer, log *slog.Logger) *Consumer {
	return &Consumer{
		cfg: cfg, store: store, writer: store.Writer(cfg.Histories), reg: reg,
		log: log.With("role", "histories"), metrics: newMetrics(reg),
		topic: stream.NamesOf(cfg.Kafka.TopicPrefix).Interactions(), group: groupName(cfg),
		session: 10 * time.Second, poison: stream.DeadLettersPerMinute, parts: map[int32]*part{}, awaited: map[int32]int64{},
	}
}

// groupName names the group after the view that it fills: members share the work
// only if they write to the same place. Two names for one Redis cost double work;
// one name for two would leave each with half of the events.
func groupName(cfg config.Config) string {
	view := fmt.Sprintf("%s@%s/%d", cfg.Redis.KeyPrefix, cfg.Redis.Addr, cfg.Redis.DB)
	if embedded(cfg) {
		view = cfg.Redis.KeyPrefix + "@embedded-" + rand.Text()
	}
	return cfg.Kafka.TopicPrefix + "histories-" + view
}

// embedded reports whether the view ends with this process.
func embedded(cfg config.Config) bool { return cfg.Redis.Addr == "" }

// Run applies events until ctx ends, which is a clean end (nil): what is being
// applied is finished, its offsets are committed and the partitions handed over.
// Other errors are final: the log has lost what the view needs, the view is of
// another log, there are too many dead letters, or a right is missing.
func (c *Consumer) Run(ctx context.Context) error {
	working, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	c.fail = fail
	if err := c.join(); err != nil {
		return err
	}
	c.log.Info("joining the group", "group", c.group, "topic", c.topic)
	var lag sync.WaitGroup
	lag.Go(func() { c.watchLag(working) })
	fail(c.loop(working))
	lag.Wait()
	c.client.CloseAllowingRebalance() // leaving commits, see revoked
	if cause := context.Cause(working); ctx.Err() == nil && !errors.Is(cause, context.Canceled) {
		return fmt.Errorf("making the histories: %w", cause)
	}
	return nil
}

// loop reads and applies until ctx ends (nil) or something is wrong for good.
func (c *Consumer) loop(ctx context.Context) error {
	wait := newBackOff()
	audit := time.Now().Add(auditEach)
	for ctx.Err() == nil {
		fetches := c.poll(ctx, audit)
		err := c.take(ctx, fetches)
		trouble := c.apply(ctx)
		if now := time.Now(); err == nil && trouble == nil && now.After(audit) {
			audit = now.Add(auditEach)
			c.audit(ctx)
			c.commit(ctx)
		}
		if err == nil && trouble == nil {
			trouble = c.rewind(ctx)
		}
		c.client.AllowRebalance()
		if err == nil && final(trouble) {
			err = trouble
		}
		switch {
		case err != nil:
			return err
		case trouble == nil:
			wait.Reset()
		default:
			c.complain(ctx, trouble)
			select {
			case <-time.After(wait.NextBackOff()):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// poll reads some records and holds rebalances off until AllowRebalance. While runs
// wait to be applied, or partitions to be rewound, it only does the latter.
func (c *Consumer) poll(ctx context.Context, until time.Time) kgo.Fetches {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	if c.busy() {
		cancel() // a poll whose context has ended takes nothing and holds rebalances off
	}
	return c.client.PollRecords(ctx, pollRecords)
}

func (c *Consumer) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.parts {
		if p.pending != nil || p.behind {
			return true
		}
	}
	return false
}

// newBackOff has jitter: the members of a group must not all knock at once.
func newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 50*time.Millisecond, 5*time.Second
	return b
}

// complain tells people what the role waits for.
func (c *Consumer) complain(ctx context.Context, err error) {
	c.complaints.Lock()
	defer c.complaints.Unlock()
	if ctx.Err() == nil && time.Since(c.complained) > complainEach {
		c.complained = time.Now()
		c.log.Warn("the histories wait", "error", err)
	}
}
