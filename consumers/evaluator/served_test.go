package evaluator

import (
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/online"
	"seralm/models/vocab"
)

func serve(t *testing.T, offsets ...map[int32]int64) *served {
	t.Helper()
	s := newServed()
	t.Cleanup(s.close)
	for i, o := range offsets {
		require.NoError(t, s.add(planted(int64(i), o, catalogue[i%len(catalogue)])))
	}
	return s
}

// by says which of the served models ranks a record: the planted item tells. "" is
// none.
func (s *served) by(t *testing.T, partition int32, offset int64) string {
	t.Helper()
	items := vocab.FromIDs(catalogue)
	for _, item := range catalogue {
		row, _ := items.Row(item)
		j, err := s.judge(position{partition, offset}, online.Instance{History: []int32{vocab.FirstItem}, Target: row}, items.ID)
		require.NoError(t, err)
		if j.Rank == 1 {
			return item
		}
	}
	return ""
}

func TestAnEventIsRankedByTheNewestSnapshotThatHasNotLearntIt(t *testing.T) {
	s := serve(t,
		map[int32]int64{0: 10, 1: 5}, // a
		map[int32]int64{0: 20, 1: 5}, // b
		map[int32]int64{0: 20, 1: 9}, // c
	)
	for _, c := range []struct {
		partition int32
		offset    int64
		by        string
	}{
		{0, 9, ""}, {0, 10, "a"}, {0, 19, "a"}, {0, 20, "c"}, {0, 1000, "c"},
		{1, 4, ""}, {1, 5, "b"}, {1, 8, "b"}, {1, 9, "c"},
		{7, 0, "c"}, // a partition that was added since
	} {
		require.Equal(t, c.by, s.by(t, c.partition, c.offset), "partition %d offset %d", c.partition, c.offset)
	}
	j, err := s.judge(position{0, 9}, online.Instance{History: []int32{2}, Target: 2}, vocab.FromIDs(catalogue).ID)
	require.NoError(t, err)
	require.True(t, j.Absent, "which does not count")
}

// The trainer went back to a checkpoint: its next snapshot has learnt less than the
// last one, and is what is served.
func TestASnapshotOfAnEarlierPlaceIsNewerAllTheSame(t *testing.T) {
	s := serve(t, map[int32]int64{0: 10}, map[int32]int64{0: 30}, map[int32]int64{0: 20})
	require.Equal(t, "a", s.by(t, 0, 15))
	require.Equal(t, "c", s.by(t, 0, 25))
	require.Equal(t, "c", s.by(t, 0, 35))
}

// Rows are the snapshot's own; what it does not know is a miss as a target and the
// unknown item in a history.
func TestRowsAreTranslatedByName(t *testing.T) {
	s := serve(t, map[int32]int64{0: 0})
	ours := vocab.FromIDs([]string{"new", "c", "a"})
	at := position{0, 0}
	for item, want := range map[string]float64{"a": 1, "c": 3.5, "new": 0} {
		row, _ := ours.Row(item)
		j, err := s.judge(at, online.Instance{History: []int32{vocab.FirstItem, vocab.FirstItem + 1}, Target: row}, ours.ID)
		require.NoError(t, err)
		require.InDelta(t, want, j.Rank, 0, item)
	}
}

func TestSnapshotsThatNoEventCanBeRankedByAreFreed(t *testing.T) {
	s := serve(t, map[int32]int64{0: 10, 1: 0}, map[int32]int64{0: 20, 1: 0}, map[int32]int64{0: 30, 1: 8})
	s.advance(map[int32]int64{0: 19, 1: 50})
	require.Len(t, s.models, 3)
	s.advance(map[int32]int64{0: 30, 1: 7}) // the last has learnt offset 7 of partition 1
	require.Len(t, s.models, 2)
	require.Equal(t, "b", s.by(t, 1, 7))
	s.advance(map[int32]int64{0: 30, 1: 8})
	require.Len(t, s.models, 1)
	s.advance(map[int32]int64{0: 99, 1: 99})
	require.Len(t, s.models, 1, "the newest is needed by what comes")
}

// A trainer that is faster than the evaluator publishes many snapshots meanwhile:
// memory is bounded, and there is still one for the event at hand, and the newest.
func TestAnEvaluatorThatLagsKeepsASnapshotForItsPlace(t *testing.T) {
	s := newServed()
	t.Cleanup(s.close)
	for i := range int64(50) {
		require.NoError(t, s.add(planted(i, map[int32]int64{0: 10 * i}, "a")))
		require.LessOrEqual(t, len(s.models), kept)
	}
	learnt := make([]int64, 0, kept)
	for _, m := range s.models {
		learnt = append(learnt, m.learnt)
	}
	require.EqualValues(t, 0, learnt[0])
	require.EqualValues(t, 490, learnt[len(learnt)-1])
	for i := range learnt[1:] {
		require.LessOrEqual(t, learnt[i+1]-learnt[i], int64(250), "spread: %v", learnt)
	}
	for offset := range int64(500) {
		require.NotNil(t, s.before(0, offset), "offset %d", offset)
	}
}
