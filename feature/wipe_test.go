package feature

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/config"
)

func TestWipeRemovesTheViewsAndNothingElse(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		w := s.Writer(bounds)
		begin(t, w, 0)
		var events []HistoryEvent
		for i := range int64(2500) { // more than one page of keys
			events = append(events, event(i, fmt.Sprint("u", i), "a"))
		}
		apply(t, w, run(events...))
		other := s.keys.prefix + "x"
		require.NoError(t, s.client.Set(t.Context(), other, 1, 0).Err())
		defer s.client.Del(t.Context(), other)

		removed, err := s.Wipe(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 5000, removed)
		left, err := s.client.Keys(t.Context(), s.keys.prefix+"*").Result()
		require.NoError(t, err)
		require.Equal(t, []string{other}, left)

		removed, err = s.Wipe(t.Context())
		require.NoError(t, err)
		require.Zero(t, removed, "wiping nothing is fine")
	})
}

// A prefix is a word, not a pattern.
func TestWipeTakesThePrefixLiterally(t *testing.T) {
	s := open(t, config.Redis{KeyPrefix: "s*", Timeout: time.Second})
	begin(t, s.Writer(bounds), 0)
	apply(t, s.Writer(bounds), run(event(0, "u", "a")))
	require.NoError(t, s.client.Set(t.Context(), "seralm:h:{u}", 1, 0).Err())
	removed, err := s.Wipe(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, removed)
	require.EqualValues(t, 1, s.client.Exists(t.Context(), "seralm:h:{u}").Val())
}

// The process that wiped was killed half-way: its successor must not write into
// what is left.
func TestAHalfWipedViewTakesNoWritesUntilSomeoneFinishes(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		w := s.Writer(bounds)
		begin(t, w, 0)
		apply(t, w, run(event(0, "u", "a")))
		require.NoError(t, s.client.Set(t.Context(), s.histories().wiping, "dead", 0).Err())

		require.ErrorIs(t, w.Apply(t.Context(), run(event(1, "u", "b")))[0].Err, ErrWiping)
		_, err := w.Start(t.Context(), "topic-1", map[int32]int64{0: 0})
		require.ErrorIs(t, err, ErrWiping)

		removed, err := s.Wipe(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2, removed)
		begin(t, w, 0)
		require.Equal(t, "a", apply(t, w, run(event(0, "u", "a"))))

		_, err = s.histories().unlink(t.Context(), "dead", s.keys.history("u"))
		require.ErrorContains(t, err, "TAKENOVER", "the one presumed dead comes back and removes nothing")
		require.Equal(t, []string{"a"}, history(t, s, "u", 10))
	})
}
