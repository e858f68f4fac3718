package pregenerator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/stream"
)

// planned decides which items get a draft, and ends the writing when all have.
func (r *rolls) planned(ctx context.Context) (moved bool, err error) {
	if len(r.plan) == 0 { // at first, and once more at the end: items may have got a text meanwhile
		r.plan = r.s.ledger.draftable(r.s.popular(ctx), r.state.Began, func(item string) bool {
			return r.passed[item] || r.drafted[item] == r.state.ID
		})
		if most := r.s.cfg.Alignment.RolloutItems; most > 0 {
			r.plan = r.plan[:min(len(r.plan), max(0, most-len(r.drafted)))]
		}
	}
	if len(r.plan) > 0 {
		return false, nil
	}
	st := r.state
	st.Drafts, st.Phase = len(r.drafted), stream.RolloutJudging
	if st.Drafts == 0 {
		st.Phase, st.Reason = stream.RolloutWithdrawn, "there is no item to write a text for"
	}
	return true, r.enter(ctx, st)
}

// drafting reports whether drafts are to be written now.
func (r *rolls) drafting() bool {
	return !r.s.Once && r.state.Phase == stream.RolloutWriting && len(r.plan) > 0
}

// draft writes the drafts of the next items of the plan.
func (r *rolls) draft(ctx context.Context) error {
	s, st := r.s, r.state
	if err := r.load(r.adapters[st.Slot], st.Policy); err != nil {
		st.Phase, st.Reason = stream.RolloutWithdrawn, "its policy cannot be loaded: "+err.Error()
		return r.enter(ctx, st)
	}
	n := min(len(r.plan), s.cfg.Knowledge.Batch)
	var asks []Ask
	var results []result
	served := map[string]stream.Draft{}
	for _, item := range r.plan[:n] {
		e, d := s.ledger.look(item)
		if !e.draftable(d) {
			continue // it changed since the plan was made
		}
		draft, ok, err := r.beside(ctx, e)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		res, ask, ok, err := s.prompt(ctx, e)
		if err != nil {
			return err
		}
		if ok {
			asks, results, served[item] = append(asks, ask), append(results, res), draft
		}
	}
	answered, tokens, err := s.answered(ctx, asks, results, r.passed)
	if err != nil {
		return err
	}
	var recs []*kgo.Record
	for _, res := range answered {
		d := served[res.know.Item]
		d.Candidate = res.know
		rec, err := stream.RolloutRecord(s.names.Rollouts(), source, time.Now(), d)
		if err != nil {
			return fmt.Errorf("the draft of item %q: %w", d.Item, err)
		}
		recs = append(recs, rec)
	}
	if len(recs) > 0 {
		if err := s.out.commit(ctx, recs...); err != nil {
			return fmt.Errorf("writing drafts to topic %s: %w", s.names.Rollouts(), err)
		}
	}
	for _, res := range answered {
		r.drafted[res.know.Item] = st.ID
	}
	r.plan = r.plan[n:]
	s.progress.wrote(len(recs), tokens)
	s.rolling.show(st, len(r.drafted))
	return nil
}

// beside returns an item's draft without its text: with the text that the item has. It
// reports false when a newer one takes that one's place.
func (r *rolls) beside(ctx context.Context, e entry) (stream.Draft, bool, error) {
	rec, ok, err := r.s.read(ctx, r.s.names.Knowledge(), e.known.at)
	if err != nil || !ok {
		return stream.Draft{}, false, err
	}
	ev, err := stream.DecodeKnowledge(rec)
	if err != nil {
		return stream.Draft{}, false, fmt.Errorf("topic %s partition %d offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
	}
	return stream.Draft{
		Rollout: r.state.ID, Slot: r.state.Slot, Item: e.id, Served: ev.Body, Partition: rec.Partition, Offset: rec.Offset,
	}, true, nil
}

// draftable reports whether a roll-out may propose another text for the item: it has one
// of a language model, about what the item is now.
func (e *entry) draftable(d due) bool {
	return d == nothing && e.announced && !e.hidden && e.known.origin == stream.OriginLLM && e.known.prompt == e.prompt
}

// draftable lists the items that a roll-out may propose a text for, if they are as they
// were when it began, and not done: the popular ones in their order, then the newest.
func (l *ledger) draftable(popular []string, began time.Time, done func(item string) bool) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	rank := make(map[string]int, len(popular))
	for i, item := range popular {
		rank[item] = len(popular) - i
	}
	var all []*entry
	for id, e := range l.entries {
		if e.written <= began.UnixMilli() && e.draftable(e.due(l.complete)) && !done(id) {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *entry) int {
		switch {
		case rank[a.id] != rank[b.id]:
			return rank[b.id] - rank[a.id]
		case newer(a, b):
			return -1
		}
		return 1
	})
	items := make([]string, len(all))
	for i, e := range all {
		items[i] = e.id
	}
	return items
}

// texts counts the items that have a language model's text, and those that wait for one.
func (l *ledger) texts() (with, without int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.draftable(e.due(l.complete)) {
			with++
		}
	}
	return with, len(l.queue) + l.taken
}
