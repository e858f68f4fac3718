package feature

import (
	"context"
	_ "embed" // the script
	"time"

	"github.com/redis/go-redis/v9"

	"seralm/config"
)

//go:embed apply.lua
var applySource string

var applyScript = redis.NewScript(applySource)

const (
	// eventsPerScript bounds how long one script keeps Redis from answering a
	// look-up: about 1 ms.
	eventsPerScript = 128

	// maxSeen bounds the ids remembered of one user in one window; beyond it, ids
	// are forgotten at random. No person does this much; a robot may.
	maxSeen = 10_000

	// The popular items are cut to popularTo times the number wanted when there are
	// more than popularAbove times as many. A newcomer must be able to collect its
	// first interactions before a cut, so the set is wider than what is asked of it.
	popularAbove, popularTo = 8, 4
)

// HistoryEvent is one interaction as the histories see it.
type HistoryEvent struct {
	User, Item string
	ID         string    // idempotency key: source and id of the event
	Offset     int64     // in the run's partition
	Time       time.Time // when it happened
}

// Run is a stretch of one partition: everything in [From, To), of which Events are
// what histories are made of, by rising offset. Offsets without an event are
// records that could not be used, or that the log itself wrote.
type Run struct {
	Partition int32
	From, To  int64
	Events    []HistoryEvent
}

// Writer applies events to the views. It is safe for concurrent use, but the runs
// of one partition must come from one caller in order.
type Writer struct {
	store *Store
	cfg   config.Histories
}

// Writer returns a writer that keeps histories within cfg's bounds.
func (s *Store) Writer(cfg config.Histories) *Writer { return &Writer{store: s, cfg: cfg} }

// Start says from which offset each partition must be read. start holds, for each
// partition, where to begin if the view has never seen it: the log's first offset.
// topic identifies the topic beyond its name.
func (w *Writer) Start(ctx context.Context, topic string, start map[int32]int64) (map[int32]int64, error) {
	return w.store.histories().start(ctx, topic, start)
}

// Apply applies the runs, all of them in as few round trips as their size allows,
// and returns one outcome per run. Applying a run twice is the same as once.
func (w *Writer) Apply(ctx context.Context, runs ...Run) []Outcome {
	outcomes := make([]Outcome, len(runs))
	var calls []call
	for i, run := range runs {
		outcomes[i].Verdicts = make([]Verdict, 0, len(run.Events))
		for from, rest := run.From, run.Events; ; {
			events := rest[:min(len(rest), eventsPerScript)]
			rest = rest[len(events):]
			to := run.To
			if len(rest) > 0 {
				to = events[len(events)-1].Offset + 1
			}
			calls = append(calls, w.call(i, run.Partition, from, to, events))
			if from = to; len(rest) == 0 {
				break
			}
		}
	}
	w.store.histories().apply(ctx, applyScript, calls, outcomes)
	return outcomes
}

// group is the consecutive events of one user in one window.
type group struct {
	user      string
	window    int64
	positions []int
}

func (w *Writer) call(run int, partition int32, from, to int64, events []HistoryEvent) call {
	k := w.store.keys
	span := w.cfg.SeenTTL
	var groups []group
	latest := make(map[string]int, len(events)) // user -> its newest group: order within a user is kept
	for i, e := range events {
		win := window(e.Time, span)
		g, ok := latest[e.User]
		if !ok || groups[g].window != win {
			g = len(groups)
			groups = append(groups, group{user: e.User, window: win})
			latest[e.User] = g
		}
		groups[g].positions = append(groups[g].positions, i)
	}
	c := call{
		run: run, partition: partition,
		keys:  make([]string, 0, 3+3*len(groups)),
		args:  make([]any, 0, 9+len(groups)+3*len(events)),
		order: make([]int, 0, len(events)),
	}
	v := w.store.histories()
	c.keys = append(c.keys, v.offsets, k.popular(), v.wiping)
	c.args = append(c.args, int64(partition), from, to, w.cfg.Length, w.cfg.TTL.Milliseconds(),
		2*span.Milliseconds(), maxSeen, popularAbove*w.cfg.Popular, popularTo*w.cfg.Popular)
	for _, g := range groups {
		c.keys = append(c.keys, k.history(g.user), k.seen(g.user, g.window), k.seen(g.user, g.window-1))
		c.args = append(c.args, len(g.positions))
		for _, i := range g.positions {
			c.args = append(c.args, events[i].Offset, idHash(events[i].ID), events[i].Item)
			c.order = append(c.order, i)
		}
	}
	return c
}
