package onnx

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	ort "github.com/yalue/onnxruntime_go"

	"seralm/models/seqrec"
	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/models/vocab"
)

// The graphs against libtorch's models.

var architectures = map[string]seqrec.Hyper{
	"sasrec":                 small,
	"sasrec of one layer":    {Name: "sasrec", Dim: 16, Layers: 1, Heads: 4, Inner: 32, MaxLen: 12},
	"sasrec of three layers": {Name: "sasrec", Dim: 16, Layers: 3, Heads: 1, Inner: 32, MaxLen: 12},
	"gru4rec":                {Name: "gru4rec", Dim: 16, Layers: 1, Inner: 24, MaxLen: 12},
	"gru4rec of two layers":  {Name: "gru4rec", Dim: 16, Layers: 2, Inner: 12, MaxLen: 12},
	"lightsans":              {Name: "lightsans", Dim: 16, Layers: 2, Heads: 2, Inner: 32, MaxLen: 12, Interests: 3},
	"lightsans of one layer": {Name: "lightsans", Dim: 16, Layers: 1, Heads: 4, Inner: 32, MaxLen: 9, Interests: 1},
	"paup":                   {Name: "paup", Dim: 32, Layers: 2, Heads: 2, Inner: 48, MaxLen: 12, Segments: 3, Kernel: 2},
	"paup with padding":      {Name: "paup", Dim: 16, Layers: 3, Heads: 2, Inner: 32, MaxLen: 10, Segments: 4, Kernel: 2},
	"caser":                  {Name: "caser", Dim: 16, MaxLen: 6, Vertical: 4, Horizontal: 8},
	"caser of one item":      {Name: "caser", Dim: 8, MaxLen: 1, Vertical: 1, Horizontal: 2},
}

// histories are of every length, the model's limit and more included.
func histories(n, maxLen, rows int) [][]int32 {
	r := rand.New(rand.NewPCG(3, 4))
	out := make([][]int32, n)
	for i := range out {
		out[i] = randomHistory(r, 1+i%(maxLen+3), rows)
	}
	return out
}

// requireSame says that two vectors of scores are the same but for rounding: each score,
// and the ten best in their order, in which scores closer than rounding may change places.
func requireSame(t *testing.T, want, got []float32) {
	t.Helper()
	require.Len(t, got, len(want))
	worst := 0.0
	for row := range want {
		diff := math.Abs(float64(want[row] - got[row]))
		require.False(t, math.IsNaN(diff), "row %d: %v and %v", row, want[row], got[row])
		worst = max(worst, diff)
	}
	require.LessOrEqual(t, worst, 1e-4)
	best := top(got, 10)
	for k, row := range top(want, 10) {
		require.InDelta(t, want[row], want[best[k]], 1e-5, "place %d", k+1)
	}
}

func TestTheGraphScoresAsTheModelDoes(t *testing.T) {
	const rows = 400
	for name, h := range architectures {
		t.Run(name, func(t *testing.T) {
			snap, model := trained(t, h, rows)
			s, err := NewScorer(snap)
			require.NoError(t, err)
			defer s.Close()
			histories := histories(1000, h.MaxLen, rows)
			want, err := model.Scores(t.Context(), histories)
			require.NoError(t, err)
			got := make([]float32, rows)
			for i, history := range histories {
				require.NoError(t, s.Score(history, got))
				requireSame(t, want[i][vocab.FirstItem:], got[vocab.FirstItem:])
				require.True(t, math.IsInf(float64(got[vocab.Padding]), -1) && math.IsInf(float64(got[vocab.Unknown]), -1))
			}
		})
	}
}

