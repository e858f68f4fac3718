package experiments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"seralm/models/online"
	"seralm/models/prequential"
	"seralm/models/seqrec"
)

// Retrain is how a recommender is trained anew again and again beside the stream, as
// is done every night in many places: on all events so far, in epochs.
type Retrain struct {
	Every  time.Duration `json:"every,omitempty"` // of event time; 0 = not at all
	Epochs int           `json:"epochs,omitempty"`
}

// retrainBatch is how many sequences a step has: few, for a young stream has few, and a
// training is to be more than a handful of steps.
const retrainBatch = 32

func (r Retrain) validate() error {
	if r.Every < 0 || r.Every > 0 && r.Epochs < 1 {
		return fmt.Errorf("training anew every %s in %d epochs: the first must not be negative, the second 1 or more", r.Every, r.Epochs)
	}
	return nil
}

// retrained is an arm that ranks with what it was at its last training, and histories
// as they are. Before the first training it knows no item.
type retrained struct {
	Retrain
	make     func() (seqrec.Recommender, error)
	maxLen   int
	seed     uint64
	progress io.Writer

	model     seqrec.Recommender // nil until the first training
	rows      int                // of the model
	due       time.Time          // the next training
	user      map[string]int
	histories [][]int32
	seen      int // rows that the histories are of
	trainings int
}

// arm returns the arm, named like the one that learns online.
func (r *retrained) arm(name string) prequential.Arm {
	return prequential.Arm{
		Name: name + " every " + strings.Replace(r.Every.String(), "h0m0s", "h", 1),
		Rank: func(ctx context.Context, instances []online.Instance) ([]prequential.Judgement, error) {
			if r.model == nil {
				return make([]prequential.Judgement, len(instances)), nil // misses
			}
			return prequential.ByScores(r.model.Scores, r.rows)(ctx, instances)
		},
		Learn: r.learn,
	}
}

// learn takes events to the histories. When one comes after the end of a span, what
// came before its batch is trained on first.
func (r *retrained) learn(ctx context.Context, events []online.Event, batch online.Batch, rows int, _ uint64) error {
	now := events[len(events)-1].Time
	if r.due.IsZero() {
		r.due = events[0].Time.Truncate(r.Every).Add(r.Every)
	}
	if !now.Before(r.due) {
		r.due = now.Truncate(r.Every).Add(r.Every)
		if len(r.histories) > 0 {
			if err := r.train(ctx); err != nil {
				return err
			}
		}
	}
	for _, in := range batch.Instances {
		e := events[in.Event]
		u, ok := r.user[e.User]
		if !ok {
			u = len(r.histories)
			r.user[e.User], r.histories = u, append(r.histories, nil)
		}
		r.histories[u] = append(r.histories[u], in.Target)
	}
	r.seen = rows
	return nil
}

// train makes a new model of all events so far. Its order is a function of seed, epoch
// and the events.
func (r *retrained) train(ctx context.Context) (err error) {
	began := time.Now()
	model, err := r.make()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			model.Close()
		}
	}()
	if err := model.Resize(r.seen); err != nil {
		return err
	}
	step := uint64(0)
	for epoch := 1; epoch <= r.Epochs; epoch++ {
		for batch := range slices.Chunk(epochOf(model, r.histories, r.maxLen, r.seed, epoch), retrainBatch) {
			if err := ctx.Err(); err != nil {
				return err
			}
			var numeric *seqrec.NumericError
			if _, err := model.Learn(ctx, batch, step); err != nil && !errors.As(err, &numeric) {
				return fmt.Errorf("training anew, epoch %d: %w", epoch, err)
			}
			step++
		}
	}
	r.close()
	r.model, r.rows = model, r.seen
	r.trainings++
	tell(r.progress, "%s trained anew for the %d. time, %d steps in %.1f s\n", model.Name(), r.trainings, step, time.Since(began).Seconds())
	return nil
}

func (r *retrained) close() {
	if r.model != nil {
		r.model.Close()
	}
}
