package prequential

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/online"
	"seralm/models/seqrec"
	"seralm/models/vocab"
)

func sequencer() *online.Sequencer {
	return online.NewSequencer(online.SequencerOptions{MaxLen: 4, MaxUsers: 10, DedupWindow: 100, AdmitAfter: 1})
}

func event(user, item string, n int) online.Event {
	return online.Event{Key: online.EventKey("t", fmt.Sprint(n)), User: user, Item: item}
}

// spy is a recommender that scores every row by its number and notes what it is
// asked and taught.
type spy struct {
	seqrec.Recommender
	log  []string
	rows int
}

func (s *spy) Resize(rows int) error { s.rows = rows; return nil }

func (s *spy) Learn(_ context.Context, batch []seqrec.Sequence, _ uint64) (seqrec.Loss, error) {
	n := 0
	for _, q := range batch {
		n += len(q.Items) - q.From
	}
	s.log = append(s.log, fmt.Sprint("learn ", n))
	return seqrec.Loss{}, nil
}

func (s *spy) Scores(_ context.Context, histories [][]int32) ([][]float32, error) {
	out := make([][]float32, len(histories))
	for i, h := range histories {
		s.log = append(s.log, fmt.Sprint("rank ", h))
		for r := range s.rows {
			v := float32(r)
			if r < vocab.FirstItem {
				v = float32(math.Inf(-1))
			}
			out[i] = append(out[i], v)
		}
	}
	return out, nil
}

func TestEveryEventIsRankedBeforeItIsLearnt(t *testing.T) {
	s := &spy{}
	e := New(sequencer(), 10, 0, Learning("spy", s, false))
	require.NoError(t, e.Observe(t.Context(), []online.Event{event("u", "a", 1), event("u", "b", 2)}, true))
	require.NoError(t, e.Observe(t.Context(), []online.Event{event("u", "a", 3), event("u", "a", 3)}, true))
	require.Equal(t, []string{"rank [1]", "learn 2", "rank [2 3]", "learn 1"}, s.log)
	require.Equal(t, Counts{Events: 4, Duplicates: 1, First: 1, NewItems: 1, Ranked: 2}, e.Counts())
	// b was new: a miss. a has the lower of two scores: rank 2; masked, b is out of the way.
	all := e.Tallies()[0].Since(Mark{})
	require.InDelta(t, (0+1/math.Log2(3))/2, all.NDCG10, 1e-12)
	require.InDelta(t, 0.5, all.MaskedNDCG10, 1e-12)
	require.InDelta(t, -math.Log(1+math.E), all.LogP, 1e-6)
}

func TestCatchingUpTeachesWithoutRanking(t *testing.T) {
	s := &spy{}
	e := New(sequencer(), 10, 0, Learning("spy", s, false))
	require.NoError(t, e.Observe(t.Context(), []online.Event{event("u", "a", 1), event("u", "b", 2)}, false))
	require.Equal(t, []string{"learn 2"}, s.log)
	require.Zero(t, e.Counts().Ranked)
}

func TestAnAbsentJudgementDoesNotCount(t *testing.T) {
	absent := Arm{
		Name: "absent",
		Rank: func(_ context.Context, in []online.Instance) ([]Judgement, error) {
			out := make([]Judgement, len(in))
			for i := range out {
				out[i].Absent = true
			}
			return out, nil
		},
		Learn: func(context.Context, []online.Event, online.Batch, int, uint64) error { return nil },
	}
	e := New(sequencer(), 10, 0, absent)
	require.NoError(t, e.Observe(t.Context(), []online.Event{event("u", "a", 1), event("u", "b", 2)}, true))
	require.Zero(t, e.Tallies()[0].Window().Events)
}

func TestTheWindowIsTheMeanOfTheNewest(t *testing.T) {
	ta := newTally(3)
	var mark Mark
	for i, rank := range []float64{1, 0, 20, 2, 1} {
		if i == 3 {
			mark = ta.Mark()
		}
		ta.add(Judgement{Rank: rank, Masked: rank, LogP: -rank})
	}
	w := ta.Window()
	require.EqualValues(t, 3, w.Events)
	require.InDelta(t, 2./3, w.Hit10, 1e-12)
	require.InDelta(t, (1/math.Log2(3)+1)/3, w.NDCG10, 1e-12)
	require.InDelta(t, (1./20+.5+1)/3, w.MRR, 1e-12)
	require.InDelta(t, -23./3, w.LogP, 1e-12)
	since := ta.Since(mark)
	require.EqualValues(t, 2, since.Events)
	require.InDelta(t, (1/math.Log2(3)+1)/2, since.NDCG10, 1e-12)
	require.InDelta(t, -24./4, ta.Since(Mark{}).LogP, 1e-12, "a miss has no log p")
}

