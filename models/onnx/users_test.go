package onnx

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/vocab"
)

// The vectors make the scores that libtorch's model gives, and a history with a row that
// the table does not have is that of a table that has it.
func TestUserVectorsMakeTheModelsScores(t *testing.T) {
	const rows = 60
	for name, h := range architectures {
		t.Run(name, func(t *testing.T) {
			snap, model := trained(t, h, rows)
			users, err := NewUsers(snap, 2)
			require.NoError(t, err)
			defer users.Close()
			histories := histories(40, h.MaxLen, rows)
			want, err := model.Scores(t.Context(), histories)
			require.NoError(t, err)
			got, err := users.Users(t.Context(), histories, nil)
			require.NoError(t, err)
			table := snap.Tensors["item_embedding.weight"].Data
			row := func(r int) []float32 { return table[r*h.Dim : (r+1)*h.Dim] }
			for i, u := range got {
				for r := vocab.FirstItem; r < rows; r++ {
					require.InDelta(t, want[i][r], dot(u, row(r)), 1e-4)
				}
			}

			other := make([]float32, h.Dim)
			for i := range other {
				other[i] = row(7)[i]/2 + 0.1
			}
			changed, err := users.Users(t.Context(), [][]int32{{9, 5, 7}, {9, 5, rows + 1}}, [][]float32{row(5), other})
			require.NoError(t, err)
			require.NotEqual(t, changed[0], changed[1])
			copy(row(7), other)
			moved, err := NewUsers(snap, 0)
			require.NoError(t, err)
			defer moved.Close()
			same, err := moved.Users(t.Context(), [][]int32{{9, 5, 7}}, nil)
			require.NoError(t, err)
			require.Equal(t, same[0], changed[1])
		})
	}
}

func dot(a, b []float32) (sum float64) {
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}

func TestUserVectorsThatCannotBe(t *testing.T) {
	snap, _ := trained(t, small, 60)
	users, err := NewUsers(snap, 1)
	require.NoError(t, err)
	row := make([]float32, small.Dim)
	for problem, ask := range map[string]struct {
		history []int32
		extra   [][]float32
	}{
		"history 0 is empty":              {nil, nil},
		"item row 0 is not among":         {[]int32{vocab.Padding}, nil},
		"item row 60 is not among the 60": {[]int32{60}, nil},
		"2 rows beside the table":         {[]int32{5}, [][]float32{row, row}},
		"has 1 numbers":                   {[]int32{5}, [][]float32{{1}}},
	} {
		_, err := users.Users(t.Context(), [][]int32{ask.history}, ask.extra)
		require.ErrorContains(t, err, problem)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = users.Users(ctx, [][]int32{{5}}, nil)
	require.ErrorIs(t, err, context.Canceled)
	users.Close()
	users.Close()
	_, err = users.Users(t.Context(), [][]int32{{5}}, nil)
	require.ErrorIs(t, err, ErrClosed)

	snap.Architecture.Rows++
	_, err = NewUsers(snap, 1)
	require.ErrorContains(t, err, "item table is [60 16], the architecture says [61 16]")
}
