package vocab

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnItemIsAdmittedAtItsNthSighting(t *testing.T) {
	v := New(3)
	require.EqualValues(t, Unknown, v.Observe("a"))
	require.EqualValues(t, Unknown, v.Observe("a"))
	require.EqualValues(t, FirstItem, v.Observe("a"))
	require.EqualValues(t, FirstItem, v.Observe("a"))
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
	require.EqualValues(t, 3, w.Observe("b"), "b was seen once before")
	_, err = FromState(State{IDs: []string{"a", "a"}})
	require.ErrorContains(t, err, `"a"`)
}

func TestHashTellsListsApart(t *testing.T) {
	require.NotEqual(t, Hash([]string{"ab", "c"}), Hash([]string{"a", "bc"}))
	require.NotEqual(t, Hash([]string{"a", "b"}), Hash([]string{"b", "a"}))
	require.NotEqual(t, Hash(nil), Hash([]string{""}))
}
