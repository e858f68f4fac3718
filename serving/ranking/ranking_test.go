package ranking

import (
	"math"
	"math/rand/v2"
	"sort"
	"testing"

	"github.com/stretchr/testify/require"
)

// reference ranks by sorting everything.
func reference(scores []float32, n int) []Scored {
	var all []Scored
	for row, s := range scores {
		if !math.IsNaN(float64(s)) && !math.IsInf(float64(s), 0) {
			all = append(all, Scored{int32(row), s})
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Score > all[j].Score })
	return all[:min(n, len(all))]
}

func TestTopEqualsASortOfEverything(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var top Top
	for range 300 {
		scores := make([]float32, rng.IntN(200))
		for i := range scores {
			scores[i] = float32(rng.IntN(40)) - 20 // many ties
			switch rng.IntN(12) {
			case 0:
				scores[i] = float32(math.NaN())
			case 1:
				scores[i] = float32(math.Inf(-1))
			}
		}
		n := rng.IntN(30)
		top.Reset(n)
		for _, row := range rng.Perm(len(scores)) {
			top.Offer(int32(row), scores[row])
		}
		want, got := reference(scores, n), top.Sorted()
		require.Len(t, got, len(want))
		for i := range want {
			require.Equal(t, want[i], got[i])
		}
	}
}

func TestScanEqualsOfferingWhatTheFilterAdmits(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		scores := make([]float32, rng.IntN(300))
		for i := range scores {
			scores[i] = float32(rng.IntN(40))
			if rng.IntN(10) == 0 {
				scores[i] = float32(math.NaN())
			}
		}
		n, keep := rng.IntN(20), func(row int32) bool { return row%3 != 0 }
		var scanned, offered Top
		scanned.Reset(n)
		scanned.Scan(scores, keep)
		offered.Reset(n)
		for row, s := range scores {
			if keep(int32(row)) {
				offered.Offer(int32(row), s)
			}
		}
		require.Equal(t, offered.Sorted(), scanned.Sorted())
	}
}

func TestTopKeepsNoInfiniteScore(t *testing.T) {
	var top Top
	top.Reset(3)
	for row, s := range []float32{float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), math.MaxFloat32, -math.MaxFloat32} {
		top.Offer(int32(row), s)
	}
	require.Equal(t, []Scored{{3, math.MaxFloat32}, {4, -math.MaxFloat32}}, top.Sorted())
}

func TestTopAllocatesNothingOnceWarm(t *testing.T) {
	scores := make([]float32, 5000)
	for i := range scores {
		scores[i] = rand.Float32()
	}
	var top Top
	top.Reset(50)
	require.Zero(t, testing.AllocsPerRun(20, func() {
		top.Reset(50)
		for row, s := range scores {
			top.Offer(int32(row), s)
		}
		top.Sorted()
	}))
}

func BenchmarkTop10Of3400(b *testing.B)     { benchmark(b, 10, 3_400) }
func BenchmarkTop100Of1000000(b *testing.B) { benchmark(b, 100, 1_000_000) }

func benchmark(b *testing.B, n, rows int) {
	rng := rand.New(rand.NewPCG(1, 2))
	scores := make([]float32, rows)
	for i := range scores {
		scores[i] = rng.Float32()
	}
	var top Top
	for b.Loop() {
		top.Reset(n)
		top.Scan(scores, nil)
		top.Sorted()
	}
}
