package seqrec

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// The bias stands before every item of the history, once, and before no other.
func TestWhatTheHistoryHoldsIsScoredWithItsBias(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		m := newTiny(t, h, Options{Seed: 11, HistoryBias: true})
		history := []int32{9, 4, 1, 5, 4, 7, 5} // the 9 is one too many to be kept
		score := func(rho float32) []float32 {
			state, err := m.State()
			require.NoError(t, err)
			state[historyBias].Data[0] = rho
			require.NoError(t, m.Restore(state, 12))
			s, err := m.Scores(t.Context(), [][]int32{history})
			require.NoError(t, err)
			return s[0]
		}
		without, with := score(0), score(-1.5)
		for row := 2; row < 12; row++ {
			want := 0.0
			if row == 4 || row == 5 || row == 7 {
				want = -1.5
			}
			require.InDelta(t, want, with[row]-without[row], 1e-5, "row %d", row)
		}
	})
}

func TestTheHistoryBiasGradientMatchesFiniteDifferences(t *testing.T) {
	for _, o := range []Options{{HistoryBias: true}, {HistoryBias: true, Negatives: 3}, {HistoryBias: true, Negatives: 3, Knowledge: tinyKnowledge, IDDropout: 0.3}} {
		for _, h := range []Hyper{tiny, tinies[2]} {
			m := newTiny(t, h, o)
			if o.Knowledge > 0 {
				m = withKnowledge(t, h, o)
			}
			state := stir(t, m)
			batch := randomBatch(rand.New(rand.NewPCG(2, 2)), 5, 12)
			gradient := compareWithDifferences(t, m, state, batch)
			require.NotZero(t, gradient[historyBias][0])
		}
	}
}

// Where nobody takes an item twice, the bias becomes negative; where everybody does,
// positive.
func TestTheHistoryBiasFollowsWhatPeopleDo(t *testing.T) {
	for _, repeat := range []bool{false, true} {
		m := newTiny(t, tiny, Options{Seed: 3, HistoryBias: true})
		r := rand.New(rand.NewPCG(1, 1))
		for step := range uint64(60) {
			var batch []Sequence
			for range 8 {
				q := Sequence{}
				for _, i := range r.Perm(10)[:6] {
					q.Items = append(q.Items, int32(2+i))
				}
				if repeat {
					copy(q.Items[3:], q.Items[:3])
				}
				batch = append(batch, q)
			}
			_, err := m.Learn(t.Context(), batch, step)
			require.NoError(t, err)
		}
		state, err := m.State()
		require.NoError(t, err)
		rho := float64(state[historyBias].Data[0])
		require.Greater(t, math.Abs(rho), 0.3)
		require.Equal(t, repeat, rho > 0)

		plain := newTiny(t, tiny, Options{})
		require.ErrorContains(t, plain.Restore(state, 12), "recommender.history_bias")
	}
}
