package experiments

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"seralm/models/vocab"
	"seralm/producers/dataset"
)

// histories are a data set as leave-one-out sees it: what each user took.
type histories struct {
	users [][]int32 // rows, oldest first; users in the order of their first interaction
	items []string  // ids of rows vocab.FirstItem on, in that order too
}

// read takes the exact order of the stream: within a user, ties in time are as the
// data set has them.
func read(d *dataset.Dataset) histories {
	v := vocab.New(1)
	place := make([]int32, d.Users()) // of a user in h.users, from 1
	var h histories
	for i, ev := range d.Interactions(0) {
		u := d.User(i)
		if place[u] == 0 {
			h.users = append(h.users, nil)
			place[u] = int32(len(h.users))
		}
		row, _ := v.Observe(ev.Body.Item)
		h.users[place[u]-1] = append(h.users[place[u]-1], row)
	}
	h.items = v.IDs()
	return h
}

// rows is one more than the largest row.
func (h histories) rows() int { return vocab.FirstItem + len(h.items) }

// testCase is one thing to predict.
type testCase struct {
	user    int32
	history []int32 // all of it, oldest first
	target  int32
}

// split is what is learnt and what is asked.
type split struct {
	rows       int       // item rows [0, rows) are learnt
	train      [][]int32 // one sequence per user
	validation []testCase
	test       []testCase
	// hidden rows [rows, rows + len(hidden)) are those that nothing was learnt of: they
	// stand for these rows of the histories. Cold start only.
	hidden []int32
	counts Counts
}

// Counts says what a split made of the interactions.
type Counts struct {
	Users  int `json:"users"`   // with anything to learn, validate or test
	TooFew int `json:"too_few"` // users of too few interactions to hold any back: learnt, not tested
	Train  int `json:"train"`   // interactions learnt, the first of each user included
	Cases  int `json:"cases"`   // tested
	// Cold start only.
	Hidden   int `json:"hidden,omitempty"`    // items
	NoBefore int `json:"no_before,omitempty"` // interactions with hidden items before the user's first other item: nothing to go by
	Unasked  int `json:"unasked,omitempty"`   // cases left out, drawn by seed, so that not more than maxCases are asked
}

// leaveOneOut holds each user's last interaction back as the test, the second last
// as the validation. The test's history includes the validation item.
func leaveOneOut(h histories) split {
	s := split{rows: h.rows()}
	for u, items := range h.users {
		n := len(items)
		s.counts.Users++
		if n < 3 {
			s.counts.TooFew++
			s.learn(items)
			continue
		}
		s.learn(items[:n-2])
		s.validation = append(s.validation, testCase{int32(u), items[: n-2 : n-2], items[n-2]})
		s.test = append(s.test, testCase{int32(u), items[: n-1 : n-1], items[n-1]})
	}
	s.counts.Cases = len(s.test)
	return s
}

func (s *split) learn(items []int32) {
	s.train = append(s.train, items)
	s.counts.Train += len(items)
}

const (
	// minHidden is how often an item must occur for it to be hidden.
	minHidden = 5
	// maxCases bounds what one seed asks for, and with it the result files.
	maxCases = 20_000
)

// coldStart hides a share of the items, drawn by seed: all their interactions are
// taken out, and asked for one by one, given what the user took before. Of the rest
// each user's last is the validation.
func coldStart(h histories, share float64, seed uint64) (split, error) {
	often := make([]int, h.rows())
	for _, items := range h.users {
		for _, r := range items {
			often[r]++
		}
	}
	var candidates []int32
	for r, n := range often {
		if n >= minHidden {
			candidates = append(candidates, int32(r))
		}
	}
	n := int(math.Round(share * float64(len(candidates))))
	if n == 0 {
		return split{}, fmt.Errorf("hiding %g of the %d items that occur %d times or more hides none: hide a larger share", share, len(candidates), minHidden)
	}
	r := rand.New(rand.NewPCG(seed, 0xc01d))
	r.Shuffle(len(candidates), func(i, j int) { candidates[i], candidates[j] = candidates[j], candidates[i] })
	s := split{hidden: candidates[:n]}
	slices.Sort(s.hidden)

	// The rows that are learnt come first, as if the others were not there.
	renumbered := make([]int32, h.rows())
	for _, r := range s.hidden {
		renumbered[r] = -1
	}
	for r := range renumbered {
		if renumbered[r] == 0 {
			renumbered[r] = int32(s.rows)
			s.rows++
		}
	}
	for i, r := range s.hidden {
		renumbered[r] = int32(s.rows + i)
	}
	for u, items := range h.users {
		seen := make([]int32, 0, len(items))
		for _, r := range items {
			switch row := renumbered[r]; {
			case int(row) < s.rows:
				seen = append(seen, row)
			case len(seen) == 0:
				s.counts.NoBefore++
			default:
				s.test = append(s.test, testCase{int32(u), seen[:len(seen):len(seen)], row})
			}
		}
		if len(seen) == 0 {
			continue
		}
		s.counts.Users++
		last := len(seen) - 1
		if last < 1 {
			s.counts.TooFew++
			s.learn(seen)
			continue
		}
		s.learn(seen[:last])
		s.validation = append(s.validation, testCase{int32(u), seen[:last:last], seen[last]})
	}
	s.counts.Unasked = max(0, len(s.test)-maxCases)
	s.test = sample(s.test, maxCases, r)
	s.counts.Hidden, s.counts.Cases = len(s.hidden), len(s.test)
	return s, nil
}

// sample draws at most n cases, which keep their order.
func sample(cases []testCase, n int, r *rand.Rand) []testCase {
	if len(cases) <= n {
		return cases
	}
	chosen := r.Perm(len(cases))[:n]
	slices.Sort(chosen)
	out := make([]testCase, n)
	for i, c := range chosen {
		out[i] = cases[c]
	}
	return out
}
