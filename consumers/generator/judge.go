package generator

import (
	"context"
	"fmt"
	"math"
	"slices"

	"seralm/models/align"
	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/models/vocab"
	"seralm/stream"
)

// judge says what texts are worth to one snapshot of the recommender. Its item table is
// plain data; only user vectors need the model.
type judge struct {
	version   stream.SnapshotVersion
	items     *vocab.Vocabulary
	table     []float32 // [rows, dim], what is known of items folded in
	rows, dim int
	maxLen    int          // of a history that the model sees
	rho       float64      // what the score of an item gains for being in the history
	tower     *tower.Tower // nil for a Base
	users     Users
	own       []int32 // the sampler's rows -> the snapshot's, as far as asked for
}

// Tensors of a snapshot.
const (
	itemTable   = "item_embedding.weight"
	historyBias = "history_bias" // [1]; of a model that has learnt one
)

// newJudge opens a snapshot; extra is how many texts of an item are judged at a time.
func newJudge(s *snapshot.Snapshot, extra int, open Open) (*judge, error) {
	j := &judge{
		version: stream.SnapshotVersion{Name: s.Model, Epoch: s.Epoch, Step: s.Step},
		items:   vocab.FromIDs(s.IDs), rows: s.Architecture.Rows, dim: s.Architecture.Dim, maxLen: s.Architecture.MaxLen,
	}
	table := s.Tensors[itemTable]
	if want := []int64{int64(j.rows), int64(j.dim)}; !slices.Equal(table.Shape, want) {
		return nil, fmt.Errorf("snapshot %d/%d of %s: item table is %v, the architecture says %v", s.Epoch, s.Step, s.Model, table.Shape, want)
	}
	j.table = table.Data
	if bias, ok := s.Tensors[historyBias]; ok {
		if !slices.Equal(bias.Shape, []int64{1}) {
			return nil, fmt.Errorf("snapshot %d/%d of %s: %s is %v, it has one number", s.Epoch, s.Step, s.Model, historyBias, bias.Shape)
		}
		j.rho = float64(bias.Data[0])
	}
	var err error
	if j.tower, err = tower.New(s.Tensors); err == nil {
		j.users, err = open(s, extra)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot %d/%d of %s: %w", s.Epoch, s.Step, s.Model, err)
	}
	return j, nil
}

// row is an item's row of the table.
func (j *judge) row(r int32) []float32 { return j.table[int(r)*j.dim : (int(r)+1)*j.dim] }

// theirs translates a row of the sampler's vocabulary.
func (j *judge) theirs(r int32, own *vocab.Vocabulary) int32 {
	for next := int32(len(j.own)); next <= r; next++ {
		row, _ := j.items.Row(own.ID(next)) // Unknown where there is none
		j.own = append(j.own, row)
	}
	return j.own[r]
}

// see translates an instance; false where the model cannot predict its y.
func (j *judge) see(in Instance, own *vocab.Vocabulary) (x []int32, y int32, ok bool) {
	if y = j.theirs(in.y, own); y < vocab.FirstItem {
		return nil, 0, false
	}
	x = make([]int32, len(in.x))
	for i, r := range in.x {
		x[i] = j.theirs(r, own)
	}
	return x, y, true
}

func dot(a, b []float32) (sum float64) {
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}

// scored is a history as the model scores items after it: the score of item i is
// u.e_i + rho [i in x], of the newest items of x that it sees.
type scored struct {
	x    []int32
	user []float32 // u
}

// biased are the items of a history, perhaps twice, whose scores have rho in them.
func (j *judge) biased(h scored) []int32 {
	if j.rho == 0 {
		return nil
	}
	return h.x[max(0, len(h.x)-j.maxLen):]
}

// score is that of an item with the row.
func (j *judge) score(h scored, r int32, row []float32) float64 {
	z := dot(h.user, row)
	if slices.Contains(j.biased(h), r) {
		z += j.rho
	}
	return z
}

// logZ is the logarithm of the sum of exp(score) over all items, with the row of one of
// them (0: of none) replaced.
func (j *judge) logZ(h scored, item int32, by []float32) float64 {
	logits := make([]float64, 0, j.rows)
	for r := int32(vocab.FirstItem); int(r) < j.rows; r++ {
		row := j.row(r)
		if r == item {
			row = by
		}
		logits = append(logits, dot(h.user, row))
	}
	biased := j.biased(h)
	for i, r := range biased {
		if r >= vocab.FirstItem && !slices.Contains(biased[:i], r) {
			logits[r-vocab.FirstItem] += j.rho
		}
	}
	top, sum := slices.Max(logits), 0.0
	for _, z := range logits {
		sum += math.Exp(z - top)
	}
	return top + math.Log(sum)
}

// logP is log p(y|x) of a history, with the row of an item replaced.
func (j *judge) logP(h scored, y, item int32, by []float32) float64 {
	row := j.row(y)
	if y == item {
		row = by
	}
	return j.score(h, y, row) - j.logZ(h, item, by)
}

