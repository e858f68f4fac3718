package online

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"seralm/models/seqrec"
	"seralm/models/vocab"
)

// Event is one interaction as the learner sees it.
type Event struct {
	Key  uint64 // idempotency key, see EventKey
	User string
	Item string
	Time time.Time
}

// Instance is one prediction problem of the stream: the user's items before the
// event, and the item of the event (the paper's (x, y)).
type Instance struct {
	Event   int     // index into the events handed to Next
	History []int32 // oldest first, at most MaxLen rows; empty for a user's first event
	Target  int32   // vocab.Unknown when the item has no row yet
}

// Batch is what one micro-batch of events teaches.
type Batch struct {
	New        []seqrec.Sequence // the users' new positions, each user's in as few rows as MaxLen allows
	Replay     Replay            // older sequences learnt again, against forgetting
	Instances  []Instance        // one per new event, in stream order
	Duplicates int               // events already seen
	Renewed    []Renewal         // rows that were another item's before
	Sampled    Sampled           // what samples teach beside the events; see Sample
}

// Fresh returns the sequences that teach a model the batch's events: New, or where the
// model learns one target of a sequence and would pass over others, a sequence for each
// event.
func (b Batch) Fresh(model seqrec.Recommender) []seqrec.Sequence {
	if seqrec.LearnsAll(model) {
		return b.New
	}
	out := make([]seqrec.Sequence, len(b.Instances))
	for i, in := range b.Instances {
		out[i] = seqrec.Sequence{Items: append(slices.Clone(in.History), in.Target), From: len(in.History)}
	}
	return out
}

// Replay is a draw of older sequences.
type Replay struct {
	sequences []seqrec.Sequence // as many as targets are wanted
	all       int               // the first of them, which have that many targets together
}

// For returns as many sequences as teach the model the targets wanted: fewer where it
// learns all targets of a sequence, and not one.
func (r Replay) For(model seqrec.Recommender) []seqrec.Sequence {
	if seqrec.LearnsAll(model) {
		return r.sequences[:r.all]
	}
	return r.sequences
}

// Renewal is a row of the item table that a new item has got.
type Renewal struct {
	Row int32
	Was string // the item that lost it
}

// SequencerOptions are the settings of a Sequencer; see config.Trainer.
type SequencerOptions struct {
	MaxLen      int     // L: items of context
	MaxUsers    int     // histories held
	DedupWindow int     // event keys remembered
	AdmitAfter  int     // sightings before an item has a row
	MaxItems    int     // items that have a row, at least as many as a micro-batch has events; 0 = all
	Replay      float64 // replayed targets per new target
	Seed        uint64  // of the replay draw
}

// Sequencer holds what turns events into sequences: the vocabulary, the users'
// histories and the window of event keys.
type Sequencer struct {
	opts      SequencerOptions
	vocab     *vocab.Vocabulary
	histories *histories
	seen      *window
}

// NewSequencer returns an empty Sequencer.
func NewSequencer(o SequencerOptions) *Sequencer {
	s := &Sequencer{
		opts:  o,
		vocab: vocab.New(o.AdmitAfter),
		// One item more than the context: a replayed row has L inputs and L targets.
		histories: newHistories(o.MaxLen+1, o.MaxUsers),
		seen:      newWindow(o.DedupWindow),
	}
	s.SetMaxItems(o.MaxItems)
	return s
}

// SetMaxItems changes how many items have a row, from the next micro-batch on. It decides
// what a step is, so who learns a step again sets what was set then.
func (s *Sequencer) SetMaxItems(n int) {
	s.opts.MaxItems = n
	s.vocab.SetLimit(n)
}

// SetAdmitAfter changes how many sightings give an item a row, likewise.
func (s *Sequencer) SetAdmitAfter(n int) { s.vocab.SetAdmitAfter(n) }

// Vocabulary is the item vocabulary; it grows with Next.
func (s *Sequencer) Vocabulary() *vocab.Vocabulary { return s.vocab }

// Users is the number of histories held.
func (s *Sequencer) Users() int { return len(s.histories.users) }

