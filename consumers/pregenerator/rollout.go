package pregenerator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/stream"
)

// moveBatch is how many texts are promoted or put back in one transaction.
const moveBatch = 64

// advance takes the roll-out a step on, if there is one to take; texts apart, which
// drafting tells of. It waits until nobody changes what the ledger holds at once.
func (r *rolls) advance(ctx context.Context) (moved bool, err error) {
	if r.s.Once || !r.s.ledger.isOpen() {
		return false, nil
	}
	st := r.state
	switch st.Phase {
	case stream.RolloutPromoting:
		return true, r.promote(ctx)
	case stream.RolloutWithdrawing:
		return true, r.restore(ctx)
	}
	if next, ok := r.decided(); ok {
		return true, r.enter(ctx, next)
	}
	if st.Proposed() && st.Encoder != r.s.Encoder.Version() {
		st.Phase, st.Reason = stream.RolloutWithdrawn, "its vectors are of another encoder: "+st.Encoder
		return true, r.enter(ctx, st)
	}
	if st.Phase == stream.RolloutWriting {
		return r.planned(ctx)
	}
	if p := r.due(); p != nil {
		return r.begin(ctx, p)
	}
	return false, nil
}

// decided returns the state that the gate or the operator want next, if this one allows
// it. A decision that was fulfilled allows nothing more, however often it is read.
func (r *rolls) decided() (stream.Rollout, bool) {
	r.mu.Lock()
	gate, operator := r.gate, r.operator
	r.mu.Unlock()
	st := r.state
	if d := operator; d != nil {
		st.Reason = d.Reason
		switch {
		case d.Action == stream.ActionPromote && d.Rollout == st.ID && st.Promotable():
			return promoting(st), true
		case d.Action != stream.ActionRollback || !slices.Contains(st.Withdrawable(), d.Rollout):
		case st.Proposed() && d.Rollout == st.ID:
			st.Phase = stream.RolloutWithdrawn
			return st, true
		default:
			return withdrawing(st), true
		}
	}
	if d := gate; d != nil && d.Rollout == r.state.ID && r.state.Phase == stream.RolloutJudging {
		st = r.state
		st.Reason, st.Decision = d.Reason, d
		switch d.Action {
		case stream.ActionPromote:
			return promoting(st), true
		case stream.ActionHold:
			st.Phase = stream.RolloutHeld
			return st, true
		}
	}
	return st, false
}

// promoting makes the roll-out's policy the one that is served: from here on new items
// are written by it, and the drafts follow.
func promoting(st stream.Rollout) stream.Rollout {
	st.Phase, st.Moved, st.Stale = stream.RolloutPromoting, 0, 0
	st.Previous, st.Return = st.Served, true
	st.Served = &stream.ServedPolicy{Rollout: st.ID, Policy: st.Policy, Slot: st.Slot}
	return st
}

// withdrawing takes back what is served.
func withdrawing(st stream.Rollout) stream.Rollout {
	st.Phase, st.Moved, st.Stale = stream.RolloutWithdrawing, 0, 0
	st.Undo, st.Served, st.Previous, st.Return = st.Served, st.Previous, nil, false
	return st
}

// enter writes the next state, with records that belong to it, and is in it.
func (r *rolls) enter(ctx context.Context, next stream.Rollout, with ...*kgo.Record) error {
	now := time.Now()
	rec, err := stream.RolloutRecord(r.s.names.Rollouts(), source, now, next)
	if err == nil {
		err = r.s.out.commit(ctx, append(with, rec)...)
	}
	if err != nil {
		return fmt.Errorf("roll-out %d, %s: %w", next.ID, next.Phase, err)
	}
	next.Time = now
	r.state, r.silent = next, false
	r.s.ledger.serve(r.serves(next))
	r.s.rolling.show(next, len(r.drafted))
	r.s.Logger.Info("roll-out", "id", next.ID, "phase", next.Phase, "policy", next.Policy.String(), "drafts", next.Drafts,
		"moved", next.Moved, "stale", next.Stale, "reason", next.Reason)
	return nil
}

// due returns the policy that is to be rolled out now, or nil. One that was held or
// withdrawn gets another chance when it has learnt as much again.
func (r *rolls) due() *stream.PolicySnapshot {
	r.mu.Lock()
	p := r.newest
	if p == r.refused {
		p = nil
	}
	r.mu.Unlock()
	if p == nil || r.state.Phase.Open() {
		return nil
	}
	last := int64(0)
	if r.state.Alignment == r.s.cfg.Alignment.Name {
		last = r.state.Policy.Step
	}
	if p.Policy.Step-last < r.s.cfg.Alignment.RolloutSteps {
		return nil
	}
	if with, without := r.s.ledger.texts(); !enough(with, without, r.s.cfg.Alignment.RolloutItems) {
		if !r.short {
			r.short = true
			r.s.Logger.Info("a roll-out is due, and begins when enough items have a text", "policy", p.Policy.String(), "items", with, "waiting", without)
		}
		return nil
	}
	return p
}

