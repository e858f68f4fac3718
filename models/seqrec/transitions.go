package seqrec

import (
	"context"
	"fmt"
	"math"
	"slices"

	"seralm/models/snapshot"
	"seralm/models/vocab"
)

// Transitions is item-transition kNN, the sequential form of item-based
// collaborative filtering and the baseline that a sceptic asks for: which items
// followed the user's last few, cosine-normalised.
//
// An item j that comes d places after i (d = 1..window) adds 1/d to n(i, j). For a
// history x the neighbours of its last `window` items i, the newest weighing most,
// make s(j) = sum over i of decay^age n(i, j) / sqrt(n(i) n(j)). The scores are
// log((1-mix) s(j)/sum s + mix p(j)) with p the popularity: a distribution, whose
// ranking is s's with popularity behind it.
type Transitions struct {
	popularity *Popularity
	next       []map[int32]float32 // n(i, j)
	total      []float32           // n(i): how often i was seen
}

// Settings of Transitions. docs/RESULTS.md has no experiment on them.
const (
	transitionWindow = 5
	transitionDecay  = 0.7
	transitionMix    = 0.2
	// neighbours bounds the successors kept for one item; above twice as many the
	// weakest half goes.
	neighbours = 512
)

// NewTransitions returns an empty one.
func NewTransitions() *Transitions {
	t := &Transitions{popularity: NewPopularity()}
	_ = t.Resize(vocab.FirstItem)
	return t
}

// Name implements Recommender.
func (t *Transitions) Name() string { return "transitions" }

// Resize implements Recommender.
func (t *Transitions) Resize(rows int) error {
	if more := rows - len(t.next); more > 0 {
		t.next = append(t.next, make([]map[int32]float32, more)...)
		t.total = append(t.total, make([]float32, more)...)
	}
	return t.popularity.Resize(rows)
}

// Learn implements Recommender.
func (t *Transitions) Learn(ctx context.Context, batch []Sequence, step uint64) (Loss, error) {
	if _, err := t.popularity.Learn(ctx, batch, step); err != nil {
		return Loss{}, fmt.Errorf("transitions: %w", err)
	}
	for _, q := range batch {
		for at := q.From; at < len(q.Items); at++ {
			j := q.Items[at]
			if j < vocab.FirstItem {
				continue
			}
			t.total[j]++
			for d := 1; d <= transitionWindow && d <= at; d++ {
				i := q.Items[at-d]
				if i < vocab.FirstItem || i == j {
					continue
				}
				if t.next[i] == nil {
					t.next[i] = map[int32]float32{}
				}
				t.next[i][j] += 1 / float32(d)
				if len(t.next[i]) > 2*neighbours {
					t.prune(i)
				}
			}
		}
	}
	return Loss{}, nil
}

// prune keeps the strongest successors of i; ties go to the lower row, so that
// the outcome does not depend on the order of a map.
func (t *Transitions) prune(i int32) {
	rows := make([]int32, 0, len(t.next[i]))
	for j := range t.next[i] {
		rows = append(rows, j)
	}
	slices.SortFunc(rows, func(a, b int32) int {
		if x, y := t.next[i][a], t.next[i][b]; x != y {
			if x > y {
				return -1
			}
			return 1
		}
		return int(a - b)
	})
	for _, j := range rows[neighbours:] {
		delete(t.next[i], j)
	}
}

// Scores implements Recommender.
func (t *Transitions) Scores(ctx context.Context, histories [][]int32) ([][]float32, error) {
	popular, err := t.popularity.Scores(ctx, histories)
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(histories))
	s := make([]float64, len(t.next)) // a row of a big catalogue is not allocated for each
	for n, h := range histories {
		out[n] = t.score(h, popular[n], s)
	}
	return out, nil
}

// score returns the scores for one history; s is scratch.
func (t *Transitions) score(history []int32, popular []float32, s []float64) []float32 {
	clear(s)
	weight, sum := 1.0, 0.0
	for age := 0; age < transitionWindow && age < len(history); age++ {
		i := history[len(history)-1-age]
		if i >= vocab.FirstItem && int(i) < len(t.next) {
			// s[j] takes one addition per age, so the order of the map does not matter.
			for j, n := range t.next[i] {
				s[j] += weight * float64(n) / math.Sqrt(float64(t.total[i])*float64(t.total[j]))
			}
		}
		weight *= transitionDecay
	}
	for _, v := range s {
		sum += v
	}
	out := make([]float32, len(s))
	copy(out, popular)
	if sum == 0 {
		return out
	}
	floor := math.Log(transitionMix)
	for j := vocab.FirstItem; j < len(s); j++ {
		if s[j] == 0 {
			out[j] += float32(floor)
		} else {
			out[j] = float32(math.Log((1-transitionMix)*s[j]/sum + transitionMix*math.Exp(float64(popular[j]))))
		}
	}
	return out
}

// State implements Recommender: the transitions as three parallel lists.
func (t *Transitions) State() (map[string]snapshot.Tensor, error) {
	state, err := t.popularity.State()
	if err != nil {
		return nil, err
	}
	var from, to, count []float32 // rows below 2^24 are exact
	for i, next := range t.next {
		rows := make([]int32, 0, len(next))
		for j := range next {
			rows = append(rows, j)
		}
		slices.Sort(rows)
		for _, j := range rows {
			from, to, count = append(from, float32(i)), append(to, float32(j)), append(count, next[j])
		}
	}
	list := func(v []float32) snapshot.Tensor { return snapshot.Tensor{Shape: []int64{int64(len(v))}, Data: v} }
	state["from"], state["to"], state["count"] = list(from), list(to), list(count)
	state["total"] = list(slices.Clone(t.total))
	return state, nil
}

// Restore implements Recommender.
func (t *Transitions) Restore(state map[string]snapshot.Tensor, rows int) error {
	fresh := NewTransitions()
	if err := fresh.popularity.Restore(state, rows); err != nil {
		return fmt.Errorf("transitions: %w", err)
	}
	_ = fresh.Resize(rows)
	from, to, count := state["from"].Data, state["to"].Data, state["count"].Data
	if len(to) != len(from) || len(count) != len(from) || len(state["total"].Data) != rows {
		return fmt.Errorf("transitions: the state's lists do not belong together")
	}
	copy(fresh.total, state["total"].Data)
	for k := range from {
		i, j := int(from[k]), int(to[k])
		if i < vocab.FirstItem || j < vocab.FirstItem || i >= rows || j >= rows {
			return fmt.Errorf("transitions: the state has a transition %d -> %d among %d rows", i, j, rows)
		}
		if fresh.next[i] == nil {
			fresh.next[i] = map[int32]float32{}
		}
		fresh.next[i][int32(j)] = count[k]
	}
	*t = *fresh
	return nil
}

// Close implements Recommender.
func (t *Transitions) Close() {}
