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
	"seralm/models/vocab"
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

// name of the arm of a recommender.
func (r Retrain) name(of string) string {
	return of + " every " + strings.Replace(r.Every.String(), "h0m0s", "h", 1)
}

// Trainings are what the trainings of an arm were.
type Trainings struct {
	Times    int     `json:"times"`
	Steps    int     `json:"steps"` // of the last one
	BadSteps int     `json:"bad_steps"`
	Loss     float64 `json:"loss"` // of the last one's last epoch, mean -log p(y|x) per target while learning
}

// retrained is an arm that ranks with what it was at its last training, and histories
// as they are. Before the first training it knows no item.
type retrained struct {
	Retrain
	Trainings
	name     string
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
}

// arm returns the arm. Items that came after a training are to its model as if they had
// not been taken: nothing has taught it what an unknown item is.
func (r *retrained) arm() prequential.Arm {
	return prequential.Arm{
		Name: r.name,
		Rank: func(ctx context.Context, instances []online.Instance) ([]prequential.Judgement, error) {
			if r.model == nil {
				return make([]prequential.Judgement, len(instances)), nil // misses
			}
			known := slices.Clone(instances)
			for i, in := range known {
				h := slices.DeleteFunc(slices.Clone(in.History), func(row int32) bool { return int(row) >= r.rows })
				if len(h) == 0 {
					h = []int32{vocab.Unknown}
				}
				known[i].History = h
			}
			return prequential.ByScores(r.model.Scores, r.rows)(ctx, known)
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
	t := Trainings{Times: r.Times + 1, BadSteps: r.BadSteps}
	bad := 0
	for epoch := 1; epoch <= r.Epochs; epoch++ {
		loss, targets := 0.0, 0
		for batch := range slices.Chunk(epochOf(model, r.histories, r.maxLen, r.seed, epoch), retrainBatch) {
			if err := ctx.Err(); err != nil {
				return err
			}
			l, err := model.Learn(ctx, batch, uint64(t.Steps))
			t.Steps++
			var numeric *seqrec.NumericError
			switch {
			case errors.As(err, &numeric):
				bad++
			case err != nil:
				return fmt.Errorf("training anew, epoch %d: %w", epoch, err)
			}
			loss, targets = loss+l.NLL*float64(l.Targets), targets+l.Targets
		}
		t.Loss = loss / float64(max(1, targets))
	}
	if bad == t.Steps && bad > 0 {
		return fmt.Errorf("training anew for the %d. time: none of its %d steps was finite: lower the learning rate", t.Times, t.Steps)
	}
	t.BadSteps += bad
	r.close()
	r.model, r.rows, r.Trainings = model, r.seen, t
	tell(r.progress, "%s trained anew for the %d. time, %d steps to a loss of %.3f in %.1f s\n", model.Name(), t.Times, t.Steps, t.Loss, time.Since(began).Seconds())
	return nil
}

func (r *retrained) close() {
	if r.model != nil {
		r.model.Close()
	}
}
