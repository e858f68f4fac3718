package experiments

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/seqrec"

	"seralm/producers/dataset"
)

// Rows are numbered by first appearance: a 2, b 3, c 4, ...
func TestTheLastIsTestedAndTheSecondLastValidates(t *testing.T) {
	s := leaveOneOut(read(open(t, taken("abcd", "ab", "a", "bca"), nil)))
	require.Equal(t, [][]int32{{2, 3}, {2, 3}, {2}, {3}}, s.train)
	require.Equal(t, []testCase{{0, []int32{2, 3}, 4}, {3, []int32{3}, 4}}, s.validation)
	require.Equal(t, []testCase{{0, []int32{2, 3, 4}, 5}, {3, []int32{3, 4}, 2}}, s.test)
	require.Equal(t, Counts{Users: 4, TooFew: 2, Train: 6, Cases: 2}, s.counts)
	require.Equal(t, 6, s.rows)
}

func TestTiesInTimeAreInTheOrderOfTheFile(t *testing.T) {
	s := leaveOneOut(read(open(t, "user_id,item_id,timestamp\nu,a,5\nv,b,5\nu,c,5\nu,b,5\nu,d,5\n", nil)))
	require.Equal(t, []testCase{{0, []int32{2, 4, 3}, 5}}, s.test)
}

// crowd is a data set of chance.
func crowd(t *testing.T, users, events int) *dataset.Dataset {
	r := rand.New(rand.NewPCG(1, 1))
	var b strings.Builder
	b.WriteString("user_id,item_id,timestamp\n")
	for i := range events {
		fmt.Fprintf(&b, "u%d,i%d,%d\n", r.IntN(users), r.IntN(40), i)
	}
	return open(t, b.String(), nil)
}

func TestNothingOfAHiddenItemIsLearnt(t *testing.T) {
	h := read(crowd(t, 30, 900))
	s, err := coldStart(h, 0.25, 1)
	require.NoError(t, err)
	require.Equal(t, 10, s.counts.Hidden)
	require.Equal(t, h.rows()-10, s.rows)
	shown := func(rows []int32) {
		for _, r := range rows {
			require.Less(t, int(r), s.rows)
		}
	}
	for _, items := range s.train {
		shown(items)
	}
	for _, c := range s.validation {
		shown(append(c.history, c.target))
	}
	learnt, hidden := s.names(h)
	id := func(row int32) string { return slices.Concat(learnt, hidden)[row-2] }
	// Each case is an interaction of the stream, its history what came before it.
	next := 0
	for u, items := range h.users {
		var before []string
		for _, r := range items {
			name := h.items[r-2]
			if !slices.Contains(hidden, name) {
				before = append(before, name)
				continue
			}
			if len(before) == 0 {
				continue
			}
			c := s.test[next]
			next++
			require.Equal(t, int32(u), c.user)
			require.Equal(t, name, id(c.target))
			var history []string
			for _, row := range c.history {
				history = append(history, id(row))
			}
			require.Equal(t, before, history)
		}
	}
	require.Len(t, s.test, next)
	again, err := coldStart(h, 0.25, 1)
	require.NoError(t, err)
	require.Equal(t, s, again)
	other, err := coldStart(h, 0.25, 2)
	require.NoError(t, err)
	require.NotEqual(t, s.hidden, other.hidden)
}

func TestColdStartAsksNoMoreThanItSays(t *testing.T) {
	s, err := coldStart(read(crowd(t, 10, 50_000)), 0.5, 1)
	require.NoError(t, err)
	require.Len(t, s.test, maxCases)
	require.InDelta(t, 5000, s.counts.Unasked, 500)
	require.True(t, slices.IsSortedFunc(s.test, func(a, b testCase) int { return int(a.user - b.user) }))
	_, err = coldStart(read(open(t, taken("abc"), nil)), 0.5, 1)
	require.ErrorContains(t, err, "hides none")
}

func TestEveryPositionIsPredictedOnceAnEpoch(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 40 {
		items := make([]int32, n)
		for i := range items {
			items[i] = int32(i + 2)
		}
		predicted := make([]int, n)
		for _, w := range windows([][]int32{items}, 7, r) {
			require.LessOrEqual(t, len(w.Items)-w.From, 7)
			require.Equal(t, min(7, int(w.Items[w.From])-2), w.From, "items before the first target")
			for _, row := range w.Items[w.From:] {
				predicted[row-2]++
			}
		}
		for i, k := range predicted {
			require.Equal(t, min(i, 1), k, "position %d of %d", i, n)
		}
	}
	// Where they are cut differs from epoch to epoch.
	long := slices.Repeat([][]int32{make([]int32, 100)}, 20)
	first := windows(long, 7, r)
	require.NotEqual(t, first, windows(long, 7, r))
}

// An architecture that learns one target of a piece learns each position as often as any
// other, of short sequences and of long ones, at their ends and in between.
func TestEveryPositionIsSampledAsOftenAsAnyOther(t *testing.T) {
	const maxLen, epochs = 7, 6000
	var sequences [][]int32
	next := int32(2)
	for _, n := range []int{0, 1, 2, 3, 7, 8, 9, 30} {
		items := make([]int32, n)
		for i := range items {
			items[i] = next
			next++
		}
		sequences = append(sequences, items)
	}
	counts, drawn := map[int32]int{}, 0
	for epoch := range epochs {
		pieces := epochOf(oneTarget{}, sequences, maxLen, 1, epoch)
		require.Len(t, pieces, len(windows(sequences, maxLen, rand.New(rand.NewPCG(1, uint64(epoch))))))
		met := map[int32]bool{}
		for _, p := range pieces {
			target := p.Items[len(p.Items)-1]
			require.Equal(t, len(p.Items)-1, p.From, "one target")
			require.False(t, met[target])
			met[target] = true
			counts[target]++
			drawn++
			// Before it is what the user took before it.
			for _, items := range sequences {
				if at := slices.Index(items, target); at >= 0 {
					require.Equal(t, items[max(0, at-maxLen):at], p.Items[:p.From])
				}
			}
		}
	}
	positions := 0
	for _, items := range sequences {
		positions += max(0, len(items)-1)
	}
	require.Len(t, counts, positions)
	want := float64(drawn) / float64(positions)
	for target, n := range counts {
		require.InDelta(t, want, n, 5*math.Sqrt(want), "item %d", target)
	}
}

// oneTarget is of an architecture that is not causal.
type oneTarget struct{ seqrec.Recommender }

func (oneTarget) Causal() bool { return false }
