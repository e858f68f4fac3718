package seqrec

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/models/vocab"
)

const tinyKnowledge = 5

// vectorsOf are random vectors with a large common part, as those of a text encoder.
func vectorsOf(r *rand.Rand, n int) [][]float32 {
	out := make([][]float32, n)
	for i := range out {
		out[i] = make([]float32, tinyKnowledge)
		for j := range out[i] {
			out[i][j] = 3 + float32(j) + float32(r.NormFloat64())
		}
	}
	return out
}

// withKnowledge is newTiny where some of the rows have a vector, and others none.
func withKnowledge(t *testing.T, h Hyper, o Options) *Model {
	t.Helper()
	o.Knowledge = tinyKnowledge
	m := newTiny(t, h, o)
	require.NoError(t, m.SetKnowledge([]int32{2, 3, 5, 6, 7, 9, 11}, vectorsOf(rand.New(rand.NewPCG(6, 6)), 7)))
	return m
}

// stir adds noise to all weights of a full state, and leaves the knowledge as it is.
func stir(t *testing.T, m *Model) map[string]snapshot.Tensor {
	t.Helper()
	r := rand.New(rand.NewPCG(9, 9))
	state, err := m.FullState()
	require.NoError(t, err)
	for _, p := range m.shapes() {
		w := state[p.name].Data
		for i := range w {
			w[i] += float32(0.3 * r.NormFloat64())
		}
	}
	require.NoError(t, m.RestoreFull(state, m.rows))
	return state
}

func TestAModelWithKnowledgeStartsAsItsBase(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		base, m := newTiny(t, h, Options{Seed: 7}), withKnowledge(t, h, Options{Seed: 7})
		require.NoError(t, base.Resize(15))
		require.NoError(t, m.Resize(15))
		histories := [][]int32{{2, 3, 4}, {1, 14}, {9}}
		want, err := base.Scores(t.Context(), histories)
		require.NoError(t, err)
		got, err := m.Scores(t.Context(), histories)
		require.NoError(t, err)
		require.Equal(t, want, got)

		// Also in what it learns first: the loss is the Base's, with the ids shown.
		batch := randomBatch(rand.New(rand.NewPCG(2, 2)), 5, 12)
		require.Equal(t, lossOf(t, base, batch), lossOf(t, m, batch))
	})
}

// Every parameter, the tower's among them, with ids shown and with the same ids dropped
// in every evaluation.
func TestTheTowersGradientMatchesFiniteDifferences(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		for _, dropout := range []float64{0, 0.4} {
			m := withKnowledge(t, h, Options{Seed: 5, IDDropout: dropout})
			gradient := compareWithDifferences(t, m, stir(t, m), randomBatch(rand.New(rand.NewPCG(2, 2)), 5, 12))
			unknown := gradient[itemTable][vocab.Unknown*h.Dim:][:h.Dim]
			require.Equal(t, dropout == 0, allZero(unknown), "only a dropped id teaches the unknown row here")
		}
	})
}

func allZero(values []float32) bool {
	for _, v := range values {
		if v != 0 {
			return false
		}
	}
	return true
}

// As TestSASRecResumesToTheBit, with vectors that come, and change, while it learns.
func TestAModelWithKnowledgeResumesToTheBit(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		run := func(stopAt uint64) map[string]snapshot.Tensor {
			o := Options{Seed: 7, Dropout: 0.3, ClipNorm: 0.5, IDDropout: 0.3, Knowledge: tinyKnowledge}
			m := newTiny(t, h, o)
			r := rand.New(rand.NewPCG(4, 4))
			rows := 12
			for step := range uint64(12) {
				if step == stopAt {
					state, err := m.FullState()
					require.NoError(t, err)
					saved, err := snapshot.EncodeTensors(state)
					require.NoError(t, err)
					state, err = snapshot.DecodeTensors(saved)
					require.NoError(t, err)
					m = newTiny(t, h, o)
					require.NoError(t, m.RestoreFull(state, rows))
				}
				if step%3 == 2 {
					rows += 5
					require.NoError(t, m.Resize(rows))
				}
				if step%2 == 1 {
					require.NoError(t, m.SetKnowledge([]int32{int32(2 + r.IntN(rows-2)), int32(rows - 1)}, vectorsOf(r, 2)))
				}
				_, err := m.Learn(t.Context(), randomBatch(r, 6, rows), step)
				require.NoError(t, err)
			}
			state, err := m.FullState()
			require.NoError(t, err)
			return state
		}
		want := run(99)
		require.False(t, allZero(want[tower.Weight].Data))
		for k := range uint64(12) {
			require.Equal(t, want, run(k), "stopped at %d", k)
		}
	})
}

