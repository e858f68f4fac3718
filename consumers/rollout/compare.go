package rollout

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"seralm/models/metrics"
	"seralm/models/onnx"
	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/models/vocab"
	"seralm/stream"
)

// Scorer computes scores with the parameters of one snapshot.
type Scorer interface {
	// Score fills out with the logits of all rows after a history of rows, oldest first.
	Score(history []int32, out []float32) error
	Close()
}

// Open makes the scorer of a snapshot.
type Open func(s *snapshot.Snapshot) (Scorer, error)

// ONNX opens a snapshot as it is served.
func ONNX(s *snapshot.Snapshot) (Scorer, error) { return onnx.NewScorer(s) }

const itemTable = "item_embedding.weight"

// comparison is of the served texts with drafts, on one snapshot of the recommender.
type comparison struct {
	model  *snapshot.Snapshot
	items  *vocab.Vocabulary
	drafts map[int32]texts // by the model's rows
}

// texts are the rows that the tower makes of an item's two texts, its id left out.
type texts struct{ served, candidate []float32 }

// unfitError says that a roll-out cannot be judged, whatever happens.
type unfitError struct{ err error }

func (e *unfitError) Error() string { return e.err.Error() }
func (e *unfitError) Unwrap() error { return e.err }

// prepare reads the snapshot and the drafts.
func (g *Gate) prepare(ctx context.Context, st stream.Rollout, blob *stream.Blob) (*comparison, error) {
	s, err := snapshot.Decode(blob.Manifest, blob.Payload)
	if err != nil {
		return nil, &unfitError{err}
	}
	t, err := tower.New(s.Tensors)
	if err != nil {
		return nil, &unfitError{fmt.Errorf("snapshot %d/%d of %s: %w", s.Epoch, s.Step, s.Model, err)}
	}
	if t == nil {
		return nil, &unfitError{fmt.Errorf("snapshot %d/%d of %s reads no knowledge (recommender.knowledge_dim)", s.Epoch, s.Step, s.Model)}
	}
	c := &comparison{model: s, items: vocab.FromIDs(s.IDs), drafts: map[int32]texts{}}
	var bad error
	err = scan(ctx, g.cfg.Kafka, func(body any) {
		if d, ok := body.(stream.Draft); ok && d.Rollout == st.ID && bad == nil {
			bad = c.add(t, d)
		}
	})
	return c, cmp.Or(err, bad)
}

// add takes a draft of an item that the model knows.
func (c *comparison) add(t *tower.Tower, d stream.Draft) error {
	r, ok := c.items.Row(d.Item)
	if !ok {
		return nil
	}
	served, err := t.Row(d.Served.Vector)
	if err != nil {
		return &unfitError{fmt.Errorf("the served text of item %q: %w", d.Item, err)}
	}
	candidate, err := t.Row(d.Candidate.Vector)
	if err != nil {
		return &unfitError{fmt.Errorf("the draft of item %q: %w", d.Item, err)}
	}
	c.drafts[r] = texts{served, candidate}
	return nil
}

// testCase is an instance in the model's rows.
type testCase struct {
	user string
	x    []int32
	y    int32
	cold bool // y has a draft and is not in x: it can be seen as a new item
}

// cases translates instances; those whose item the model does not know are left out.
func (c *comparison) cases(instances []instance) []testCase {
	var out []testCase
	for _, in := range instances {
		y, ok := c.items.Row(in.y)
		if !ok {
			continue
		}
		k := testCase{user: in.user, y: y}
		for _, id := range in.x {
			r, _ := c.items.Row(id) // Unknown where there is none
			k.x = append(k.x, r)
		}
		_, drafted := c.drafts[y]
		k.cold = drafted && !slices.Contains(k.x, y)
		out = append(out, k)
	}
	return out
}

