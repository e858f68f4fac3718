package feature

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed start.lua
var startSource string

var startScript = redis.NewScript(startSource)

const (
	topicField = "topic"

	// scriptsPerTrip bounds a pipeline, so that it ends well within redis.timeout.
	scriptsPerTrip = 8
)

// view is what all views have: a name for people, the key of the offsets that they
// were made from, and the key that a wipe sets. A view is wiped and made again
// without the others.
type view struct {
	client          *redis.Client
	name            string
	offsets, wiping string
}

func (s *Store) histories() view {
	return view{s.client, "histories", s.keys.prefix + ":histories", s.keys.prefix + ":wiping"}
}

func (s *Store) knowledge() view {
	return view{s.client, "knowledge", s.keys.prefix + ":knowledge", s.keys.prefix + ":knowledge:wiping"}
}

// ErrWiping says that the view is being wiped; try again when that has ended.
var ErrWiping = errors.New("the view is being wiped")

// BehindError says that the view holds less of a partition than its reader
// thought: Redis lost its newest writes, or was emptied. Read again from Next, or
// start again when Next is -1 (the view knows nothing of the partition).
type BehindError struct {
	Partition int32
	Next      int64
}

func (e *BehindError) Error() string {
	return fmt.Sprintf("the view holds partition %d only up to offset %d: Redis has lost what came after", e.Partition, e.Next)
}

// OtherLogError says that the view was made from another topic than the one that
// is being read: the topic was deleted and created again, or two installations
// share one Redis and key prefix.
type OtherLogError struct {
	View        string
	Topic, Held string
}

func (e *OtherLogError) Error() string {
	return fmt.Sprintf("the view of the %s in Redis was made from the topic with id %s, and this one has id %s: "+
		"if the topic was created anew, rebuild the view; if another installation uses this Redis, choose another redis.key_prefix", e.View, e.Held, e.Topic)
}

// Verdict is what became of one event.
type Verdict byte

// The verdicts. Old events are already in the view, or in what it has forgotten
// since, by their offset; Duplicate ones by their id.
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

// start says from which offset each partition must be read, and records the
// beginning of those that the view has never seen.
func (v view) start(ctx context.Context, topic string, start map[int32]int64) (map[int32]int64, error) {
	args := []any{topic}
	order := make([]int32, 0, len(start))
	for p, offset := range start {
		order = append(order, p)
		args = append(args, int64(p), offset)
	}
	held, err := startScript.Run(ctx, v.client, []string{v.offsets, v.wiping}, args...).Int64Slice()
	if err != nil {
		if _, other, ok := strings.Cut(err.Error(), "OTHERLOG "); ok {
			return nil, &OtherLogError{View: v.name, Topic: topic, Held: other}
		}
		return nil, fmt.Errorf("starting the %s: %w", v.name, scriptError(err, 0))
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

// next returns the next offset of every partition that the view has begun with.
func (v view) next(ctx context.Context) (map[int32]int64, error) {
	fields, err := v.client.HGetAll(ctx, v.offsets).Result()
	if err != nil {
		return nil, fmt.Errorf("reading the offsets of the %s: %w", v.name, err)
	}
	next := make(map[int32]int64, len(fields))
	for field, value := range fields {
		if field == topicField {
			continue
		}
		p, err := strconv.ParseInt(field, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%s holds the field %q, which is no partition: %w", v.offsets, field, err)
		}
		if next[int32(p)], err = strconv.ParseInt(value, 10, 64); err != nil {
			return nil, fmt.Errorf("%s holds %q for partition %d: %w", v.offsets, value, p, err)
		}
	}
	return next, nil
}

// call is one invocation of a view's script, for consecutive events of a run.
type call struct {
	run       int
	partition int32
	keys      []string
	args      []any
	order     []int // position among the events of each verdict, in the order the script answers
}

// apply makes the calls, in as few round trips as their number allows, and adds
// what became of them to the outcomes of their runs. Once a call of a run has
// failed, the others of that run are not made, or refused by the script.
func (v view) apply(ctx context.Context, script *redis.Script, calls []call, outcomes []Outcome) {
	batch := make([]call, 0, scriptsPerTrip)
	for i, c := range calls {
		if outcomes[c.run].Err == nil {
			batch = append(batch, c)
		}
		if len(batch) == scriptsPerTrip || i == len(calls)-1 {
			v.trip(ctx, script, batch, outcomes)
			batch = batch[:0]
		}
	}
}

// trip sends calls in one pipeline. The calls of a run build on each other: once
// one has failed, the view is behind the next one's first offset, so sending them
// together cannot leave a gap.
func (v view) trip(ctx context.Context, script *redis.Script, calls []call, outcomes []Outcome) {
	for attempt := 0; len(calls) > 0; attempt++ {
		cmds := make([]*redis.Cmd, len(calls))
		_, _ = v.client.Pipelined(ctx, func(p redis.Pipeliner) error { // each command keeps its own error
			for i, c := range calls {
				cmds[i] = script.EvalSha(ctx, p, c.keys, c.args...)
			}
			return nil
		})
		if attempt == 0 && redis.HasErrorPrefix(cmds[0].Err(), "NOSCRIPT") { // a new or restarted server
			if err := script.Load(ctx, v.client).Err(); err == nil {
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
				err = fmt.Errorf("BUG: a script answered %d verdicts for %d events", len(text), len(c.order))
			}
			if err != nil {
				out.Err = fmt.Errorf("applying events to the %s: %w", v.name, scriptError(err, c.partition))
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