// What is published scores, as a Base, as the model does.
func TestTheFoldedTableScoresAsTheTower(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		m := withKnowledge(t, h, Options{Seed: 5})
		stir(t, m)
		state, err := m.State()
		require.NoError(t, err)
		base := newTiny(t, h, Options{})
		require.NoError(t, base.Restore(state, 12))
		histories := [][]int32{{2, 3, 4}, {1, 11}, {9}}
		want, err := m.Scores(t.Context(), histories)
		require.NoError(t, err)
		got, err := base.Scores(t.Context(), histories)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.NotContains(t, state, idWeight)
		require.NotContains(t, state, knowledgeVectors)
		require.ErrorContains(t, m.Restore(state, 12), "knowledge_dim")
	})
}

// cold returns the model as a scorer has it, without the tower, with a row appended for
// each of the vectors.
func cold(t *testing.T, m *Model, vectors [][]float32) *Model {
	t.Helper()
	state, err := m.State()
	require.NoError(t, err)
	tw, err := tower.New(state)
	require.NoError(t, err)
	table := state[itemTable]
	for _, v := range vectors {
		row, err := tw.Row(v)
		require.NoError(t, err)
		table.Data = append(table.Data, row...)
	}
	rows := m.rows + len(vectors)
	table.Shape = []int64{int64(rows), int64(m.hyper.Dim)}
	state[itemTable] = table
	base, err := New(m.hyper, rows, Options{Threads: 1})
	require.NoError(t, err)
	t.Cleanup(base.Close)
	require.NoError(t, base.Restore(state, rows))
	return base
}

// A row made in plain Go against the row that libtorch folds for an item whose id is
// the unknown one.
func TestARowForAVectorAloneIsTheTowers(t *testing.T) {
	m := withKnowledge(t, tiny, Options{Seed: 5})
	full := stir(t, m)
	ids, d := full[itemTable].Data, tiny.Dim
	for _, r := range []int{3, 5} { // two rows that have vectors
		copy(ids[r*d:(r+1)*d], ids[vocab.Unknown*d:][:d])
	}
	require.NoError(t, m.RestoreFull(full, 12))
	state, err := m.State()
	require.NoError(t, err)
	tw, err := tower.New(state)
	require.NoError(t, err)
	for _, r := range []int{3, 5} {
		row, err := tw.Row(m.knowledge.vectors[r])
		require.NoError(t, err)
		require.InDeltaSlice(t, state[itemTable].Data[r*d:(r+1)*d], row, 1e-6)
	}
}

// An item is served by its text alone until it is admitted; then its row must not jump.
func TestAnAdmittedItemBeginsWhereTheUnknownOneIs(t *testing.T) {
	m := withKnowledge(t, tiny, Options{Seed: 5, IDDropout: 0.3, LearningRate: 0.05})
	r := rand.New(rand.NewPCG(2, 2))
	for step := range uint64(20) {
		_, err := m.Learn(t.Context(), randomBatch(r, 5, 12), step)
		require.NoError(t, err)
	}
	require.NoError(t, m.Resize(14))
	state, err := m.FullState()
	require.NoError(t, err)
	d := tiny.Dim
	moved := func(row int) []float32 {
		now := slices.Clone(state[itemTable].Data[row*d : (row+1)*d])
		for i, was := range normalRow(5, itemTable, row, d, itemDeviation) {
			now[i] -= was
		}
		return now
	}
	require.Greater(t, slices.Max(moved(vocab.Unknown)), float32(0.01))
	require.InDeltaSlice(t, moved(vocab.Unknown), moved(12), 1e-6)
	require.InDeltaSlice(t, moved(vocab.Unknown), moved(13), 1e-6)
}

// Of a row that is renewed nothing is left, and all others are what they were, to the bit.
func TestARenewedRowIsThatOfAnItemNeverSeen(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		o := Options{Seed: 7, LearningRate: 0.05, IDDropout: 0.3}
		m, other := withKnowledge(t, h, o), withKnowledge(t, h, o)
		for step := range uint64(5) {
			for _, x := range []*Model{m, other} {
				_, err := x.Learn(t.Context(), []Sequence{{Items: []int32{2, 3, 4, 5}}, {Items: []int32{7, 1, 3}}}, step)
				require.NoError(t, err)
			}
		}
		rows := m.rows
		require.NoError(t, m.Renew([]int32{3, 4}))
		require.NoError(t, other.Resize(rows+1))
		require.Nil(t, m.Knowledge(3))
		require.Equal(t, other.Knowledge(2), m.Knowledge(2))
		got, err := m.FullState()
		require.NoError(t, err)
		want, err := other.FullState()
		require.NoError(t, err)
		drift := make([]float32, h.Dim) // of the unknown row, which a new one begins with
		for i, w := range normalRow(o.Seed, itemTable, vocab.Unknown, h.Dim, itemDeviation) {
			drift[i] = want[itemTable].Data[vocab.Unknown*h.Dim+i] - w
		}
		for name, x := range got {
			switch name {
			case itemTable, adamM + itemTable, adamV + itemTable:
				for r := range rows {
					row := x.Data[r*h.Dim : (r+1)*h.Dim]
					if r != 3 && r != 4 {
						require.Equal(t, want[name].Data[r*h.Dim:(r+1)*h.Dim], row, "%s, row %d", name, r)
						continue
					}
					fresh := make([]float32, h.Dim)
					if name == itemTable {
						for i, w := range normalRow(o.Seed, itemTable, r, h.Dim, itemDeviation) {
							fresh[i] = w + drift[i]
						}
					}
					require.Equal(t, fresh, row, "%s, row %d", name, r)
				}
			case knowledgeRows, knowledgeVectors: // without theirs
			default:
				require.Equal(t, want[name], x, name)
			}
		}
		back := withKnowledge(t, h, o)
		require.NoError(t, back.RestoreFull(got, rows))
		again, err := back.FullState()
		require.NoError(t, err)
		require.Equal(t, got, again)
		require.ErrorContains(t, m.Renew([]int32{int32(rows)}), "renewed")
	})
}

