// Package prequential evaluates recommenders on a stream, test-then-train: each
// event is ranked among all items by every arm as it is before it learns the
// event, then the arms learn it (Gama et al., 2013; River's
// progressive_val_score). It is the streaming counterpart of leave-one-out.
//
// All arms see the same events, in the same micro-batches, with the same
// histories. The package does arithmetic only: where events come from, and where
// the curve goes, is the caller's business.
package prequential

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"seralm/models/metrics"
	"seralm/models/online"
	"seralm/models/seqrec"
	"seralm/models/vocab"
)

// Arm is one recommender under evaluation.
type Arm struct {
	Name string
	// Rank judges each instance.
	Rank func(ctx context.Context, instances []online.Instance) ([]Judgement, error)
	// Learn teaches the batch that was just ranked, which the events became.
	Learn func(ctx context.Context, events []online.Event, batch online.Batch, rows int, step uint64) error
}

// Evaluation runs the protocol. It is used by one goroutine.
type Evaluation struct {
	sequencer *online.Sequencer
	arms      []Arm
	tallies   []*Tally
	delay     int
	late      []lesson // that are still to be learnt, in the order of the stream
	waiting   int      // events of these
	step      uint64
	counts    Counts
	bad       []int64 // steps of each arm that failed numerically
}

// lesson is a micro-batch to be learnt.
type lesson struct {
	events []online.Event
	batch  online.Batch
	rows   int
	step   uint64
}

// Counts says what became of the events.
type Counts struct {
	Events     int64 // seen, repeated ones included
	Duplicates int64
	First      int64 // of a user without a history: nothing to personalise on, not ranked
	NewItems   int64 // the item was never seen before: a miss for every arm, without log p
	Ranked     int64 // NewItems included
}

// New returns an evaluation of the arms; window is the length of the sliding curve in
// events. What is observed is learnt when at least delay further events were: 0 is
// test-then-train, more a system that is late to learn (River's delay). Histories are
// never late.
func New(s *online.Sequencer, window, delay int, arms ...Arm) *Evaluation {
	e := &Evaluation{sequencer: s, arms: arms, delay: delay}
	for range arms {
		e.tallies = append(e.tallies, newTally(window))
	}
	e.bad = make([]int64, len(arms))
	return e
}

// Observe ranks the events, in stream order, and then teaches them. With rank
// false it only teaches: that is how a restarted evaluator catches up.
func (e *Evaluation) Observe(ctx context.Context, events []online.Event, rank bool) error {
	e.step++
	known := int32(e.sequencer.Vocabulary().Rows())
	batch := e.sequencer.Next(events, e.step)
	e.counts.Events += int64(len(events))
	e.counts.Duplicates += int64(batch.Duplicates)
	if rank {
		if err := e.rank(ctx, batch, known); err != nil {
			return err
		}
	}
	e.late = append(e.late, lesson{slices.Clone(events), batch, e.sequencer.Vocabulary().Rows(), e.step})
	e.waiting += len(events)
	for len(e.late) > 0 && e.waiting-len(e.late[0].events) >= e.delay {
		if err := e.teach(ctx, e.late[0]); err != nil {
			return err
		}
		e.waiting -= len(e.late[0].events)
		e.late[0] = lesson{}
		e.late = e.late[1:]
	}
	return nil
}

func (e *Evaluation) teach(ctx context.Context, l lesson) error {
	for a, arm := range e.arms {
		err := arm.Learn(ctx, l.events, l.batch, l.rows, l.step)
		var numeric *seqrec.NumericError
		switch {
		case errors.As(err, &numeric): // the step was not taken, as in a running system
			e.bad[a]++
		case err != nil:
			return fmt.Errorf("%s: step %d: %w", arm.Name, l.step, err)
		}
	}
	return nil
}

