package online

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/seqrec"
	"seralm/models/vocab"
)

func options() SequencerOptions {
	return SequencerOptions{MaxLen: 4, MaxUsers: 100, DedupWindow: 1000, AdmitAfter: 1, Seed: 7}
}

// all learns all targets of a sequence, one one of them.
var all, one seqrec.Recommender = seqrec.NewPopularity(), oneTarget{seqrec.NewPopularity()}

type oneTarget struct{ seqrec.Recommender }

func (oneTarget) Causal() bool { return false }

func event(user, item string, n int) Event {
	return Event{Key: EventKey("test", fmt.Sprint(n)), User: user, Item: item}
}

func TestAFirstEventIsNewAndHasNoContext(t *testing.T) {
	s := NewSequencer(options())
	b := s.Next([]Event{event("ann", "a", 1)}, 0)
	require.Equal(t, []seqrec.Sequence{{Items: []int32{2}, From: 0}}, b.New)
	require.Equal(t, []Instance{{Event: 0, History: []int32{}, Target: vocab.FirstItem}}, b.Instances)
}

func TestNewPositionsOfAUserShareOneRow(t *testing.T) {
	s := NewSequencer(options())
	s.Next([]Event{event("ann", "a", 1), event("ann", "b", 2)}, 0)
	b := s.Next([]Event{event("ann", "c", 3), event("bob", "a", 4), event("ann", "d", 5)}, 1)
	require.Equal(t, []seqrec.Sequence{{Items: []int32{2, 3, 4, 5}, From: 2}, {Items: []int32{2}, From: 0}}, b.New)
	require.Equal(t, []int32{2, 3}, b.Instances[0].History)
	require.Equal(t, []int32{}, b.Instances[1].History)
	require.Equal(t, []int32{2, 3, 4}, b.Instances[2].History)
	require.Equal(t, []int32{2, 3, 4, 5}, s.History("ann"))
}

func TestARepeatedEventTeachesOnce(t *testing.T) {
	s := NewSequencer(options())
	s.Next([]Event{event("ann", "a", 1), event("ann", "b", 2)}, 0)
	b := s.Next([]Event{event("ann", "b", 2), event("ann", "c", 3), event("ann", "c", 3)}, 1)
	require.Equal(t, 2, b.Duplicates)
	require.Len(t, b.Instances, 1)
	require.Equal(t, []int32{2, 3, 4}, s.History("ann"))
}

func TestAnItemThatLosesItsRowIsUnknownFromThenOn(t *testing.T) {
	o := options()
	o.MaxItems = 3
	s := NewSequencer(o)
	s.Next([]Event{event("ann", "a", 1), event("ann", "b", 2), event("bob", "c", 3)}, 0)
	s.Next([]Event{event("bob", "a", 4)}, 1)
	b := s.Next([]Event{event("ann", "d", 5), event("ann", "a", 6)}, 2) // b was not seen for longest
	require.Equal(t, []Renewal{{Row: 3, Was: "b"}}, b.Renewed)
	require.Equal(t, []seqrec.Sequence{{Items: []int32{2, vocab.Unknown, 3, 2}, From: 2}}, b.New)
	require.Equal(t, []int32{2, vocab.Unknown}, b.Instances[0].History)
	require.Equal(t, []int32{2, vocab.Unknown, 3, 2}, s.History("ann"))
	require.Equal(t, []int32{4, 2}, s.History("bob"))
	_, ok := s.Vocabulary().Row("b")
	require.False(t, ok)
	require.Equal(t, 5, s.Vocabulary().Rows())
	b = s.Next([]Event{event("bob", "b", 7)}, 3) // and takes c's when it comes back
	require.Equal(t, []Renewal{{Row: 4, Was: "c"}}, b.Renewed)
	require.Equal(t, []seqrec.Sequence{{Items: []int32{vocab.Unknown, 2, 4}, From: 2}}, b.New)
	require.Panics(t, func() { s.Next(make([]Event, 4), 4) })
}