// cold returns the row that each vector makes of an item of which nothing else is known.
func (j *judge) cold(vectors [][]float32) ([][]float32, error) {
	rows := make([][]float32, len(vectors))
	for i, v := range vectors {
		var err error
		if rows[i], err = j.tower.Row(v); err != nil {
			return nil, &unjudged{"row", err}
		}
	}
	return rows, nil
}

// unjudged says that texts cannot be judged, which is their fault or the snapshot's: it
// is counted, and the next instance taken.
type unjudged struct {
	reason string // a constant, short word
	err    error
}

func (e *unjudged) Error() string { return e.err.Error() }
func (e *unjudged) Unwrap() error { return e.err }

// given returns the user vector of a history for each of an item's rows in turn.
func (j *judge) given(ctx context.Context, histories [][]int32, item int32, rows [][]float32) ([][][]float32, error) {
	var all [][]int32
	for i := range rows {
		for _, x := range histories {
			changed := slices.Clone(x)
			for t, r := range x {
				if r == item {
					changed[t] = int32(j.rows + i)
				}
			}
			all = append(all, changed)
		}
	}
	users, err := j.users.Users(ctx, all, rows)
	if err != nil {
		return nil, fmt.Errorf("computing user vectors: %w", err)
	}
	return slices.Collect(slices.Chunk(users, len(histories))), nil
}

// instance returns p(y|x,s) for each row that a text makes of the item.
func (j *judge) instance(ctx context.Context, x []int32, y, item int32, rows [][]float32) ([]float64, error) {
	users, err := j.given(ctx, [][]int32{x}, item, rows)
	if err != nil {
		return nil, err
	}
	p := make([]float64, len(rows))
	for i, row := range rows {
		p[i] = min(1, math.Exp(j.logP(scored{x, users[i][0]}, y, item, row)))
	}
	return p, nil
}

// plain is p(y|x) of an instance as the snapshot has it; 0 where it knows no y.
func (j *judge) plain(ctx context.Context, in Instance, own *vocab.Vocabulary) (float64, error) {
	x, y, ok := j.see(in, own)
	if !ok {
		return 0, nil
	}
	users, err := j.users.Users(ctx, [][]int32{x}, nil)
	if err != nil {
		return 0, fmt.Errorf("computing user vectors: %w", err)
	}
	return min(1, math.Exp(j.logP(scored{x, users[0]}, y, vocab.Padding, nil))), nil
}

// reencoded is how many instances with the item in their history are encoded anew for a
// catalogue reward: a sample, for each of them costs a forward pass a text.
const reencoded = 128

// catalogue returns what each row does to the sum of log p(y|x) over the recent
// instances.
func (j *judge) catalogue(ctx context.Context, recent *recent, own *vocab.Vocabulary, item int32, rows [][]float32) ([]float64, error) {
	known, err := recent.encode(ctx, j, own)
	if err != nil {
		return nil, err
	}
	reservoir := align.NewReservoir(j.dim, max(1, len(known)))
	var with []int // the instances that have the item in their history
	for i, k := range known {
		if slices.Contains(k.x, item) {
			with = append(with, i)
		}
		if _, err := reservoir.Add(k.user, k.y, k.logZ); err != nil {
			return nil, &unjudged{"reservoir", err}
		}
	}
	texts := make([]align.Rows, len(rows))
	for i, row := range rows {
		texts[i].Cold = row
	}
	rewards, err := reservoir.Rewards(item, j.row(item), texts, align.Cold, with)
	if err != nil {
		return nil, &unjudged{"reservoir", err}
	}
	n := min(len(with), reencoded)
	if n == 0 {
		return rewards, nil
	}
	histories, before := make([][]int32, n), make([]float64, n)
	at := func(i int) encoded { return known[with[i*len(with)/n]] }
	for i := range n {
		k := at(i)
		histories[i], before[i] = k.x, j.score(k.scored, k.y, j.row(k.y))-k.logZ
	}
	users, err := j.given(ctx, histories, item, rows)
	if err != nil {
		return nil, err
	}
	for c, row := range rows {
		after := make([]float64, n)
		for i := range n {
			after[i] = j.logP(scored{at(i).x, users[c][i]}, at(i).y, item, row)
		}
		change, err := align.Reencoded(before, after, len(with))
		if err != nil {
			return nil, &unjudged{"reservoir", err}
		}
		rewards[c] += change
	}
	return rewards, nil
}

// chance is how many of the instances would, on average, have texts be about the item:
// the odds of Sampler.Choose where all items can be written about.
func chance(known []encoded, item int32) (n float64) {
	for _, k := range known {
		x := map[int32]bool{}
		if slices.Contains(k.x, item) {
			for _, r := range k.x {
				if r != k.y && r >= vocab.FirstItem {
					x[r] = true
				}
			}
		}
		switch {
		case k.y == item:
			if n += 0.5; !slices.ContainsFunc(k.x, func(r int32) bool { return r != k.y && r >= vocab.FirstItem }) {
				n += 0.5 // there is no other
			}
		case x[item]:
			n += 0.5 / float64(len(x))
		}
	}
	return n
}

func (j *judge) close() {
	if j != nil {
		j.users.Close()
	}
}