func (e *Evaluation) rank(ctx context.Context, batch online.Batch, known int32) error {
	var instances []online.Instance
	for _, in := range batch.Instances {
		if len(in.History) == 0 {
			e.counts.First++
			continue
		}
		if in.Target >= known || in.Target < vocab.FirstItem {
			e.counts.NewItems++
		}
		instances = append(instances, in)
	}
	if len(instances) == 0 {
		return nil
	}
	e.counts.Ranked += int64(len(instances))
	for a, arm := range e.arms {
		judgements, err := arm.Rank(ctx, instances)
		if err != nil {
			return fmt.Errorf("%s: ranking step %d: %w", arm.Name, e.step, err)
		}
		for _, j := range judgements {
			if !j.Absent {
				e.tallies[a].add(j)
			}
		}
	}
	return nil
}

// Learning is an arm that learns as it goes. Only a recommender that forgets needs
// to be taught the replayed sequences too.
func Learning(name string, r seqrec.Recommender, replay bool) Arm {
	known := vocab.FirstItem
	return Arm{
		Name: name,
		Rank: func(ctx context.Context, instances []online.Instance) ([]Judgement, error) {
			return ByScores(r.Scores, known)(ctx, instances)
		},
		Learn: func(ctx context.Context, _ []online.Event, b online.Batch, rows int, step uint64) error {
			if err := r.Resize(rows); err != nil {
				return err
			}
			known = rows
			sequences := b.Fresh(r)
			if replay {
				sequences = slices.Concat(sequences, b.Replay.For(r))
			}
			if len(sequences) == 0 {
				return nil
			}
			_, err := r.Learn(ctx, sequences, step)
			return err
		},
	}
}

// maxScores bounds the scores that are held at once: 64 MB.
const maxScores = 16 << 20

// ByScores makes an Arm's Rank of a recommender's Scores, [B][known] for B histories.
// Items from row known on came after it has learnt: in a history they are the unknown
// item, as a target a miss.
func ByScores(scores func(ctx context.Context, histories [][]int32) ([][]float32, error), known int) func(context.Context, []online.Instance) ([]Judgement, error) {
	return func(ctx context.Context, instances []online.Instance) ([]Judgement, error) {
		histories := make([][]int32, len(instances))
		for i, in := range instances {
			histories[i] = in.History
			for k, row := range in.History {
				if int(row) >= known {
					if &histories[i][0] == &in.History[0] {
						histories[i] = slices.Clone(in.History)
					}
					histories[i][k] = vocab.Unknown
				}
			}
		}
		judgements := make([]Judgement, 0, len(instances))
		for some := range slices.Chunk(histories, max(1, maxScores/max(1, known))) {
			rows, err := scores(ctx, some)
			if err != nil {
				return nil, err
			}
			for _, row := range rows {
				in := instances[len(judgements)]
				judgements = append(judgements, Judge(row, in.History, in.Target))
			}
		}
		return judgements, nil
	}
}

// Judgement is how one event was ranked.
type Judgement struct {
	Rank   float64 // 1 = best, ties count half; 0 = the item has no score: a miss
	Masked float64 // the same with the items of the history left out
	LogP   float64 // log p(y|x), nats; meaningless when Rank is 0
	Absent bool    // the arm had no model for this event: it does not count
}

// Judge ranks target among all items by scores [R]. Where they are no numbers it is a
// miss.
func Judge(scores []float32, history []int32, target int32) Judgement {
	if target < vocab.FirstItem || int(target) >= len(scores) {
		return Judgement{}
	}
	logP := metrics.LogSoftmaxAt(scores, target)
	if math.IsNaN(logP) || math.IsInf(logP, 0) {
		return Judgement{}
	}
	return Judgement{
		Rank:   metrics.Rank(scores, target, nil),
		Masked: metrics.Rank(scores, target, history),
		LogP:   logP,
	}
}

// Counts returns what became of the events so far.
func (e *Evaluation) Counts() Counts { return e.counts }

// BadSteps counts the steps of each arm, in their order, that failed numerically and
// were not taken.
func (e *Evaluation) BadSteps() []int64 { return e.bad }

// Tallies returns each arm's results, in the order of the arms.
func (e *Evaluation) Tallies() []*Tally { return e.tallies }

// Arms returns the arms' names.
func (e *Evaluation) Arms() []string {
	names := make([]string, len(e.arms))
	for i, a := range e.arms {
		names[i] = a.Name
	}
	return names
}
