package seqrec

import (
	"fmt"
	"math/rand/v2"
	"sort"

	"seralm/models/tensor"
	"seralm/models/vocab"
)

// group is histories of similar length, padded behind to the same.
type group struct {
	ids         []int64 // [rows, width]
	rows, width int
	at          []int64 // flat positions whose hidden states are wanted
}

func newGroup(rows, width int) *group {
	return &group{rows: rows, width: width, ids: make([]int64, rows*width)}
}

// put writes a history into row i.
func (g *group) put(i int, history []int32) {
	for t, r := range history {
		g.ids[i*g.width+t] = int64(r)
	}
}

// want asks for the hidden state of row i's position t.
func (g *group) want(i, t int) { g.at = append(g.at, int64(i*g.width+t)) }

// present is 1 where an item is and 0 where padding is, [rows, width].
func (g *group) present(s *tensor.Scope) *tensor.Tensor {
	is := make([]float32, len(g.ids))
	for i, r := range g.ids {
		if r != vocab.Padding {
			is[i] = 1
		}
	}
	return s.F32(is, int64(g.rows), int64(g.width))
}

// prepare arranges a batch in groups and lists its targets, in the order of the groups'
// positions, counted from vocab.FirstItem.
func (m *Model) prepare(batch []Sequence, step uint64) (groups []*group, targets []int64, err error) {
	for _, q := range batch {
		for _, r := range q.Items {
			if r < vocab.Unknown || int(r) >= m.rows {
				return nil, nil, fmt.Errorf("item row %d is not among the %d rows", r, m.rows)
			}
		}
	}
	if m.encoder.causal() {
		groups, targets = allTargets(batch, m.hyper.MaxLen)
	} else {
		groups, targets = oneTargetEach(batch, m.hyper.MaxLen, mix(m.opts.Seed, step))
	}
	return groups, targets, nil
}

// isTarget says whether position t of a sequence is one. Nobody recommends the unknown
// item.
func (q Sequence) isTarget(t int) bool { return t >= max(q.From, 1) && q.Items[t] >= vocab.FirstItem }

// maxWaste is the share of padding that a group of a causal architecture may hold.
const maxWaste = 0.25

// allTargets sorts the sequences by length into groups and takes all their targets.
func allTargets(batch []Sequence, maxLen int) (groups []*group, targets []int64) {
	var use []Sequence
	for _, q := range batch {
		if cut := len(q.Items) - (maxLen + 1); cut > 0 {
			q = Sequence{Items: q.Items[cut:], From: max(0, q.From-cut)}
		}
		if len(q.Items) >= 2 && q.From < len(q.Items) {
			use = append(use, q)
		}
	}
	sort.SliceStable(use, func(i, j int) bool { return len(use[i].Items) < len(use[j].Items) })
	for end := len(use); end > 0; {
		width := len(use[end-1].Items) - 1
		begin, filled := end, 0
		for begin > 0 {
			n := len(use[begin-1].Items) - 1
			if float64(filled+n) < (1-maxWaste)*float64(width*(end-begin+1)) {
				break
			}
			filled += n
			begin--
		}
		g := newGroup(end-begin, width)
		for i, q := range use[begin:end] {
			g.put(i, q.Items[:len(q.Items)-1])
			for t := range q.Items {
				if q.isTarget(t) {
					g.want(i, t-1)
					targets = append(targets, int64(q.Items[t])-vocab.FirstItem)
				}
			}
		}
		if len(g.at) > 0 {
			groups = append(groups, g)
		}
		end = begin
	}
	return groups, targets
}

// oneTargetEach draws one of each sequence's targets, uniformly: whose sequences have a
// target each decides what is learnt how often. Which one is a function of the seed and
// of the sequence's place in the batch.
func oneTargetEach(batch []Sequence, maxLen int, seed uint64) ([]*group, []int64) {
	var histories [][]int32
	var targets []int64
	for i, q := range batch {
		var at []int
		for t := range q.Items {
			if q.isTarget(t) {
				at = append(at, t)
			}
		}
		if len(at) == 0 {
			continue
		}
		t := at[rand.New(rand.NewPCG(seed, uint64(i))).IntN(len(at))]
		histories = append(histories, q.Items[max(0, t-maxLen):t])
		targets = append(targets, int64(q.Items[t])-vocab.FirstItem)
	}
	if len(targets) == 0 {
		return nil, nil
	}
	return []*group{groupOf(histories, maxLen)}, targets
}

// groupOf are histories of at most width items whose last states are wanted.
func groupOf(histories [][]int32, width int) *group {
	g := newGroup(len(histories), width)
	for i, h := range histories {
		g.put(i, h)
		g.want(i, len(h)-1)
	}
	return g
}
