// Package seqrec holds the sequential recommenders: given the items a user took,
// oldest first, each predicts the next one.
//
// They share one interface, so that training, evaluation and serving do not know
// which one they have. Items are rows (see vocab); a recommender's scores are
// unnormalised log-probabilities over rows, with -Inf for the reserved ones.
//
// The package computes. It may import models beside it and must never do I/O.
package seqrec

import (
	"context"
	"fmt"

	"seralm/models/snapshot"
)

// Sequence is one user's items, oldest first. The items at positions >= From are
// new; those among them that have an item before them are targets, position t
// being predicted from Items[:t] (p(y|x) with y = Items[t]).
type Sequence struct {
	Items []int32
	From  int
}

// Loss is the outcome of one learning step, measured before the update.
type Loss struct {
	NLL     float64 // mean -log p(y|x) per target, nats
	Targets int
}

// Recommender is what learns from sequences and ranks items.
type Recommender interface {
	// Name of the architecture, as the configuration spells it.
	Name() string
	// Resize makes room for item rows [0, rows). It never shrinks.
	Resize(rows int) error
	// Learn makes one step. It is a function of the state, the batch and step.
	Learn(ctx context.Context, batch []Sequence, step uint64) (Loss, error)
	// Scores returns [B][rows] for B histories of rows, oldest first.
	Scores(ctx context.Context, histories [][]int32) ([][]float32, error)
	// State returns what is needed to score, by name.
	State() (map[string]snapshot.Tensor, error)
	// Restore is the inverse of State.
	Restore(state map[string]snapshot.Tensor, rows int) error
	// Close frees what the recommender holds outside the Go heap.
	Close()
}

// Checkpointed is a Recommender whose optimiser can be saved too, so that
// learning goes on to the bit as if it had not stopped.
type Checkpointed interface {
	Architecture() snapshot.Architecture
	FullState() (map[string]snapshot.Tensor, error)
	// RestoreFull is the inverse of FullState; item rows that the state does not hold
	// yet are made as Resize makes them.
	RestoreFull(state map[string]snapshot.Tensor, rows int) error
}

// NumericError says that a step's loss or gradient was not finite. The step was
// not taken: the weights are as before.
type NumericError struct {
	What  string // "loss" or "gradient norm"
	Value float64
	Step  uint64
}

func (e *NumericError) Error() string {
	return fmt.Sprintf("step %d: %s is %v", e.Step, e.What, e.Value)
}

// LearnsAll reports whether a recommender learns all targets of a sequence, and not one
// of them that it draws.
func LearnsAll(r Recommender) bool {
	m, ok := r.(interface{ Causal() bool })
	return !ok || m.Causal()
}
