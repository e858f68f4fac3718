package feature

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"seralm/config"
)

//go:embed apply.lua
var applySource string

//go:embed start.lua
var startSource string

var (
	applyScript = redis.NewScript(applySource)
	startScript = redis.NewScript(startSource)
)

const (
	topicField = "topic"

	// eventsPerScript bounds how long one script keeps Redis from answering a
	// look-up: about 1 ms.
	eventsPerScript = 128
	// scriptsPerTrip bounds a pipeline, so that it ends well within redis.timeout.
	scriptsPerTrip = 8

	// maxSeen bounds the ids remembered of one user in one window; beyond it, ids
	// are forgotten at random. No person does this much; a robot may.
	maxSeen = 10_000

	// The popular items are cut to popularTo times the number wanted when there are
	// more than popularAbove times as many. A newcomer must be able to collect its
	// first interactions before a cut, so the set is wider than what is asked of it.
	popularAbove, popularTo = 8, 4
)

// ErrWiping says that the views are being wiped; try again when that has ended.
var ErrWiping = errors.New("the views are being wiped")

// BehindError says that the view holds less of a partition than its reader
// thought: Redis lost its newest writes, or was emptied. Read again from Next, or
// call Start again when Next is -1 (the view knows nothing of the partition).
type BehindError struct {
	Partition int32
	Next      int64
}

func (e *BehindError) Error() string {
	return fmt.Sprintf("the histories hold partition %d only up to offset %d: Redis has lost what came after", e.Partition, e.Next)
}

// OtherLogError says that the view was made from another topic than the one that
// is being read: the topic was deleted and created again, or two installations
// share one Redis and key prefix.
type OtherLogError struct{ Topic, Held string }

func (e *OtherLogError) Error() string {
	return fmt.Sprintf("the histories in Redis were made from the topic with id %s, and this one has id %s: "+
		"if the topic was created anew, rebuild the histories; if another installation uses this Redis, choose another redis.key_prefix", e.Held, e.Topic)
}

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

// Verdict is what became of one event.
type Verdict byte

// The verdicts. Old events are already in the view by their offset, Duplicate ones
// by their id.
const (
	Applied   Verdict = 'a'
	Duplicate Verdict = 'd'
	Old       Verdict = 'o'
)

// Outcome is what became of a run. With an error, the view holds a prefix of the
// run (perhaps nothing, perhaps all of it): apply the same run again.
type Outcome struct {
	Verdicts []Verdict // one per event; shorter only when Err is set
	Err      error     // nil, *BehindError, ErrWiping, or trouble with Redis that may pass
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
	args := []any{topic}
	order := make([]int32, 0, len(start))
	for p, offset := range start {
		order = append(order, p)
		args = append(args, int64(p), offset)
	}
	k := w.store.keys
	held, err := startScript.Run(ctx, w.store.client, []string{k.offsets(), k.wiping()}, args...).Int64Slice()
	if err != nil {
		if _, other, ok := strings.Cut(err.Error(), "OTHERLOG "); ok {
			return nil, &OtherLogError{Topic: topic, Held: other}
		}
		return nil, fmt.Errorf("starting the histories: %w", scriptError(err, 0))
	}
	if len(held) != len(order) {
		return nil, fmt.Errorf("BUG: start.lua answered %d offsets for %d partitions", len(held), len(order))
	}
	next := make(map[int32]int64, len(order))
	for i, p := range order {
		next[p] = held[i]
	}
	return next, nil
}

// Apply applies the runs, all of them in as few round trips as their size allows,
// and returns one outcome per run. Applying a run twice is the same as once.
func (w *Writer) Apply(ctx context.Context, runs ...Run) []Outcome {
	outcomes := make([]Outcome, len(runs))
	var batch []call
	for i, run := range runs {
		outcomes[i].Verdicts = make([]Verdict, 0, len(run.Events))
		for from, rest := run.From, run.Events; ; {
			events := rest[:min(len(rest), eventsPerScript)]
			rest = rest[len(events):]
			to := run.To
			if len(rest) > 0 {
				to = events[len(events)-1].Offset + 1
			}
			batch = append(batch, w.call(i, run.Partition, from, to, events))
			if len(batch) == scriptsPerTrip {
				w.trip(ctx, batch, outcomes)
				batch = batch[:0]
			}
			if from = to; len(rest) == 0 || outcomes[i].Err != nil {
				break
			}
		}
	}
	w.trip(ctx, batch, outcomes)
	return outcomes
}

// call is one invocation of apply.lua.
type call struct {
	run       int
	partition int32
	keys      []string
	args      []any
	order     []int // position in the run of each event, in the order the script answers
}

// trip sends calls in one pipeline. The calls of a run build on each other: once
// one has failed, the view is behind the next one's first offset, so sending them
// together cannot leave a gap.
func (w *Writer) trip(ctx context.Context, calls []call, outcomes []Outcome) {
	for attempt := 0; len(calls) > 0; attempt++ {
		cmds := make([]*redis.Cmd, len(calls))
		_, _ = w.store.client.Pipelined(ctx, func(p redis.Pipeliner) error { // each command keeps its own error
			for i, c := range calls {
				cmds[i] = applyScript.EvalSha(ctx, p, c.keys, c.args...)
			}
			return nil
		})
		if attempt == 0 && redis.HasErrorPrefix(cmds[0].Err(), "NOSCRIPT") { // a new or restarted server
			if err := applyScript.Load(ctx, w.store.client).Err(); err == nil {
				continue
			}
		}
		for i, c := range calls {
			out := &outcomes[c.run]
			if out.Err != nil {
				continue // the first error of a run is the cause of the others
			}
			text, err := cmds[i].Text()
			if err == nil && len(text) != len(c.order) {
				err = fmt.Errorf("BUG: apply.lua answered %d verdicts for %d events", len(text), len(c.order))
			}
			if err != nil {
				out.Err = fmt.Errorf("applying events to the histories: %w", scriptError(err, c.partition))
				continue
			}
			base := len(out.Verdicts)
			out.Verdicts = out.Verdicts[:base+len(text)]
			for j, pos := range c.order {
				out.Verdicts[base+pos] = Verdict(text[j])
			}
		}
		return
	}
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
	c.keys = append(c.keys, k.offsets(), k.popular(), k.wiping())
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

// scriptError turns what a script replied into the errors that callers branch on.
func scriptError(err error, partition int32) error {
	text := err.Error()
	if strings.Contains(text, "WIPING ") {
		return ErrWiping
	}
	if _, at, ok := strings.Cut(text, "BEHIND "); ok {
		if next, perr := strconv.ParseInt(strings.TrimSpace(at), 10, 64); perr == nil {
			return &BehindError{Partition: partition, Next: next}
		}
	}
	return err
}
