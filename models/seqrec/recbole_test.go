package seqrec

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/snapshot"
	"seralm/models/vocab"
)

// recboleFixture is what testdata/recbole/fixtures.py writes.
type recboleFixture struct {
	Sizes                Hyper
	Items                int
	Weights, Gradients   map[string]snapshot.Tensor
	Logits               snapshot.Tensor
	Histories, Sequences [][]int32
	Targets              int
	Loss                 float64
}

// recboleShift turns RecBole's ids, whose items begin at 1, into rows.
const recboleShift = vocab.FirstItem - 1

// rows maps RecBole's ids. Padding is ours to choose.
func (f *recboleFixture) rows(ids []int32) []int32 {
	rows := slices.Clone(ids)
	for i := range rows {
		rows[i] += recboleShift
	}
	return rows
}

// table maps a table of RecBole's items; the rows that it lacks are 0.
func (f *recboleFixture) table(t snapshot.Tensor) snapshot.Tensor {
	d := f.Sizes.Dim
	data := append(make([]float32, vocab.FirstItem*d), t.Data[d:]...)
	return snapshot.Tensor{Shape: []int64{int64(len(data) / d), int64(d)}, Data: data}
}

func readRecBole(t *testing.T, name string) (*recboleFixture, *Model) {
	t.Helper()
	text, err := os.ReadFile("testdata/recbole/" + name + ".json")
	require.NoError(t, err)
	var f recboleFixture
	require.NoError(t, json.Unmarshal(text, &f))
	f.Weights[itemTable] = f.table(f.Weights[itemTable])
	f.Gradients[itemTable] = f.table(f.Gradients[itemTable])

	rows := f.Items + recboleShift
	m, err := New(f.Sizes, rows, Options{Threads: 1})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	require.NoError(t, m.Restore(f.Weights, rows))
	return &f, m
}

func TestEachModelScoresAsRecBole(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		f, m := readRecBole(t, h.Name)
		var histories [][]int32
		for _, h := range f.Histories {
			histories = append(histories, f.rows(h))
		}
		scores, err := m.Scores(t.Context(), histories)
		require.NoError(t, err)
		for i, row := range scores {
			want := f.Logits.Data[i*f.Items : (i+1)*f.Items]
			require.InDeltaSlice(t, want[1:], row[vocab.FirstItem:], 1e-5, "history %d", i)
		}
	})
}

// RecBole trains on each prefix by itself. So do we where a model is not causal; a causal
// one learns all positions in one pass.
func TestEachModelLearnsAsRecBole(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		f, m := readRecBole(t, h.Name)
		var batch []Sequence
		for _, s := range f.Sequences {
			items := f.rows(s)
			if m.encoder.causal() {
				batch = append(batch, Sequence{Items: items})
				continue
			}
			for at := 1; at < len(items); at++ {
				batch = append(batch, Sequence{Items: items[:at+1], From: at})
			}
		}
		gradient := gradients(t, m, batch)
		require.Len(t, gradient, len(f.Gradients))
		for name, want := range f.Gradients {
			require.InDeltaSlice(t, want.Data, gradient[name], 1e-4, name)
		}
		loss, err := m.Learn(t.Context(), batch, 0)
		require.NoError(t, err)
		require.Equal(t, f.Targets, loss.Targets)
		require.InDelta(t, f.Loss, loss.NLL, 1e-5)
	})
}