// What 1,000 vectors measured stays, even where some of them go.
func TestStatisticsStayWhenItemsGo(t *testing.T) {
	h := Hyper{Name: "sasrec", Dim: 4, Layers: 1, Heads: 1, Inner: 4, MaxLen: 4}
	m, err := New(h, settled+10, Options{Seed: 1, Threads: 1, Knowledge: tinyKnowledge})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	var rows []int32
	for r := range settled {
		rows = append(rows, int32(vocab.FirstItem+r))
	}
	require.NoError(t, m.SetKnowledge(rows, vectorsOf(rand.New(rand.NewPCG(1, 1)), settled)))
	was := m.knowledge.stats
	require.NoError(t, m.Renew(rows[:500]))
	state, err := m.FullState()
	require.NoError(t, err)
	require.NoError(t, m.RestoreFull(state, m.rows))
	require.NoError(t, m.SetKnowledge(rows[:1], vectorsOf(rand.New(rand.NewPCG(2, 2)), 1)))
	require.Equal(t, was, m.knowledge.stats)
	// A state of when nothing was forgotten has what it holds.
	delete(state, knowledgeGiven)
	require.NoError(t, m.RestoreFull(state, m.rows))
	require.Equal(t, settled-500, m.knowledge.given)
}

func TestTwoItemsWithEqualVectorsHaveEqualColdScores(t *testing.T) {
	m := withKnowledge(t, tiny, Options{Seed: 5, IDDropout: 0.3})
	r := rand.New(rand.NewPCG(2, 2))
	for step := range uint64(20) {
		_, err := m.Learn(t.Context(), randomBatch(r, 5, 12), step)
		require.NoError(t, err)
	}
	v := vectorsOf(r, 2)
	scores, err := cold(t, m, [][]float32{v[0], v[0], v[1]}).Scores(t.Context(), [][]int32{{2, 3}, {12, 4}})
	require.NoError(t, err)
	for _, s := range scores {
		require.Equal(t, s[12], s[13])
		require.NotEqual(t, s[12], s[14])
	}
}

func TestVectorsThatDoNotFitAreRefused(t *testing.T) {
	m := withKnowledge(t, tiny, Options{Seed: 5})
	before, err := m.FullState()
	require.NoError(t, err)
	good, v := make([]float32, tinyKnowledge), make([]float32, tinyKnowledge)
	v[2] = float32(math.Inf(1))
	for want, c := range map[string]struct {
		rows    []int32
		vectors [][]float32
	}{
		"row 12, which is no item": {[]int32{12}, [][]float32{good}},
		"row 1, which is no item":  {[]int32{vocab.Unknown}, [][]float32{good}},
		"of 3 numbers":             {[]int32{2, 3}, [][]float32{good, good[:3]}},
		"1 knowledge vectors for":  {[]int32{2, 3}, [][]float32{good}},
		"row 3: the knowledge":     {[]int32{2, 3}, [][]float32{good, v}},
	} {
		require.ErrorContains(t, m.SetKnowledge(c.rows, c.vectors), want)
	}
	after, err := m.FullState()
	require.NoError(t, err)
	require.Equal(t, before, after)

	base := newTiny(t, tiny, Options{})
	require.ErrorContains(t, base.SetKnowledge([]int32{2}, [][]float32{good}), "knowledge_dim")
	require.ErrorContains(t, base.RestoreFull(after, 12), "knowledge_dim")
	wider, err := New(tiny, 12, Options{Threads: 1, Knowledge: 9})
	require.NoError(t, err)
	defer wider.Close()
	require.ErrorContains(t, wider.RestoreFull(after, 12), tower.Weight)
	plain, err := base.FullState()
	require.NoError(t, err)
	require.ErrorContains(t, m.RestoreFull(plain, 12), "lacks item_tower")
	again, err := m.FullState()
	require.NoError(t, err)
	require.Equal(t, before, again, "a state that was refused changed nothing")
}
