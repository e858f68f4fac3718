package vocab

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnItemIsAdmittedAtItsNthSighting(t *testing.T) {
	v := New(3)
	for _, want := range []int32{Unknown, Unknown, FirstItem, FirstItem} {
		row, lost := v.Observe("a")
		require.Equal(t, want, row)
		require.Empty(t, lost)
	}
	r, ok := v.Row("a")
	require.True(t, ok)
	require.EqualValues(t, FirstItem, r)
	r, ok = v.Row("b")
	require.False(t, ok)
	require.EqualValues(t, Unknown, r)
	require.Equal(t, 3, v.Rows())
}

func TestIDsAndRowsAreInverse(t *testing.T) {
	v := FromIDs([]string{"x", "y", "z"})
	for _, id := range v.IDs() {
		r, ok := v.Row(id)
		require.True(t, ok)
		require.Equal(t, id, v.ID(r))
	}
	for _, r := range []int32{-1, Padding, Unknown, 5} {
		require.Empty(t, v.ID(r))
	}
}

func TestAStateRestoresWhatWaitsToo(t *testing.T) {
	v := New(2)
	v.Observe("a")
	v.Observe("b")
	v.Observe("a")
	w, err := FromState(v.State())
	require.NoError(t, err)
	require.Equal(t, v.Hash(), w.Hash())
	row, _ := w.Observe("b")
	require.EqualValues(t, 3, row, "b was seen once before")
	_, err = FromState(State{IDs: []string{"a", "a"}})
	require.ErrorContains(t, err, `"a"`)
}

// Against a plain reference: a list of ids by their last sighting; restored at every
// step.
func TestAtItsLimitARowGoesToTheNewestIDFromTheOneNotSeenForLongest(t *testing.T) {
	const limit = 5
	r := rand.New(rand.NewPCG(1, 2))
	v := New(2)
	v.SetLimit(limit)
	sightings, rows := map[string]int{}, map[string]int32{}
	var seen []string // ids with a row, the newest last
	losses := 0
	for range 2000 {
		id := fmt.Sprint("i", r.IntN(12))
		row, lost := v.Observe(id)
		at := slices.Index(seen, id)
		switch {
		case at >= 0:
			seen = append(slices.Delete(seen, at, at+1), id)
			require.Empty(t, lost)
		case sightings[id] == 0:
			sightings[id]++
			require.EqualValues(t, Unknown, row)
			require.Empty(t, lost)
			continue
		case len(seen) < limit:
			require.Empty(t, lost)
			seen, rows[id] = append(seen, id), int32(FirstItem+len(seen))
			sightings[id] = 0
		default:
			require.Equal(t, seen[0], lost)
			losses++
			seen, rows[id] = append(seen[1:], id), rows[lost]
			delete(rows, lost)
			sightings[id] = 0
			require.Equal(t, FirstItem+limit, v.Rows())
		}
		require.Equal(t, rows[id], row)
		for id, row := range rows {
			got, ok := v.Row(id)
			require.True(t, ok)
			require.Equal(t, row, got)
			require.Equal(t, id, v.ID(row))
		}
		w, err := FromState(v.State())
		require.NoError(t, err)
		w.SetLimit(limit)
		require.Equal(t, v.State(), w.State())
		v = w
	}
	require.Greater(t, losses, 100)
}

func TestAnOrderThatIsNotOfTheRowsIsRefused(t *testing.T) {
	for _, seen := range [][]int32{{2}, {2, 2}, {2, 4}, {1, 2}, {2, 3, 3}} {
		_, err := FromState(State{IDs: []string{"a", "b"}, Seen: seen})
		require.ErrorContains(t, err, "order", "%v", seen)
	}
	// A limit is new, or lower than what there is: no row is added, one is taken over.
	for _, state := range []State{{IDs: []string{"a", "b", "c"}}, {IDs: []string{"a", "b", "c"}, Seen: []int32{4, 3, 2}}} {
		v, err := FromState(state)
		require.NoError(t, err)
		v.SetLimit(2)
		row, lost := v.Observe("d")
		require.EqualValues(t, 2, row)
		require.Equal(t, "a", lost)
		require.Equal(t, []string{"d", "b", "c"}, v.IDs())
	}
}

func TestHashTellsListsApart(t *testing.T) {
	require.NotEqual(t, Hash([]string{"ab", "c"}), Hash([]string{"a", "bc"}))
	require.NotEqual(t, Hash([]string{"a", "b"}), Hash([]string{"b", "a"}))
	require.NotEqual(t, Hash(nil), Hash([]string{""}))
}
