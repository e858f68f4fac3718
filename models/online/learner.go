package online

import (
	"context"
	"errors"
	"fmt"
	"time"

	"seralm/models/seqrec"
)

// Learner couples a Sequencer with the recommender that learns from it.
type Learner struct {
	*Sequencer
	Model seqrec.Recommender

	step      uint64    // micro-batches learnt
	events    int64     // events learnt, duplicates not counted
	watermark time.Time // latest event time learnt
	bad       int       // numerically failed steps in a row
}

// NewLearner returns a learner at step 0.
func NewLearner(s *Sequencer, model seqrec.Recommender) *Learner {
	return &Learner{Sequencer: s, Model: model}
}

// Result is what one step did.
type Result struct {
	Step       uint64
	Events     int // learnt
	Duplicates int
	Loss       seqrec.Loss
	// Numeric is set when the update was not finite and was skipped: the events
	// are in the histories, the weights are as before. BadSteps counts such steps
	// in a row.
	Numeric  error
	BadSteps int
}

// Step learns one micro-batch, events in stream order. The returned error means
// that the state is undefined and must be restored; a numeric failure is not an
// error but part of the result, for it is a function of the log like any other.
func (l *Learner) Step(ctx context.Context, events []Event) (Result, error) {
	batch := l.Next(events, l.step+1)
	return l.Learn(ctx, batch, events)
}

// Learn is the second half of Step, for callers that look at the batch in
// between (test, then train). The batch must come from Next(events, step+1).
func (l *Learner) Learn(ctx context.Context, batch Batch, events []Event) (Result, error) {
	l.step++
	r := Result{Step: l.step, Events: len(batch.Instances), Duplicates: batch.Duplicates}
	for _, in := range batch.Instances {
		if t := events[in.Event].Time; t.After(l.watermark) {
			l.watermark = t
		}
	}
	l.events += int64(r.Events)
	if err := l.Model.Resize(l.vocab.Rows()); err != nil {
		return r, fmt.Errorf("step %d: growing the item table to %d rows: %w", l.step, l.vocab.Rows(), err)
	}
	sequences := append(batch.New[:len(batch.New):len(batch.New)], batch.Replay...)
	if len(sequences) == 0 {
		return r, nil
	}
	loss, err := l.Model.Learn(ctx, sequences, l.step)
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

// StepNumber is the number of micro-batches learnt.
func (l *Learner) StepNumber() uint64 { return l.step }

// Events is the number of distinct events learnt.
func (l *Learner) Events() int64 { return l.events }

// Watermark is the latest event time learnt.
func (l *Learner) Watermark() time.Time { return l.watermark }
