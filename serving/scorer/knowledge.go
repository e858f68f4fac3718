package scorer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"seralm/models/tower"
	"seralm/stream"
)

// What becomes of a record of the knowledge topic, as counted.
const (
	kept    = "kept"    // its vector is held
	misfit  = "misfit"  // held, but the model in use cannot make a row of it
	removed = "removed" // the item's knowledge is gone
	full    = "full"    // there is no room for another item
	invalid = "invalid" // it is no knowledge
)

const (
	// tableEach and tableShare bound how often a new table is made, and which share of
	// a core that takes: a burst of records makes a few tables, not as many as it is.
	tableEach  = 100 * time.Millisecond
	tableShare = 20
	// topicEach is how often a topic is asked for that was not there.
	topicEach = 5 * time.Second
	// maxComplaints bounds the memory of which encoders were complained of.
	maxComplaints = 100
)

// errBase ends the following of knowledge because the model in use has no tower.
var errBase = errors.New("the model in use has no use for knowledge")

// KnowledgeState is what is known of items by their text.
type KnowledgeState struct {
	ByText  int // rows of the model in use that are made of a text alone
	Vectors int // items with a vector, those included that the model has learnt
	Limit   int
	Refused int       // records that found no room
	Newest  time.Time // of the newest record; zero before the first
}

// Knowledge returns what is known by text; false if the model in use has no use for it.
func (s *Scorer) Knowledge() (KnowledgeState, bool) {
	m := s.current.Load()
	if m == nil || m.tower == nil {
		return KnowledgeState{}, false
	}
	out := KnowledgeState{ByText: m.ByText(), Limit: s.limit}
	if x := s.texts.Load(); x != nil {
		x.mu.Lock()
		defer x.mu.Unlock()
		out.Vectors, out.Refused, out.Newest = len(x.by), x.refused, x.newest
	}
	return out, true
}

// FollowKnowledge keeps the rows of items that only their text is known of up to date,
// until ctx ends or the topic cannot be read. While the model in use has no tower it
// reads nothing and holds nothing.
func (s *Scorer) FollowKnowledge(ctx context.Context) error {
	for ctx.Err() == nil {
		if m := s.current.Load(); m == nil || m.tower == nil {
			s.texts.Store(nil)
			select {
			case <-ctx.Done():
			case <-s.stale:
			}
			continue
		}
		group, following := errgroup.WithContext(ctx)
		group.Go(func() error { return s.readKnowledge(following) })
		group.Go(func() error { return s.refreshEach(following) })
		if err := group.Wait(); err != nil && !errors.Is(err, errBase) {
			return err
		}
	}
	return nil
}

// readKnowledge reads the topic from its start. What was held before serves until all
// that is in the topic has been read: a reading that begins again shows no older text.
func (s *Scorer) readKnowledge(ctx context.Context) error {
	topic := stream.NamesOf(s.kafka.TopicPrefix).Knowledge()
	for {
		held := newTexts(s.limit)
		err := stream.Follow(ctx, s.kafka, topic, func(rec *kgo.Record) error {
			s.learn(held, rec)
			return nil
		}, func() { s.hold(held) })
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it ended because it was asked to
		case !errors.Is(err, kerr.UnknownTopicOrPartition):
			return fmt.Errorf("following topic %q: %w", topic, err)
		}
		// Nothing that writes knowledge has run on this log yet.
		if s.texts.Load() == nil {
			s.hold(held)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(topicEach):
		}
	}
}

// hold makes what was read what look-ups know.
func (s *Scorer) hold(x *texts) {
	s.texts.Store(x)
	s.Refresh()
	s.knowing.Store(true)
}

// learn takes one record of the topic into x.
func (s *Scorer) learn(x *texts, rec *kgo.Record) {
	ev, err := stream.DecodeKnowledge(rec)
	if err != nil {
		s.knowledge.WithLabelValues(invalid).Inc() // it is in the dead letters of those who keep some
		return
	}
	k := ev.Body
	var by *tower.Tower // what makes a row of it, if the item is not learnt
	if m := s.current.Load(); m != nil {
		if _, learnt := m.vocabulary.Row(k.Item); !learnt {
			by = m.tower
		}
	}
	result := kept
	if ev.Deleted {
		x.remove(k.Item, ev.Time)
		result = removed
	} else if room, err := x.put(k.Item, k.Vector, k.Encoder, ev.Time, by); !room {
		result = full
	} else if err != nil {
		s.complain(by, k.Encoder, err)
		result = misfit
	}
	s.knowledge.WithLabelValues(result).Inc()
	if by != nil && s.texts.Load() == x {
		s.mark()
	}
}

// Described says that the catalogue has got an item, or another description of it.
func (s *Scorer) Described(id string) {
	x := s.texts.Load()
	if x == nil || !x.described(id) {
		return
	}
	if m := s.current.Load(); m != nil {
		if _, learnt := m.vocabulary.Row(id); !learnt {
			s.mark()
		}
	}
}

// mark says that the table of the model in use is not what it would be now, or that
// another model is in use.
func (s *Scorer) mark() {
	select {
	case s.stale <- struct{}{}:
	default:
	}
}

// refreshEach makes a new table when there is a reason, until ctx ends or a model
// without a tower is in use.
func (s *Scorer) refreshEach(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.stale:
		}
		if m := s.current.Load(); m == nil || m.tower == nil {
			return errBase
		}
		took := s.Refresh()
		if took == 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(tableEach, tableShare*took)):
		}
	}
}

// Refresh puts the model in use with the rows of all that is known now in its own
// place, without waiting for the pace at which that is done else. It returns how long
// that took, 0 if there was nothing to do.
func (s *Scorer) Refresh() time.Duration {
	s.building.Lock()
	defer s.building.Unlock()
	m := s.current.Load()
	if m == nil {
		return 0
	}
	start := time.Now()
	next, err := s.withTexts(m)
	if err == nil && next == m {
		return 0
	}
	took := time.Since(start)
	if err != nil {
		s.log.Error("the item table cannot be made anew, the old one stays", "error", err)
		return took
	}
	s.swap(next)
	s.tables.Observe(took.Seconds())
	return took
}

// withTexts returns m with a row for every item that it has not learnt and a text is
// known of: m itself if it has them already. Who calls it holds s.building.
func (s *Scorer) withTexts(m *Model) (*Model, error) {
	x := s.texts.Load()
	if m.tower == nil || x == nil || x.now() == m.from {
		return m, nil
	}
	items, rows, from := x.rows(m, s.items, func(encoder string, err error) { s.complain(m.tower, encoder, err) })
	if len(items) == 0 && m.ByText() == 0 {
		m.from = from
		return m, nil
	}
	next, err := m.with(items, rows)
	if err != nil {
		return nil, err
	}
	next.from = from
	if err := next.likes(); err != nil {
		next.engine.Close()
		return nil, fmt.Errorf("ranking for an unknown user: %w", err)
	}
	return next, nil
}

// complaint is a reason to log, once.
type complaint struct {
	encoder string
	numbers int // in a vector, as the model wants it
}

// complain logs that a model cannot use the vectors of an encoder.
func (s *Scorer) complain(by *tower.Tower, encoder string, err error) {
	about := complaint{encoder, by.Dim()}
	s.mu.Lock()
	_, known := s.complaints[about]
	first := !known && len(s.complaints) < maxComplaints
	if first {
		s.complaints[about] = struct{}{}
	}
	s.mu.Unlock()
	if first {
		s.log.Warn("items are not served by their text: their vectors are not the model's (encode anew, or train with this encoder)",
			"encoder", encoder, "error", err)
	}
}
