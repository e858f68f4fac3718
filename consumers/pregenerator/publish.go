package pregenerator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/stream"
)

// source is the ce_source of the records.
const source = "seralm/pregenerator"

// grace is how long what is written when the role ends may take to be published.
const grace = 10 * time.Second

// result is what a worker made of an item: knowledge, or its removal.
type result struct {
	due    due
	prompt uint64 // of the item that was worked on
	of     place  // of the knowledge that it takes the place of, where that matters
	know   stream.Knowledge
}

// holds reports whether the result is still what is due for its item.
func (r result) holds(e entry, d due) bool {
	switch {
	case r.due == promotion:
		return e.known.at == r.of && e.announced && !e.hidden && e.prompt == r.prompt
	case r.due == restoring:
		return e.known.at == r.of
	case d != r.due:
		return false
	case d == again:
		return e.known.at == r.of
	case d == removal:
		return true
	}
	return e.prompt == r.prompt
}

// publisher writes results to the knowledge topic, one transaction at a time.
type publisher struct {
	mu     sync.Mutex
	txn    *stream.Txn
	ledger *ledger
	topic  string
}

// publish writes those of the results that are still due, all or none of them, and
// returns them; and the items that have something but a text due nevertheless, for they
// changed meanwhile. While brokers are away it waits; when ctx ends it finishes what it
// can.
func (p *publisher) publish(ctx context.Context, results []result) (valid []result, left []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var recs []*kgo.Record
	for _, r := range results {
		if e, d := p.ledger.look(r.know.Item); !r.holds(e, d) {
			continue
		}
		rec, err := r.record(p.topic)
		if err != nil {
			return nil, nil, fmt.Errorf("knowledge of item %q: %w", r.know.Item, err)
		}
		valid, recs = append(valid, r), append(recs, rec)
	}
	if len(recs) == 0 {
		return nil, nil, nil
	}
	if err := p.write(ctx, recs); err != nil {
		return nil, nil, fmt.Errorf("publishing to topic %s: %w", p.topic, err)
	}
	return valid, p.ledger.published(valid, recs), nil
}

// commit writes records that are no knowledge, in a transaction.
func (p *publisher) commit(ctx context.Context, recs ...*kgo.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.write(ctx, recs)
}

// write is called with mu held.
func (p *publisher) write(ctx context.Context, recs []*kgo.Record) error {
	ctx, release := outlive(ctx, grace)
	defer release()
	if err := p.txn.Begin(); err != nil {
		return err
	}
	if err := p.txn.Produce(ctx, recs...); err != nil {
		return err // the session ends, and the next one aborts it
	}
	return p.txn.Commit(ctx)
}

// outlive returns a context that ends some time after ctx does.
func outlive(ctx context.Context, by time.Duration) (context.Context, func()) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(by, cancel) })
	return out, func() { stop(); cancel() }
}

// published notes what has been written, before its records are read, and returns the
// items that have something but a text due.
func (l *ledger) published(results []result, recs []*kgo.Record) (left []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, r := range results {
		e := l.entry(r.know.Item)
		if e == nil {
			continue // its record will be read
		}
		l.know(e, r.know, r.due == removal, place{recs[i].Partition, recs[i].Offset}, recs[i].Timestamp)
		if d := l.settle(e); d != nothing && d != text {
			left = append(left, r.know.Item)
		}
	}
	return left
}

func (r result) record(topic string) (*kgo.Record, error) {
	now := time.Now()
	if r.due == removal {
		return stream.NewRecord(topic, r.know.Item, id(r.know.Item, "removed", strconv.FormatInt(now.UnixNano(), 10)), source, now, stream.NoKnowledge{})
	}
	if r.due == restoring {
		// Byte for byte what it was, but for the event's id: it is written again.
		return stream.NewRecord(topic, r.know.Item, id(r.know.Item, "restored", strconv.FormatInt(now.UnixNano(), 10)), source, r.know.Time, r.know)
	}
	return record(topic, source, now, r.know)
}

// record makes the record of knowledge. Its id is a function of what made it.
func record(topic, source string, now time.Time, k stream.Knowledge) (*kgo.Record, error) {
	return stream.NewRecord(topic, k.Item, id(k.Item, string(k.Origin), k.PromptHash, k.Policy.String(), k.Encoder, k.Text), source, now, k)
}

func id(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part) // the length keeps parts apart
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