func TestWhatTheHistoryHoldsIsGivenItsBiasOnce(t *testing.T) {
	const rows, rho = 20, -1.5 // few rows: items repeat
	for name, h := range architectures {
		t.Run(name, func(t *testing.T) {
			snap, model := trained(t, h, rows)
			snap.Tensors[historyBias] = snapshot.Tensor{Shape: []int64{1}, Data: []float32{rho}}
			s, err := NewScorer(snap)
			require.NoError(t, err)
			defer s.Close()
			histories := histories(100, h.MaxLen, rows)
			want, err := model.Scores(t.Context(), histories)
			require.NoError(t, err)
			got := make([]float32, rows)
			for i, history := range histories {
				kept := history[max(0, len(history)-h.MaxLen):]
				for row := range want[i] {
					if slices.Contains(kept, int32(row)) {
						want[i][row] += rho
					}
				}
				require.NoError(t, s.Score(history, got))
				requireSame(t, want[i][vocab.FirstItem:], got[vocab.FirstItem:])
			}
			snap.Tensors[historyBias] = snapshot.Tensor{Shape: []int64{2}, Data: []float32{1, 2}}
			_, err = NewScorer(snap)
			require.ErrorContains(t, err, "tensor history_bias is [2]")
		})
	}
}

// A model with knowledge publishes the table of a Base, so the graph knows no other; and
// rows that only a text is known of are added to the table behind the model's own.
func TestAFoldedTableScoresAsTheModelDoesAndTakesMoreRows(t *testing.T) {
	const rows, added, k = 60, 15, 6
	for name, h := range architectures {
		t.Run(name, func(t *testing.T) {
			snap, model := trainedWith(t, h, rows, k)
			graph, err := Export(snap.Architecture, snap.Tensors)
			require.NoError(t, err)
			compare := func(model *seqrec.Model, table snapshot.Tensor) {
				histories := histories(300, h.MaxLen, int(table.Shape[0]))
				want, err := model.Scores(t.Context(), histories)
				require.NoError(t, err)
				for i, got := range run(t, graph, table, h.MaxLen, histories) {
					requireSame(t, want[i][vocab.FirstItem:], got[vocab.FirstItem:])
				}
			}
			table := snap.Tensors["item_embedding.weight"]
			compare(model, table)

			byText, err := tower.New(snap.Tensors)
			require.NoError(t, err)
			r := rand.New(rand.NewPCG(7, 8))
			for range added {
				row, err := byText.Row(randomVector(r, k))
				require.NoError(t, err)
				table.Data = append(table.Data, row...)
			}
			table.Shape = []int64{rows + added, int64(h.Dim)}
			snap.Tensors["item_embedding.weight"] = table
			larger, err := seqrec.New(h, rows+added, seqrec.Options{Seed: 1, Threads: 1})
			require.NoError(t, err)
			defer larger.Close()
			require.NoError(t, larger.Restore(snap.Tensors, rows+added))
			compare(larger, table)
		})
	}
}

// run runs a graph with a table of any height.
func run(t *testing.T, graph []byte, table snapshot.Tensor, maxLen int, histories [][]int32) [][]float32 {
	t.Helper()
	session, err := ort.NewDynamicAdvancedSessionWithONNXData(graph, []string{inputHistory, inputItems}, []string{outputScores}, nil)
	require.NoError(t, err)
	defer session.Destroy()
	items, err := ort.NewTensor(ort.NewShape(table.Shape...), table.Data)
	require.NoError(t, err)
	defer items.Destroy()
	scores, err := ort.NewEmptyTensor[float32](ort.NewShape(1, table.Shape[0]))
	require.NoError(t, err)
	defer scores.Destroy()
	var out [][]float32
	for _, h := range histories {
		var ids []int64
		for _, r := range h[max(0, len(h)-maxLen):] {
			ids = append(ids, int64(r))
		}
		history, err := ort.NewTensor(ort.NewShape(1, int64(len(ids))), ids)
		require.NoError(t, err)
		require.NoError(t, session.Run([]ort.Value{history, items}, []ort.Value{scores}))
		require.NoError(t, history.Destroy())
		out = append(out, slices.Clone(scores.GetData()))
	}
	return out
}

