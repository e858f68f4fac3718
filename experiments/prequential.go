package experiments

import (
	"context"
	"fmt"
	"io"
	"slices"
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
	Recommenders []string                       `json:"recommenders"` // those that learn online
	Retrain      Retrain                        `json:"retrain"`
	Delay        int                            `json:"delay"`  // events before one is learnt
	Window       int                            `json:"window"` // events that a point of the curve is the mean of
	Counts       prequential.Counts             `json:"counts"`
	Curve        []PrequentialPoint             `json:"curve"`
	All          map[string]prequential.Summary `json:"all"`
	LastHalf     map[string]prequential.Summary `json:"last_half"`
	Order        []string                       `json:"order"` // of the arms
	// BadSteps of each arm failed numerically and were not taken.
	BadSteps map[string]int64 `json:"bad_steps,omitempty"`
	// Unfinished is one that was interrupted: its curve is all there is of it.
	Unfinished bool `json:"unfinished,omitempty"`
	// Trainings of the arms that are trained anew.
	Trainings map[string]Trainings `json:"trainings,omitempty"`
}

// ReadPrequential reads a result file.
func ReadPrequential(path string) (r PrequentialResult, err error) {
	if err := readJSON(path, &r); err != nil {
		return r, err
	}
	if r.Protocol != PrequentialProtocol {
		return r, fmt.Errorf("%s is a result of the protocol %q; %s is needed", path, r.Protocol, PrequentialProtocol)
	}
	return r, nil
}

// Contest says who takes part in a prequential run, beside popularity and
// item-transition kNN.
type Contest struct {
	Recommenders []string // by architecture; each learns online
	Retrain      Retrain  // of another of each
	Delay        int      // learn what was ranked when so many further events were
	// New makes the recommender of a configuration, untrained.
	New func(config.Recommender) (seqrec.Recommender, error)
}

// Prequential streams a data set through test-then-train, in micro-batches of
// cfg.Trainer.BatchEvents. At each point of the curve progress gets a line and keep
// the result so far, unless they are nil.
func Prequential(ctx context.Context, cfg config.Config, d *dataset.Dataset, c Contest, progress io.Writer, keep func(PrequentialResult) error) (PrequentialResult, error) {
	p, err := newProvenance(PrequentialProtocol, cfg, d)
	if err != nil {
		return PrequentialResult{}, err
	}
	if err := c.Retrain.validate(); err != nil {
		return PrequentialResult{}, err
	}
	if items := d.Summary().Items; cfg.Trainer.MaxItems < items {
		return PrequentialResult{}, fmt.Errorf("trainer.max_items is %d, and data set %s has %d items: here none gives its row to another; set it to so many", cfg.Trainer.MaxItems, d.Name(), items)
	}
	if c.Delay < 0 {
		return PrequentialResult{}, fmt.Errorf("a delay of %d events: it is 0 or more", c.Delay)
	}
	arms, anew, closeArms, err := c.arms(cfg.Recommender, progress)
	if err != nil {
		return PrequentialResult{}, err
	}
	defer closeArms()
	began := time.Now()
	sequencer := online.NewSequencer(online.SequencerOptions{
		MaxLen: cfg.Recommender.MaxLen, MaxUsers: cfg.Trainer.MaxUsers, DedupWindow: cfg.Trainer.DedupWindow,
		AdmitAfter: cfg.Trainer.AdmitAfter, Replay: cfg.Trainer.Replay, Seed: cfg.Recommender.Seed,
	})
	eval := prequential.New(sequencer, cfg.Evaluator.Window, c.Delay, arms...)
	r := PrequentialResult{Provenance: p, Recommenders: c.Recommenders, Retrain: c.Retrain, Delay: c.Delay, Window: cfg.Evaluator.Window, Order: eval.Arms(),
		BadSteps: map[string]int64{}, Trainings: map[string]Trainings{}, Unfinished: true}

	every := max(1, d.Len()/100)
	next, half := every, d.Len()/2
	var middle []prequential.Mark
	var events []online.Event
	soFar := func() {
		r.Counts, r.Seconds = eval.Counts(), time.Since(began).Seconds()
		for a, name := range r.Order {
			if n := eval.BadSteps()[a]; n > 0 {
				r.BadSteps[name] = n
			}
		}
		for _, of := range anew {
			r.Trainings[of.name] = of.Trainings
		}
	}
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
			soFar()
			if keep != nil {
				if err := keep(r); err != nil {
					return r, err
				}
			}
		}
	}
	if eval.Counts().Ranked == 0 {
		return r, fmt.Errorf("data set %s: none of its %d users has a second interaction: there is nothing to rank", d.Name(), d.Summary().Users)
	}
	soFar()
	r.Unfinished = false
	r.All, r.LastHalf = map[string]prequential.Summary{}, map[string]prequential.Summary{}
	for a, name := range r.Order {
		r.All[name] = eval.Tallies()[a].Since(prequential.Mark{})
		r.LastHalf[name] = eval.Tallies()[a].Since(middle[a])
	}
	return r, nil
}

// arms are the recommenders learning online, the same trained anew, and the references;
// closeAll frees what they hold.
func (c Contest) arms(cfg config.Recommender, progress io.Writer) (arms []prequential.Arm, trained []*retrained, closeAll func(), err error) {
	var closes []func()
	closeAll = func() {
		for _, f := range closes {
			f()
		}
	}
	var anew []prequential.Arm
	for i, name := range c.Recommenders {
		if slices.Contains(c.Recommenders[:i], name) {
			err = fmt.Errorf("the recommender %s is named twice", name)
		}
		of := cfg
		of.Architecture = name
		var model seqrec.Recommender
		if err == nil {
			model, err = c.New(of)
		}
		if err != nil {
			closeAll()
			return nil, nil, nil, err
		}
		closes = append(closes, model.Close)
		arms = append(arms, prequential.Learning(name, model, true))
		if c.Retrain.Every > 0 {
			r := &retrained{
				Retrain: c.Retrain, name: c.Retrain.name(name), make: func() (seqrec.Recommender, error) { return c.New(of) },
				maxLen: cfg.MaxLen, seed: cfg.Seed, progress: progress, user: map[string]int{},
			}
			closes = append(closes, r.close)
			trained, anew = append(trained, r), append(anew, r.arm())
		}
	}
	popularity, transitions := seqrec.NewPopularity(), seqrec.NewTransitions()
	return slices.Concat(arms, anew, []prequential.Arm{
		prequential.Learning(popularity.Name(), popularity, false),
		prequential.Learning(transitions.Name(), transitions, false),
	}), trained, closeAll, nil
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