// compare returns what the drafts do to log p of the cases.
func (c *comparison) compare(ctx context.Context, cases []testCase, open Open) (stream.Evidence, error) {
	e := stream.Evidence{
		Recommender: stream.SnapshotVersion{Name: c.model.Model, Epoch: c.model.Epoch, Step: c.model.Step}, Items: len(c.drafts),
	}
	served, err := c.arm(ctx, cases, open, func(t texts) []float32 { return t.served })
	if err != nil {
		return e, fmt.Errorf("with the served texts: %w", err)
	}
	candidate, err := c.arm(ctx, cases, open, func(t texts) []float32 { return t.candidate })
	if err != nil {
		return e, fmt.Errorf("with the drafts: %w", err)
	}
	e.Warm = paired(cases, served.warm, candidate.warm, func(testCase) bool { return true })
	e.Cold = paired(cases, served.cold, candidate.cold, func(k testCase) bool { return k.cold })
	return e, nil
}

// logP are log p of cases; cold is 0 where a case has no cold view.
type logP struct{ warm, cold []float64 }

// arm computes log p with one of the two texts of every item with a draft: in the table,
// where the other items compete, in histories, and as a row of its own for the cold view.
func (c *comparison) arm(ctx context.Context, cases []testCase, open Open, text func(texts) []float32) (logP, error) {
	rows, dim := c.model.Architecture.Rows, c.model.Architecture.Dim
	table := slices.Clone(c.model.Tensors[itemTable].Data)
	for r, t := range c.drafts {
		row := table[int(r)*dim : (int(r)+1)*dim]
		for i, v := range text(t) {
			row[i] += v - t.served[i]
		}
	}
	extra := map[int32]int{} // where the row of an item without its id is
	for _, k := range cases {
		if _, there := extra[k.y]; k.cold && !there {
			extra[k.y] = rows + len(extra)
			table = append(table, text(c.drafts[k.y])...)
		}
	}
	s := *c.model
	s.Tensors = maps.Clone(c.model.Tensors)
	s.Architecture.Rows = rows + len(extra)
	s.Tensors[itemTable] = snapshot.Tensor{Shape: []int64{int64(s.Architecture.Rows), int64(dim)}, Data: table}
	scorer, err := open(&s)
	if err != nil {
		return logP{}, err
	}
	defer scorer.Close()
	out := logP{make([]float64, len(cases)), make([]float64, len(cases))}
	scores := make([]float32, s.Architecture.Rows)
	for i, k := range cases {
		if ctx.Err() != nil {
			return logP{}, ctx.Err()
		}
		if err := scorer.Score(k.x, scores); err != nil {
			return logP{}, err
		}
		known := scores[:rows]
		out.warm[i] = metrics.LogSoftmaxAt(known, k.y)
		if k.cold {
			known[k.y] = scores[extra[k.y]]
			out.cold[i] = metrics.LogSoftmaxAt(known, k.y)
		}
		if sum := out.warm[i] + out.cold[i]; math.IsNaN(sum) || math.IsInf(sum, 0) {
			return logP{}, &unfitError{fmt.Errorf("log p of item %q is not finite", c.items.ID(k.y))}
		}
	}
	return out, nil
}

// resamples of the bootstrap.
const resamples = 2000

// paired compares the same cases in two arms. A user's cases are drawn together.
func paired(cases []testCase, served, candidate []float64, in func(testCase) bool) stream.Comparison {
	var c stream.Comparison
	var s metrics.Sample
	var change []float64
	users := map[string]int{}
	for i, k := range cases {
		if !in(k) {
			continue
		}
		if _, there := users[k.user]; !there {
			users[k.user] = len(users)
		}
		s.Users, change = append(s.Users, users[k.user]), append(change, candidate[i]-served[i])
		c.Served += served[i]
		c.Candidate += candidate[i]
	}
	if c.Events = len(change); c.Events == 0 {
		return c
	}
	c.Users = len(users)
	c.Served /= float64(c.Events)
	c.Candidate /= float64(c.Events)
	s.Values = [][]float64{change}
	interval := metrics.BootstrapUsers([]metrics.Sample{s}, resamples, 1)[0]
	c.Change, c.Low, c.High = interval.Mean, interval.Low, interval.High
	return c
}