func TestTheWindowForgetsTheOldestKeyFirst(t *testing.T) {
	w := newWindow(3)
	for k := range uint64(4) {
		require.True(t, w.add(k))
	}
	require.True(t, w.add(0), "0 was pushed out by 3")
	require.False(t, w.add(2))
	require.False(t, w.add(3))
	require.Len(t, w.seen, 3)
}

// Every new position must be new in one window only, with items before it as its
// context, whatever the lengths.
func TestWindowsCoverEveryNewPositionOnce(t *testing.T) {
	for maxLen := 2; maxLen <= 9; maxLen++ {
		for n := 0; n <= 40; n++ {
			for from := 0; from <= n; from++ {
				items := make([]int32, n)
				for i := range items {
					items[i] = int32(i + 100)
				}
				var targets []int32
				for _, w := range windows(items, from, maxLen) {
					require.LessOrEqual(t, len(w.Items), maxLen+1)
					for p := w.From; p < len(w.Items); p++ {
						if p > 0 {
							require.Equal(t, w.Items[p-1]+1, w.Items[p])
						} else {
							require.EqualValues(t, 100, w.Items[p], "only a user's first item has no context")
						}
						targets = append(targets, w.Items[p])
					}
				}
				require.Equal(t, items[from:], append([]int32{}, targets...), "n %d from %d L %d", n, from, maxLen)
			}
		}
	}
}

func TestReplayDrawsOnlyOlderSequencesAndIsAFunctionOfTheStep(t *testing.T) {
	o := options()
	o.Replay = 100
	a, b := NewSequencer(o), NewSequencer(o)
	var events []Event
	for i := range 40 {
		events = append(events, event(fmt.Sprint("u", i%5), fmt.Sprint("i", i%7), i))
	}
	a.Next(events, 0)
	b.Next(events, 0)
	next := []Event{event("new", "i1", 100), event("u1", "i8", 101)}
	ra, rb := a.Next(next, 1), b.Next(next, 1)
	require.Equal(t, ra, rb)
	require.Len(t, ra.Replay.For(all), 25, "one target, 100 times, four a sequence")
	eight, _ := a.vocab.Row("i8")
	for _, seq := range ra.Replay.For(one) {
		require.GreaterOrEqual(t, len(seq.Items), o.MaxLen, "of a user known before")
		require.NotContains(t, seq.Items, eight)
	}
	more := []Event{event("u1", "i1", 102), event("u1", "i2", 103)}
	require.NotEqual(t, a.Next(more, 2).Replay, b.Next(more, 3).Replay, "another step draws others")
}

// trainer.replay counts targets, of which a sequence has as many as the model learns.
func TestReplayCountsWhatTheModelLearns(t *testing.T) {
	for model, sequences := range map[seqrec.Recommender]int{all: 6, one: 24} {
		o := options()
		o.Replay = 12
		s := NewSequencer(o)
		var events []Event
		for i := range 40 {
			events = append(events, event(fmt.Sprint("u", i%5), fmt.Sprint("i", i), i))
		}
		s.Next(events, 0)
		require.Len(t, s.Next([]Event{event("u1", "a", 100), event("u2", "b", 101)}, 1).Replay.For(model), sequences, "two new targets, 24 old ones, of sequences with four")
	}
}

// Against a plain reference: a map and a list of users by last activity.
func TestHistoriesForgetTheUserIdleForLongest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	h := newHistories(3, 5)
	want := map[string][]int32{}
	var active []string // most recent last
	for n := range 2000 {
		user := fmt.Sprint("u", r.IntN(12))
		rows := append(append([]int32(nil), h.rows(user)...), int32(n))
		h.put(user, rows)

		for i, u := range active {
			if u == user {
				active = append(active[:i], active[i+1:]...)
				break
			}
		}
		if _, known := want[user]; !known && len(want) == 5 {
			delete(want, active[0])
			active = active[1:]
		}
		active = append(active, user)
		want[user] = rows[max(0, len(rows)-3):]

		require.Len(t, h.users, len(want))
		for u, rows := range want {
			require.Equal(t, rows, h.rows(u))
		}
		for i, place := range h.activity() {
			require.Equal(t, active[len(active)-1-i], h.users[place].user)
		}
	}
	require.Positive(t, h.evicted)
}
