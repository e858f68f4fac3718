package onnx

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/seqrec"
	"seralm/models/snapshot"
	"seralm/models/vocab"
)

func TestMain(m *testing.M) {
	if err := Init(os.Getenv("SERALM_ONNXRUNTIME")); err != nil {
		println(err.Error())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// trained returns a model whose weights are far from their first values, and its
// snapshot.
func trained(t testing.TB, h seqrec.Hyper, rows int) (*snapshot.Snapshot, *seqrec.Model) {
	t.Helper()
	return trainedWith(t, h, rows, 0)
}

// trainedWith is trained with knowledge: every other item has a vector of so many numbers.
func trainedWith(t testing.TB, h seqrec.Hyper, rows, knowledge int) (*snapshot.Snapshot, *seqrec.Model) {
	t.Helper()
	m, err := seqrec.New(h, rows, seqrec.Options{Seed: 1, Threads: 1, Knowledge: knowledge})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	r := rand.New(rand.NewPCG(1, 2))
	for row := int32(vocab.FirstItem); knowledge > 0 && int(row) < rows; row += 2 {
		require.NoError(t, m.SetKnowledge([]int32{row}, [][]float32{randomVector(r, knowledge)}))
	}
	state, err := m.FullState()
	require.NoError(t, err)
	for _, name := range slices.Sorted(maps.Keys(state)) {
		if _, learnt := state["adam.m."+name]; !learnt {
			continue
		}
		for i := range state[name].Data {
			state[name].Data[i] += float32(0.2 * r.NormFloat64())
		}
	}
	require.NoError(t, m.RestoreFull(state, rows))
	s := &snapshot.Snapshot{}
	s.Architecture = m.Architecture()
	s.Tensors, err = m.State()
	require.NoError(t, err)
	return s, m
}

var small = seqrec.Hyper{Name: "sasrec", Dim: 16, Layers: 2, Heads: 2, Inner: 32, MaxLen: 12}

func randomHistory(r *rand.Rand, n, rows int) []int32 {
	h := make([]int32, n)
	for i := range h {
		h[i] = int32(vocab.Unknown + r.IntN(rows-vocab.Unknown))
	}
	return h
}

func randomVector(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

func top(scores []float32, n int) []int {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		if scores[a] > scores[b] {
			return -1
		}
		return 1
	})
	return order[:n]
}

func TestTheProbeTellsAModelThatIsNotTheTrainers(t *testing.T) {
	snap, model := trained(t, small, 50)
	snap.Probe.Histories = [][]int32{{2, 3, 4}, {5}}
	scores, err := model.Scores(t.Context(), snap.Probe.Histories)
	require.NoError(t, err)
	for _, s := range scores {
		snap.Probe.Rows = append(snap.Probe.Rows, []int32{2, 17, 49})
		snap.Probe.Scores = append(snap.Probe.Scores, []float32{s[2], s[17], s[49]})
	}
	s, err := NewScorer(snap)
	require.NoError(t, err)
	defer s.Close()
	worst, err := s.Verify(1e-4)
	require.NoError(t, err)
	require.Less(t, worst, 1e-4)
	snap.Probe.Scores[1][2] += 0.01
	_, err = s.Verify(1e-4)
	require.ErrorContains(t, err, "differ")
}

func TestASnapshotThatDoesNotFitIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(*snapshot.Snapshot)
		want   string
	}{
		"a missing tensor": {func(s *snapshot.Snapshot) { delete(s.Tensors, "LayerNorm.bias") }, "lacks tensor LayerNorm.bias"},
		"a wrong shape":    {func(s *snapshot.Snapshot) { s.Architecture.Inner = 7 }, "dense_1.weight is [32 16]"},
		"no table":         {func(s *snapshot.Snapshot) { delete(s.Tensors, "item_embedding.weight") }, "item table"},
		"unknown":          {func(s *snapshot.Snapshot) { s.Architecture.Name = "gru" }, `"gru"`},
		"heads":            {func(s *snapshot.Snapshot) { s.Architecture.Heads = 3 }, "impossible sizes"},
	} {
		t.Run(name, func(t *testing.T) {
			snap, _ := trained(t, small, 20)
			c.damage(snap)
			_, err := NewScorer(snap)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestBadHistoriesAreErrors(t *testing.T) {
	snap, _ := trained(t, small, 20)
	s, err := NewScorer(snap)
	require.NoError(t, err)
	out := make([]float32, 20)
	require.ErrorContains(t, s.Score(nil, out), "empty")
	require.ErrorContains(t, s.Score([]int32{20}, out), "row 20")
	require.ErrorContains(t, s.Score([]int32{-1}, out), "row -1")
	require.ErrorContains(t, s.Score([]int32{2}, out[:3]), "room for 3")
	s.Close()
	s.Close()
	require.ErrorIs(t, s.Score([]int32{2}, out), ErrClosed)
	require.ErrorContains(t, Init("/elsewhere/libonnxruntime.so"), "cannot load it from")
}

// Rows behind a snapshot's own score, in the history and as candidates, as if the
// snapshot had them.
func TestFurtherRowsAreAsGoodAsTheSnapshotsOwn(t *testing.T) {
	const rows, learnt = 60, 50
	whole, _ := trained(t, small, rows)
	table := whole.Tensors["item_embedding.weight"]
	part := &snapshot.Snapshot{Manifest: whole.Manifest, Tensors: maps.Clone(whole.Tensors)}
	part.Architecture.Rows = learnt
	part.Tensors["item_embedding.weight"] = snapshot.Tensor{Shape: []int64{learnt, int64(small.Dim)}, Data: table.Data[:learnt*small.Dim]}
	var extra [][]float32
	for row := range slices.Chunk(table.Data[learnt*small.Dim:], small.Dim) {
		extra = append(extra, row)
	}

	want, err := NewScorer(whole)
	require.NoError(t, err)
	defer want.Close()
	s, err := NewScorer(part)
	require.NoError(t, err)
	few, err := s.WithRows(extra[:3])
	require.NoError(t, err)
	s.Close()
	all, err := few.WithRows(extra)
	require.NoError(t, err, "the snapshot's rows and these, not those of few as well")
	defer all.Close()
	require.Equal(t, []int{learnt, learnt + 3, rows}, []int{s.Rows(), few.Rows(), all.Rows()})
	require.Equal(t, extra[9], all.ItemVector(rows-1))

	r := rand.New(rand.NewPCG(3, 4))
	expected, got := make([]float32, rows), make([]float32, rows)
	for range 100 {
		history := randomHistory(r, 1+r.IntN(12), rows)
		require.NoError(t, want.Score(history, expected))
		require.NoError(t, all.Score(history, got))
		require.InDeltaSlice(t, expected[vocab.FirstItem:], got[vocab.FirstItem:], 1e-5)
	}
	few.Close()
	require.ErrorIs(t, few.Score([]int32{2}, got[:learnt+3]), ErrClosed)
	require.NoError(t, all.Score([]int32{rows - 1}, got), "the last of a session keeps it")
	require.ErrorContains(t, all.Score([]int32{rows}, got), "row 60 is not among the 60 rows")
	_, err = all.WithRows([][]float32{{1, 2}})
	require.ErrorContains(t, err, "has 2 numbers")
	all.Close()
	require.Zero(t, all.uses.Load())
}

// Sessions come and go under load: no failure but ErrClosed, no growth.
func TestScorersComeAndGoWithCallsInFlight(t *testing.T) {
	snap, _ := trained(t, small, 50)
	cycle := func(n int) {
		for range n {
			first, err := NewScorer(snap)
			require.NoError(t, err)
			s, err := first.WithRows(nil)
			require.NoError(t, err)
			first.Close()
			var wg sync.WaitGroup
			for g := range 3 {
				wg.Go(func() {
					out := make([]float32, 50)
					for i := range 6 {
						if err := s.Score([]int32{2, int32(3 + g), int32(3 + i)}, out); err != nil && !errors.Is(err, ErrClosed) {
							t.Error(err)
						}
					}
				})
			}
			s.Close()
			wg.Wait()
		}
	}
	cycle(100)
	before := residentKB(t)
	cycle(500)
	require.Less(t, residentKB(t)-before, 16<<10, "resident memory grew over 500 sessions, kB")
}

func residentKB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(v)[0])
			require.NoError(t, err)
			return n
		}
	}
	t.Fatal("no VmRSS in /proc/self/status")
	return 0
}