// History returns the user's items, oldest first, at most MaxLen+1 rows.
func (s *Sequencer) History(user string) []int32 { return s.histories.rows(user) }

// Next takes a micro-batch of events in stream order and returns its sequences.
// step numbers the micro-batch: with the seed it decides which older sequences
// are replayed.
//
// Where the vocabulary is full, the items not seen for longest lose their rows to the
// batch's new ones, and are unknown items in all histories from this batch on.
func (s *Sequencer) Next(events []Event, step uint64) Batch {
	if s.opts.MaxItems > 0 && len(events) > s.opts.MaxItems {
		panic(fmt.Sprintf("BUG: a micro-batch of %d events over %d items: an item could lose its row within it", len(events), s.opts.MaxItems))
	}
	var b Batch
	targets := make([]int32, len(events)) // rows; padding where an event was met before
	for i, e := range events {
		if !s.seen.add(e.Key) {
			b.Duplicates++
			continue
		}
		row, lost := s.vocab.Observe(e.Item)
		if targets[i] = row; lost != "" {
			b.Renewed = append(b.Renewed, Renewal{row, lost})
		}
	}
	if len(b.Renewed) > 0 {
		renewed := make([]bool, s.vocab.Rows())
		for _, r := range b.Renewed {
			renewed[r.Row] = true
		}
		s.histories.unknow(renewed)
	}
	rows := map[string][]int32{} // a user's history, then the new items
	fresh := map[string]int{}    // where the new ones begin
	var order []string           // users by first appearance
	for i, e := range events {
		target := targets[i]
		if target == vocab.Padding {
			continue
		}
		items, ok := rows[e.User]
		if !ok {
			old := s.histories.rows(e.User)
			items = append(make([]int32, 0, len(old)+8), old...)
			fresh[e.User] = len(items)
			order = append(order, e.User)
		}
		context := items[max(0, len(items)-s.opts.MaxLen):]
		b.Instances = append(b.Instances, Instance{Event: i, History: context[:len(context):len(context)], Target: target})
		rows[e.User] = append(items, target)
	}
	n := 0 // targets
	for _, user := range order {
		for _, seq := range windows(rows[user], fresh[user], s.opts.MaxLen) {
			b.New = append(b.New, seq)
			n += len(seq.Items) - max(seq.From, 1)
		}
	}
	// Drawn before the new items are put: what is replayed is older than the batch.
	b.Replay = s.replay(int(float64(n)*s.opts.Replay), rand.New(rand.NewPCG(s.opts.Seed, step)))
	for _, user := range order {
		s.histories.put(user, rows[user])
	}
	return b
}

// windows cuts items into sequences of at most maxLen inputs that together make
// every position from `from` new exactly once. As long as more is to come, a
// window spends half its length on context; what fits into one window is not cut,
// even if its first target then sees little.
func windows(items []int32, from, maxLen int) []seqrec.Sequence {
	var out []seqrec.Sequence
	for at := from; at < len(items); {
		end := min(len(items), max(at, 1)+max(1, maxLen/2))
		if len(items)-max(at-1, 0) <= maxLen+1 {
			end = len(items)
		}
		start := max(0, end-(maxLen+1))
		out = append(out, seqrec.Sequence{Items: items[start:end:end], From: at - start})
		at = end
	}
	return out
}

// replay draws sequences of users already known, uniformly with replacement, one for each
// of the targets wanted.
func (s *Sequencer) replay(targets int, r *rand.Rand) (out Replay) {
	n := len(s.histories.users)
	if n == 0 {
		return out
	}
	wanted := targets
	// A table of users with one item, or with none that has a row still, has nothing to
	// teach: bound the draws.
	for draws := 0; len(out.sequences) < targets && draws < 4*targets+64; draws++ {
		rows := s.histories.users[r.IntN(n)].rows
		known := 0
		for _, row := range rows[min(1, len(rows)):] {
			if row >= vocab.FirstItem {
				known++
			}
		}
		if known == 0 {
			continue
		}
		out.sequences = append(out.sequences, seqrec.Sequence{Items: slices.Clone(rows), From: 1})
		if wanted > 0 {
			wanted -= known
			out.all = len(out.sequences)
		}
	}
	return out
}
