package online

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"seralm/models/seqrec"
)

// Learner couples a Sequencer with the recommender that learns from it.
type Learner struct {
	*Sequencer
	Model seqrec.Recommender // with knowledge, it is a Knowing too

	step      uint64    // micro-batches learnt
	events    int64     // events learnt, duplicates not counted
	watermark time.Time // latest event time learnt
	bad       int       // numerically failed steps in a row
}

// Knowing is a recommender that reads what is known of items.
type Knowing interface {
	// SetKnowledge gives item rows their knowledge vectors.
	SetKnowledge(rows []int32, vectors [][]float32) error
	// Knowledge returns the vector that a row has; nil if it has none.
	Knowledge(row int32) []float32
	// Lend calls f while rows have other vectors, and returns what f returns.
	Lend(rows []int32, vectors [][]float32, f func() error) error
}

// Renewing is a recommender whose item rows can begin anew, as those of other items.
type Renewing interface {
	Renew(rows []int32) error
}

// Known is an item with its knowledge vector.
type Known struct {
	Item   string
	Vector []float32
}

// NewLearner returns a learner at step 0.
func NewLearner(s *Sequencer, model seqrec.Recommender) *Learner {
	return &Learner{Sequencer: s, Model: model}
}

// Result is what one step did.
type Result struct {
	Step       uint64
	Events     int // learnt
	Samples    int // learnt
	Duplicates int
	Loss       seqrec.Loss
	// Numeric is set when the update was not finite and was skipped: the events
	// are in the histories, the weights are as before. BadSteps counts such steps
	// in a row.
	Numeric  error
	BadSteps int
}

// Step learns one micro-batch, events in stream order, after telling the model what
// is known of some items, all of which must be in the vocabulary by then. The returned
// error means that the state is undefined and must be restored; a numeric failure is
// not an error but part of the result, for it is a function of the log like any other.
func (l *Learner) Step(ctx context.Context, events []Event, known []Known) (Result, error) {
	batch := l.Next(events, l.step+1)
	return l.Learn(ctx, batch, events, known)
}

// Learn is the second half of Step, for callers that look at the batch or the
// vocabulary in between. The batch must come from Next(events, StepNumber()+1).
func (l *Learner) Learn(ctx context.Context, batch Batch, events []Event, known []Known) (Result, error) {
	l.step++
	r := Result{Step: l.step, Events: len(batch.Instances), Samples: len(batch.Sampled.New), Duplicates: batch.Duplicates}
	for _, in := range batch.Instances {
		if t := events[in.Event].Time; t.After(l.watermark) {
			l.watermark = t
		}
	}
	l.events += int64(r.Events)
	if err := l.Model.Resize(l.vocab.Rows()); err != nil {
		return r, fmt.Errorf("step %d: growing the item table to %d rows: %w", l.step, l.vocab.Rows(), err)
	}
	var rows []int32
	for _, n := range batch.Renewed {
		rows = append(rows, n.Row)
	}
	if err := l.renew(rows); err != nil {
		return r, fmt.Errorf("step %d: %w", l.step, err)
	}
	if err := l.tell(known); err != nil {
		return r, fmt.Errorf("step %d: %w", l.step, err)
	}
	sequences := slices.Concat(batch.Fresh(l.Model), batch.Replay.For(l.Model), batch.Sampled.New, batch.Sampled.Replay.For(l.Model))
	if len(sequences) == 0 {
		return r, nil
	}
	loss, err := l.learn(ctx, sequences, batch.Sampled)
	var numeric *seqrec.NumericError
	switch {
	case errors.As(err, &numeric):
		l.bad++
		r.Numeric, r.BadSteps = err, l.bad
	case err != nil:
		return r, fmt.Errorf("step %d: %w", l.step, err)
	default:
		l.bad = 0
		r.Loss = loss
	}
	return r, nil
}

// learn makes the model's step, with the texts of the samples in it.
func (l *Learner) learn(ctx context.Context, sequences []seqrec.Sequence, texts Sampled) (loss seqrec.Loss, err error) {
	if len(texts.rows) == 0 {
		return l.Model.Learn(ctx, sequences, l.step)
	}
	model, ok := l.Model.(Knowing)
	if !ok {
		return loss, fmt.Errorf("a %s cannot learn from texts", l.Model.Name())
	}
	err = model.Lend(texts.rows, texts.vectors, func() (err error) {
		loss, err = l.Model.Learn(ctx, sequences, l.step)
		return err
	})
	return loss, err
}

// renew makes rows those of items that the model knows nothing of.
func (l *Learner) renew(rows []int32) error {
	if len(rows) == 0 {
		return nil
	}
	model, ok := l.Model.(Renewing)
	if !ok {
		return fmt.Errorf("a %s cannot forget an item: the vocabulary must have no limit", l.Model.Name())
	}
	return model.Renew(rows)
}

func (l *Learner) tell(known []Known) error {
	if len(known) == 0 {
		return nil
	}
	model, ok := l.Model.(Knowing)
	if !ok {
		return fmt.Errorf("a %s cannot be told what is known of items", l.Model.Name())
	}
	rows, vectors := make([]int32, len(known)), make([][]float32, len(known))
	for i, k := range known {
		row, ok := l.vocab.Row(k.Item)
		if !ok {
			return fmt.Errorf("knowledge of item %q, which is not in the vocabulary", k.Item)
		}
		rows[i], vectors[i] = row, k.Vector
	}
	return model.SetKnowledge(rows, vectors)
}

// StepNumber is the number of micro-batches learnt.
func (l *Learner) StepNumber() uint64 { return l.step }

// Events is the number of distinct events learnt.
func (l *Learner) Events() int64 { return l.events }

// Watermark is the latest event time learnt.
func (l *Learner) Watermark() time.Time { return l.watermark }
