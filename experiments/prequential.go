package experiments

import (
	"context"
	"fmt"
	"io"
	"time"

	"seralm/config"
	"seralm/models/online"
	"seralm/models/prequential"
	"seralm/models/seqrec"
	"seralm/producers/dataset"
)

// PrequentialProtocol is the name of the protocol in a result.
const PrequentialProtocol = "prequential"

// PrequentialPoint is one point of the curves.
type PrequentialPoint struct {
	Events int64                          `json:"events"`
	Arms   map[string]prequential.Summary `json:"arms"` // over the sliding window
}

// PrequentialResult is the outcome of a prequential run.
type PrequentialResult struct {
	Provenance
	Counts   prequential.Counts             `json:"counts"`
	Curve    []PrequentialPoint             `json:"curve"`
	All      map[string]prequential.Summary `json:"all"`
	LastHalf map[string]prequential.Summary `json:"last_half"`
	Order    []string                       `json:"order"` // of the arms
}

// Prequential streams a data set through test-then-train: the model, popularity
// and item-transition kNN, in micro-batches of cfg.Trainer.BatchEvents. progress,
// when not nil, gets a line per point of the curve.
func Prequential(ctx context.Context, cfg config.Config, d *dataset.Dataset, model seqrec.Recommender, progress io.Writer) (PrequentialResult, error) {
	p, err := newProvenance(PrequentialProtocol, cfg, d)
	if err != nil {
		return PrequentialResult{}, err
	}
	began := time.Now()
	sequencer := online.NewSequencer(online.SequencerOptions{
		MaxLen: cfg.Recommender.MaxLen, MaxUsers: cfg.Trainer.MaxUsers, DedupWindow: cfg.Trainer.DedupWindow,
		AdmitAfter: cfg.Trainer.AdmitAfter, Replay: cfg.Trainer.Replay, Seed: cfg.Recommender.Seed,
	})
	popularity, transitions := seqrec.NewPopularity(), seqrec.NewTransitions()
	eval := prequential.New(sequencer, cfg.Evaluator.Window,
		prequential.Learning(model.Name(), model, true),
		prequential.Learning(popularity.Name(), popularity, false),
		prequential.Learning(transitions.Name(), transitions, false))
	r := PrequentialResult{Provenance: p, Order: eval.Arms()}

	every := max(1, d.Len()/100)
	next, half := every, d.Len()/2
	var middle []prequential.Mark
	var events []online.Event
	flush := func() error {
		if len(events) == 0 {
			return nil
		}
		err := eval.Observe(ctx, events, true)
		events = events[:0]
		return err
	}
	for i, ev := range d.Interactions(0) {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		if i == half {
			if err := flush(); err != nil {
				return r, err
			}
			for _, t := range eval.Tallies() {
				middle = append(middle, t.Mark())
			}
		}
		events = append(events, online.Event{Key: online.EventKey(ev.Source, ev.ID), User: ev.Body.User, Item: ev.Body.Item, Time: ev.Time})
		if len(events) < cfg.Trainer.BatchEvents && i+1 < d.Len() {
			continue
		}
		if err := flush(); err != nil {
			return r, err
		}
		if i+1 >= next {
			next += every
			point := PrequentialPoint{Events: int64(i + 1), Arms: map[string]prequential.Summary{}}
			for a, name := range r.Order {
				point.Arms[name] = eval.Tallies()[a].Window()
			}
			r.Curve = append(r.Curve, point)
			report(progress, point, r.Order, d.Len(), time.Since(began))
		}
	}
	r.Counts, r.Seconds = eval.Counts(), time.Since(began).Seconds()
	r.All, r.LastHalf = map[string]prequential.Summary{}, map[string]prequential.Summary{}
	for a, name := range r.Order {
		r.All[name] = eval.Tallies()[a].Since(prequential.Mark{})
		r.LastHalf[name] = eval.Tallies()[a].Since(middle[a])
	}
	return r, nil
}

func report(w io.Writer, p PrequentialPoint, order []string, total int, elapsed time.Duration) {
	if w == nil {
		return
	}
	rate := float64(p.Events) / elapsed.Seconds()
	fmt.Fprintf(w, "%8d of %d events, %.0f/s, NDCG@10 of the window:", p.Events, total, rate)
	for _, name := range order {
		fmt.Fprintf(w, "  %s %.4f", name, p.Arms[name].NDCG10)
	}
	fmt.Fprintln(w)
}
