package experiments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"seralm/config"
	"seralm/models/seqrec"
	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/models/vocab"
	"seralm/producers/dataset"
)

// Arm is a recommender with what it knows and how it learns.
type Arm struct {
	Name        string
	Recommender config.Recommender // its seed, and the length of knowledge vectors, are set here
	Training    Training
	Knowledge   Knowledge
	// Each, where there is one, is what is known with a seed: texts of a model that was
	// aligned with it. Knowledge then is no more than their name.
	Each func(ctx context.Context, seed uint64) (Knowledge, error)
	// New makes the recommender of a configuration, untrained. One that is not
	// seqrec.Checkpointed has no optimiser and learns in one pass.
	New func(config.Recommender) (seqrec.Recommender, error)
}

// Holdout runs an arm once for every seed: leave-one-out, or with hide > 0 cold start,
// where that share of the items is hidden. Every finished seed is in the file at path
// before the next begins; one that is there already, of the same settings and data, is
// not run again. Other arms in the file are kept. progress may be nil.
func Holdout(ctx context.Context, d *dataset.Dataset, a Arm, hide float64, seeds []uint64, path string, progress io.Writer) (*HoldoutResult, error) {
	if hide < 0 || hide >= 1 {
		return nil, fmt.Errorf("a share of %g of the items cannot be hidden: it must be 0 (none) or more, and below 1", hide)
	}
	if err := a.Training.validate(); err != nil {
		return nil, err
	}
	unlock, err := lock(path)
	if err != nil {
		return nil, err
	}
	defer unlock()
	r, err := openHoldout(path, d, hide)
	if err != nil {
		return nil, err
	}
	arm, err := r.arm(a)
	if err != nil {
		return nil, err
	}
	h := read(d)
	for _, seed := range seeds {
		if there := arm.run(seed); there != nil {
			if err := a.sameTexts(ctx, there); err != nil {
				return nil, fmt.Errorf("%s, seed %d: %w", a.Name, seed, err)
			}
			tell(progress, "%s, seed %d: in the file\n", a.Name, seed)
			continue
		}
		s := leaveOneOut(h)
		if hide > 0 {
			if s, err = coldStart(h, hide, seed); err != nil {
				return nil, err
			}
		}
		if len(s.test) == 0 {
			return nil, fmt.Errorf("data set %s: none of its %d users has enough interactions to hold one back", d.Name(), s.counts.Users)
		}
		tell(progress, "%s, seed %d: %d interactions to learn, %d cases\n", a.Name, seed, s.counts.Train, s.counts.Cases)
		one := a
		if a.Each != nil {
			if one.Knowledge, err = a.Each(ctx, seed); err != nil {
				return nil, fmt.Errorf("%s, seed %d: %w", a.Name, seed, err)
			}
		}
		run, err := one.run(ctx, h, s, seed, progress)
		if err != nil {
			return nil, fmt.Errorf("%s, seed %d: %w", a.Name, seed, err)
		}
		if a.Each != nil {
			run.Knowledge = &one.Knowledge.Source
		}
		arm.Runs = append(arm.Runs, run)
		tell(progress, "%s, seed %d: ndcg@10 %.4f, masked %.4f, log p %.4f  (%.0f s)\n", a.Name, seed, run.Test["ndcg@10"], run.Test["masked_ndcg@10"], run.Test[logP], run.Seconds)
		if err := r.save(path); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// sameTexts says that a seed's texts are others than those of its run. Texts that are
// gone are taken for the same.
func (a Arm) sameTexts(ctx context.Context, there *Run) error {
	if a.Each == nil || there.Knowledge == nil {
		return nil
	}
	now, err := a.Each(ctx, there.Seed)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && now.Source.Hash != there.Knowledge.Hash {
		err = fmt.Errorf("the file holds a run with other texts (%s, these are %s): give this arm another name, or name another file", there.Knowledge.Hash, now.Source.Hash)
	}
	return err
}

func tell(w io.Writer, format string, args ...any) {
	if w != nil {
		fmt.Fprintf(w, format, args...)
	}
}

// run learns with one seed and answers the cases.
func (a Arm) run(ctx context.Context, h histories, s split, seed uint64, progress io.Writer) (Run, error) {
	run := Run{Seed: seed, Program: config.Version, Machine: machine(), Began: time.Now().UTC(), Counts: s.counts}
	cfg := a.Recommender
	cfg.Seed = seed
	model, err := a.New(cfg)
	if err != nil {
		return run, err
	}
	defer model.Close()
	if err := model.Resize(s.rows); err != nil {
		return run, err
	}
	learnt, hidden := s.names(h)
	if a.Knowledge.vectors != nil {
		m, ok := model.(interface {
			SetKnowledge(rows []int32, vectors [][]float32) error
		})
		if !ok {
			return run, fmt.Errorf("%s takes no knowledge", model.Name())
		}
		if err := m.SetKnowledge(a.Knowledge.of(learnt, vocab.FirstItem)); err != nil {
			return run, err
		}
	}
	if _, inEpochs := model.(seqrec.Checkpointed); !inEpochs {
		var all []seqrec.Sequence
		for _, items := range s.train {
			all = append(all, seqrec.Sequence{Items: items})
		}
		if _, err := model.Learn(ctx, all, 0); err != nil {
			return run, err
		}
		if err := model.Resize(s.rows + len(s.hidden)); err != nil {
			return run, err
		}
		run.Cases, err = judge(ctx, model, s.test)
	} else {
		run.Cases, err = a.learn(ctx, model, cfg, s, learnt, hidden, &run, progress)
	}
	if err != nil {
		return run, err
	}
	run.Cases.Seen = seen(s)
	run.Test, run.Seconds = run.Cases.Means(), time.Since(run.Began).Seconds()
	return run, nil
}

// learn teaches a model in epochs and answers with the best of them, as it would be
// served: the item table folded, and hidden items as rows made of their vectors alone.
// items are the ids of the rows that are learnt.
func (a Arm) learn(ctx context.Context, model seqrec.Recommender, cfg config.Recommender, s split, items, hidden []string, run *Run, progress io.Writer) (Cases, error) {
	f, err := fit(ctx, model, s, cfg.MaxLen, cfg.LearningRate, a.Training, cfg.Seed, progress)
	if err != nil {
		return Cases{}, err
	}
	run.Targets, run.Curve, run.Best = targets(model), f.curve, f.best
	if err := a.Knowledge.append(f.state, hidden); err != nil {
		return Cases{}, err
	}
	cfg.KnowledgeDim = 0 // what is published is a Base
	served, err := a.New(cfg)
	if err != nil {
		return Cases{}, err
	}
	defer served.Close()
	rows := s.rows + len(hidden)
	if err := served.Restore(f.state, rows); err != nil {
		return Cases{}, err
	}
	cases, err := judge(ctx, served, s.test)
	if err != nil || a.Knowledge.vectors == nil || len(hidden) > 0 {
		return cases, err
	}
	// Each target once more, as a row made of its vector alone.
	stands, targets := map[int32]int32{}, []string{}
	for _, c := range s.test {
		if _, ok := stands[c.target]; !ok {
			stands[c.target] = int32(rows + len(targets))
			targets = append(targets, items[c.target-vocab.FirstItem])
		}
	}
	if err := a.Knowledge.append(f.state, targets); err != nil {
		return cases, err
	}
	if err := served.Restore(f.state, rows+len(targets)); err != nil {
		return cases, err
	}
	cases.Cold, err = judgeCold(ctx, served, s.test, rows, stands)
	return cases, err
}

// seen counts how often each case's target occurs in what is learnt.
func seen(s split) Numbers {
	often := map[int32]float64{}
	for _, items := range s.train {
		for _, r := range items {
			often[r]++
		}
	}
	out := make(Numbers, len(s.test))
	for i, c := range s.test {
		out[i] = often[c.target]
	}
	return out
}

// names returns the ids of the rows that are learnt, and of those that are hidden.
func (s *split) names(h histories) (learnt, hidden []string) {
	gone := map[int32]bool{}
	for _, r := range s.hidden {
		gone[r] = true
		hidden = append(hidden, h.items[r-vocab.FirstItem])
	}
	for i, id := range h.items {
		if !gone[int32(vocab.FirstItem+i)] {
			learnt = append(learnt, id)
		}
	}
	return learnt, hidden
}

// itemTable is the folded item table in a published state.
const itemTable = "item_embedding.weight"

// append adds the rows of items that nothing was learnt of to a published state: what
// the tower makes of their vectors, or the unknown item's row for those without.
func (k Knowledge) append(state map[string]snapshot.Tensor, items []string) error {
	if len(items) == 0 {
		return nil
	}
	table := state[itemTable]
	if len(table.Shape) != 2 {
		return fmt.Errorf("the model has no item table %s to add the rows of hidden items to", itemTable)
	}
	t, err := tower.New(state)
	if err != nil {
		return err
	}
	d := int(table.Shape[1])
	unknown := table.Data[vocab.Unknown*d : (vocab.Unknown+1)*d]
	for _, item := range items {
		row := unknown
		if v, ok := k.vectors[item]; ok && t != nil {
			if row, err = t.Row(v); err != nil {
				return fmt.Errorf("item %q: %w", item, err)
			}
		}
		table.Data = append(table.Data, row...)
	}
	table.Shape = []int64{table.Shape[0] + int64(len(items)), table.Shape[1]}
	state[itemTable] = table
	return nil
}