// Who learns late ranks by what it has learnt, with histories that are up to date.
func TestALateLearnerLearnsAfterSoManyEvents(t *testing.T) {
	s := &spy{}
	e := New(sequencer(), 10, 3, Learning("spy", s, false))
	batch := []online.Event{event("u", "a", 1), event("u", "b", 2)}
	require.NoError(t, e.Observe(t.Context(), batch, true))
	batch[0], batch[1] = event("u", "a", 3), event("v", "a", 4) // the caller's, again
	require.NoError(t, e.Observe(t.Context(), batch, true))
	require.Equal(t, []string{"rank [1]", "rank [1 1]"}, s.log, "what is not learnt is unknown")
	require.NoError(t, e.Observe(t.Context(), []online.Event{event("u", "b", 5)}, true))
	require.Equal(t, []string{"rank [1]", "rank [1 1]", "rank [1 1 1]", "learn 2"}, s.log)
	require.NoError(t, e.Observe(t.Context(), []online.Event{event("v", "b", 6), event("v", "b", 7)}, true))
	require.Equal(t, []string{"rank [2]", "rank [2 3]", "learn 2"}, s.log[4:])
	require.EqualValues(t, 5, e.Counts().Ranked)
}

// A step that fails numerically is counted and costs nothing else; scores that are no
// numbers are a miss.
func TestAStepThatIsNotFiniteIsCounted(t *testing.T) {
	failing := Arm{
		Name: "failing",
		Rank: ByScores(func(context.Context, [][]int32) ([][]float32, error) {
			nan := float32(math.NaN())
			return [][]float32{{nan, nan, nan, nan}}, nil
		}, 4),
		Learn: func(context.Context, []online.Event, online.Batch, int, uint64) error {
			return fmt.Errorf("failing: %w", &seqrec.NumericError{What: "loss"})
		},
	}
	s := &spy{}
	e := New(sequencer(), 10, 0, failing, Learning("spy", s, false))
	require.NoError(t, e.Observe(t.Context(), []online.Event{event("u", "a", 1)}, true))
	require.NoError(t, e.Observe(t.Context(), []online.Event{event("u", "a", 2)}, true))
	require.Equal(t, []int64{2, 0}, e.BadSteps())
	require.Equal(t, Summary{Events: 1}, e.Tallies()[0].Window())
	require.Equal(t, []string{"learn 1", "rank [2]", "learn 1"}, s.log)
}

// However many items there are, what is held at once is bounded, and the judgements are
// the same.
func TestABigCatalogueIsScoredInChunks(t *testing.T) {
	r := seqrec.NewTransitions()
	require.NoError(t, r.Resize(9))
	_, err := r.Learn(t.Context(), []seqrec.Sequence{{Items: []int32{2, 3, 4, 2, 5, 6, 3, 3, 7}}}, 1)
	require.NoError(t, err)
	var instances []online.Instance
	for i := range int32(7) {
		instances = append(instances, online.Instance{History: []int32{2 + i, 2 + 3*i%7}, Target: 2 + 2*i%7})
	}
	judge := func(known int) (judgements []Judgement, most int) {
		scores := func(ctx context.Context, histories [][]int32) ([][]float32, error) {
			most = max(most, len(histories))
			return r.Scores(ctx, histories)
		}
		judgements, err := ByScores(scores, known)(t.Context(), instances)
		require.NoError(t, err)
		return judgements, most
	}
	want, most := judge(9)
	require.Equal(t, 7, most)
	for known, chunk := range map[int]int{maxScores / 3: 3, maxScores: 1, 2 * maxScores: 1} {
		got, most := judge(known)
		require.Equal(t, want, got)
		require.Equal(t, chunk, most)
	}
}