// enough reports whether enough items have a text for a roll-out of at most so many items
// (0 = all). Where most have none yet, writing one for them is of more use, unless there
// are as many as a roll-out takes.
func enough(with, without, most int) bool {
	return with > 0 && (with >= without || most > 0 && with >= most)
}

// begin opens a roll-out. The adapter is kept with it: the trainer overwrites its own.
func (r *rolls) begin(ctx context.Context, p *stream.PolicySnapshot) (bool, error) {
	if err := r.load(p, p.Policy); err != nil {
		r.mu.Lock()
		r.refused = p
		r.mu.Unlock()
		r.s.refused("policy")
		r.s.Logger.Error("the newest policy cannot be rolled out: are knowledge.model and alignment.rank, scale and targets those of its trainer?", "policy", p.Policy.String(), "error", err)
		return false, nil
	}
	st := r.state
	next := stream.Rollout{
		ID: st.ID + 1, Phase: stream.RolloutWriting, Alignment: r.s.cfg.Alignment.Name, Policy: p.Policy, Epoch: p.Epoch, Slot: st.FreeSlot(),
		Encoder: r.s.Encoder.Version(), Began: time.Now().UTC(), Served: st.Served, Previous: st.Previous, Return: st.Return,
	}
	chunks, err := stream.AdapterRecords(r.s.names.Rollouts(), next.ID, next.Slot, *p)
	if err != nil {
		return false, err
	}
	clear(r.drafted)
	clear(r.passed)
	if err := r.enter(ctx, next, chunks...); err != nil {
		return false, err
	}
	r.adapters[next.Slot], r.plan, r.short = p, nil, false
	return true, nil
}

// move publishes what each draft of a roll-out asks for, in batches, and returns how many
// items it moved, with those that a killed session had moved already, and how many drafts
// are of no use any more. what says what to do about a draft, given the item.
func (r *rolls) move(ctx context.Context, rollout int64, what func(stream.Draft, entry) (result, moveState)) (moved, stale int, err error) {
	var batch []result
	flush := func() error {
		done, err := r.s.publish(ctx, batch)
		moved, stale, batch = moved+done, stale+len(batch)-done, batch[:0]
		return err
	}
	err = scan(ctx, r.s.cfg.Kafka, r.s.names.Rollouts(), func(rec *kgo.Record) error {
		body, err := stream.DecodeRolloutRecord(rec)
		d, ok := body.(stream.Draft)
		if err != nil || !ok || d.Rollout != rollout {
			return nil //nolint:nilerr // the follower has told of what is invalid
		}
		e, _ := r.s.ledger.look(d.Item)
		res, is := what(d, e)
		switch is {
		case movedAlready:
			moved++
		case toMove:
			batch = append(batch, res)
		case notToMove:
			stale++
		}
		if len(batch) < moveBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	return moved, stale, err
}

type moveState uint8

const (
	notToMove moveState = iota
	toMove
	movedAlready
)

// is reports whether an item's newest knowledge is that text, or one of the same policy
// about the same prompt.
func (k known) is(of stream.Knowledge) bool {
	return k.origin == of.Origin && k.prompt == digest(of.PromptHash) && k.version.Value() == of.Policy
}

// promote makes the drafts what the items have, and ends the roll-out.
func (r *rolls) promote(ctx context.Context) error {
	st := r.state
	moved, stale, err := r.move(ctx, st.ID, func(d stream.Draft, e entry) (result, moveState) {
		res := result{due: promotion, prompt: digest(d.Candidate.PromptHash), of: place{d.Partition, d.Offset}, know: d.Candidate}
		switch {
		case e.known.origin != "" && e.known.is(d.Candidate):
			return res, movedAlready
		case res.holds(e, nothing):
			return res, toMove
		}
		return res, notToMove
	})
	if err != nil {
		return fmt.Errorf("promoting roll-out %d: %w", st.ID, err)
	}
	st.Phase, st.Moved, st.Stale = stream.RolloutPromoted, moved, stale
	return r.enter(ctx, st)
}

// restore puts back what the items had before the roll-out, where they still have what it
// gave them.
func (r *rolls) restore(ctx context.Context) error {
	st := r.state
	moved, stale, err := r.move(ctx, st.Undo.Rollout, func(d stream.Draft, e entry) (result, moveState) {
		res := result{due: restoring, of: e.known.at, know: d.Served}
		switch {
		case e.known.origin == "":
			return res, notToMove
		case e.known.is(d.Served):
			return res, movedAlready
		case e.known.is(d.Candidate):
			return res, toMove
		}
		return res, notToMove
	})
	if err != nil {
		return fmt.Errorf("withdrawing roll-out %d: %w", st.Undo.Rollout, err)
	}
	st.Phase, st.Moved, st.Stale, st.Undo = stream.RolloutWithdrawn, moved, stale, nil
	return r.enter(ctx, st)
}
