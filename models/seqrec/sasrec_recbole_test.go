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

// recboleFixture is what testdata/recbole/sasrec.py writes.
type recboleFixture struct {
	Sizes struct {
		Layers int `json:"n_layers"`
		Heads  int `json:"n_heads"`
		Dim    int `json:"hidden_size"`
		Inner  int `json:"inner_size"`
		MaxLen int `json:"MAX_ITEM_LIST_LENGTH"`
	}
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

func readRecBole(t *testing.T) (*recboleFixture, *Model) {
	t.Helper()
	text, err := os.ReadFile("testdata/recbole/sasrec.json")
	require.NoError(t, err)
	var f recboleFixture
	require.NoError(t, json.Unmarshal(text, &f))
	f.Weights[itemTable] = f.table(f.Weights[itemTable])
	f.Gradients[itemTable] = f.table(f.Gradients[itemTable])

	rows := f.Items + recboleShift
	s := f.Sizes
	m, err := New(Hyper{Name: "sasrec", Dim: s.Dim, Layers: s.Layers, Heads: s.Heads, Inner: s.Inner, MaxLen: s.MaxLen}, rows, Options{Threads: 1})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	require.NoError(t, m.Restore(f.Weights, rows))
	return &f, m
}

func TestSASRecScoresAsRecBole(t *testing.T) {
	f, m := readRecBole(t)
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
}

// RecBole trains on each prefix by itself, we on all positions in one pass.
func TestSASRecLearnsAsRecBole(t *testing.T) {
	f, m := readRecBole(t)
	var batch []Sequence
	for _, s := range f.Sequences {
		batch = append(batch, Sequence{Items: f.rows(s)})
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
}