func TestPaddingIsNothingWhateverTheTableSaysOfIt(t *testing.T) {
	for name, h := range architectures {
		t.Run(name, func(t *testing.T) {
			snap, _ := trained(t, h, 30)
			scores := func() []float32 {
				s, err := NewScorer(snap)
				require.NoError(t, err)
				defer s.Close()
				out := make([]float32, 30)
				require.NoError(t, s.Score([]int32{5}, out))
				return out
			}
			want := scores()
			for i := range h.Dim {
				snap.Tensors["item_embedding.weight"].Data[i] = 7
			}
			require.Equal(t, want, scores())
		})
	}
}

func TestATensorThatIsMissingOrHasAnotherShapeIsNamed(t *testing.T) {
	for name, h := range architectures {
		t.Run(name, func(t *testing.T) {
			snap, _ := trained(t, h, 10)
			for tensor, was := range maps.Clone(snap.Tensors) {
				if tensor == "item_embedding.weight" {
					continue // an input
				}
				delete(snap.Tensors, tensor)
				_, err := Export(snap.Architecture, snap.Tensors)
				require.ErrorContains(t, err, "lacks tensor "+tensor)
				snap.Tensors[tensor] = snapshot.Tensor{Shape: append(slices.Clone(was.Shape), 1), Data: was.Data}
				_, err = Export(snap.Architecture, snap.Tensors)
				require.ErrorContains(t, err, "tensor "+tensor+" is [")
				snap.Tensors[tensor] = was
			}
			_, err := Export(snap.Architecture, snap.Tensors)
			require.NoError(t, err)
		})
	}
}

func TestSizesThatCannotBeAreRefused(t *testing.T) {
	for name, h := range architectures {
		t.Run(name, func(t *testing.T) {
			snap, _ := trained(t, h, 10)
			sizes := []func(*snapshot.Architecture) *int{
				func(a *snapshot.Architecture) *int { return &a.Dim },
				func(a *snapshot.Architecture) *int { return &a.MaxLen },
				func(a *snapshot.Architecture) *int { return &a.Layers },
				func(a *snapshot.Architecture) *int { return &a.Heads },
				func(a *snapshot.Architecture) *int { return &a.Inner },
				func(a *snapshot.Architecture) *int { return &a.Interests },
				func(a *snapshot.Architecture) *int { return &a.Segments },
				func(a *snapshot.Architecture) *int { return &a.Kernel },
				func(a *snapshot.Architecture) *int { return &a.Vertical },
				func(a *snapshot.Architecture) *int { return &a.Horizontal },
			}
			for _, size := range sizes {
				for _, wrong := range []int{0, -1} {
					a := snap.Architecture
					if *size(&a) == 0 {
						continue // not one of its sizes
					}
					*size(&a) = wrong
					_, err := Export(a, snap.Tensors)
					require.ErrorContains(t, err, "exporting "+h.Name+": impossible sizes")
				}
			}
		})
	}
}

// ML-1M's size: 3,708 rows, d 64, 50 items of history; Caser's 10.
func BenchmarkScore(b *testing.B) {
	const rows = 3708
	for _, h := range []seqrec.Hyper{
		{Name: "sasrec", Dim: 64, Layers: 2, Heads: 2, Inner: 256, MaxLen: 50},
		{Name: "gru4rec", Dim: 64, Layers: 1, Inner: 128, MaxLen: 50},
		{Name: "lightsans", Dim: 64, Layers: 2, Heads: 2, Inner: 256, MaxLen: 50, Interests: 5},
		{Name: "paup", Dim: 64, Layers: 2, Heads: 2, Inner: 256, MaxLen: 50, Segments: 4, Kernel: 10},
		{Name: "caser", Dim: 64, MaxLen: 10, Vertical: 4, Horizontal: 8},
	} {
		b.Run(h.Name, func(b *testing.B) {
			snap, _ := trained(b, h, rows)
			s, err := NewScorer(snap)
			require.NoError(b, err)
			defer s.Close()
			history := randomHistory(rand.New(rand.NewPCG(5, 6)), 50, rows)
			out := make([]float32, rows)
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Score(history, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
