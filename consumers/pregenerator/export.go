package pregenerator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/stream"
)

// scan hands every record of a topic that the log holds now to fn.
func scan(ctx context.Context, cfg config.Kafka, topic string, fn func(*kgo.Record) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	caughtUp := false
	err := stream.Follow(ctx, cfg, topic, fn, func() { caughtUp = true; cancel() })
	if caughtUp {
		return nil
	}
	return err
}

// knowledge hands the valid records of the knowledge topic to fn, oldest first.
func knowledge(ctx context.Context, cfg config.Kafka, fn func(stream.Event[stream.Knowledge]) error) error {
	return scan(ctx, cfg, stream.NamesOf(cfg.TopicPrefix).Knowledge(), func(rec *kgo.Record) error {
		ev, err := stream.DecodeKnowledge(rec)
		if err != nil {
			return nil //nolint:nilerr // it has no effect for any other reader
		}
		return fn(ev)
	})
}

// ErrUnknown says that there is no knowledge of an item.
var ErrUnknown = errors.New("nothing is known of the item")

// Find returns what is known of an item. It reads the whole topic.
func Find(ctx context.Context, cfg config.Kafka, item string) (stream.Knowledge, error) {
	var found stream.Event[stream.Knowledge]
	err := knowledge(ctx, cfg, func(ev stream.Event[stream.Knowledge]) error {
		if ev.Body.Item == item {
			found = ev
		}
		return nil
	})
	if err == nil && (found.Deleted || found.Body.Item == "") {
		err = fmt.Errorf("item %q: %w", item, ErrUnknown)
	}
	return found.Body, err
}

// Export writes what is known of every item as lines of JSON, and returns how many. It
// reads the topic twice, so as to hold ids and no texts.
func Export(ctx context.Context, cfg config.Kafka, w io.Writer) (int, error) {
	newest := map[string]place{}
	err := knowledge(ctx, cfg, func(ev stream.Event[stream.Knowledge]) error {
		newest[ev.Body.Item] = place{ev.Partition, ev.Offset}
		return nil
	})
	if err != nil {
		return 0, err
	}
	n, out := 0, json.NewEncoder(w)
	out.SetEscapeHTML(false)
	err = knowledge(ctx, cfg, func(ev stream.Event[stream.Knowledge]) error {
		// A record that compaction has taken meanwhile is followed by a newer one.
		at, waits := newest[ev.Body.Item]
		if !waits || at.partition != ev.Partition || ev.Offset < at.offset {
			return nil
		}
		delete(newest, ev.Body.Item)
		if ev.Deleted {
			return nil
		}
		n++
		return out.Encode(ev.Body)
	})
	return n, err
}

// Kind is what Count tells apart.
type Kind struct {
	Origin  stream.Origin
	Policy  stream.ModelVersion
	Encoder string
}

// Counts of items.
type Counts struct {
	Known   map[Kind]int
	Items   int // announced and not hidden
	Without int // of these, without any knowledge
	Titles  int // of these, with no more than the vector of the title
	Texts   int // of these, with a text of a language model
}

// Count counts what is known, by where it came from.
func Count(ctx context.Context, cfg config.Kafka) (Counts, error) {
	c := Counts{Known: map[Kind]int{}}
	known := map[string]Kind{}
	err := knowledge(ctx, cfg, func(ev stream.Event[stream.Knowledge]) error {
		if ev.Deleted {
			delete(known, ev.Body.Item)
		} else {
			known[ev.Body.Item] = Kind{ev.Body.Origin, ev.Body.Policy, ev.Body.Encoder}
		}
		return nil
	})
	if err != nil {
		return c, err
	}
	for _, k := range known {
		c.Known[k]++
	}
	shown := map[string]bool{}
	err = scan(ctx, cfg, stream.NamesOf(cfg.TopicPrefix).Items(), func(rec *kgo.Record) error {
		if ev, err := stream.DecodeItem(rec); err == nil {
			shown[ev.Body.Item] = !ev.Deleted && !ev.Body.Hidden
		}
		return nil
	})
	for item, is := range shown {
		if !is {
			continue
		}
		c.Items++
		switch known[item].Origin {
		case "":
			c.Without++
		case stream.OriginTitle:
			c.Titles++
		case stream.OriginLLM:
			c.Texts++
		}
	}
	return c, err
}
