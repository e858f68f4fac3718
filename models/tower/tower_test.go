package tower

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/snapshot"
)

func TestStatisticsCentreAndScale(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	vectors := [][]float32{nil}
	for range 200 {
		vectors = append(vectors, []float32{50 + float32(r.NormFloat64()), -3, float32(4 * r.NormFloat64())}, nil)
	}
	s := Measure(vectors, 3)
	sum, square := make([]float64, 3), 0.0
	for _, v := range vectors {
		if v == nil {
			continue
		}
		for i, x := range s.Normalise(v) {
			sum[i] += float64(x)
			square += float64(x) * float64(x)
		}
	}
	for _, x := range sum {
		require.InDelta(t, 0, x/200, 1e-5)
	}
	require.InDelta(t, 1, square/200, 1e-4)
}

func TestStatisticsOfNothingAndOfOneVectorAreFinite(t *testing.T) {
	require.Equal(t, Identity(2), Measure(nil, 2))
	require.Equal(t, Statistics{[]float32{0.1, 0.7}, 1}, Measure([][]float32{{0.1, 0.7}, nil, {0.1, 0.7}}, 2))
}

// The loss <c, n> has the gradient c by n; by v it is what finite differences say.
func TestGradientByAVectorIsThatThroughItsNormalisation(t *testing.T) {
	s := Statistics{[]float32{1, -2, 0.5}, 4}
	c, v := []float32{3, -1, 0.25}, []float32{0.5, 0.25, -1}
	loss := func() (sum float64) {
		for i, n := range s.Normalise(v) {
			sum += float64(c[i]) * float64(n)
		}
		return sum
	}
	for i, got := range s.Gradient(c) {
		const h = 1.0 / 64
		was := v[i]
		v[i] = was + h
		up := loss()
		v[i] = was - h
		down := loss()
		v[i] = was
		require.InDelta(t, (up-down)/(2*h), got, 1e-4)
	}
}

func published() map[string]snapshot.Tensor {
	return map[string]snapshot.Tensor{
		Weight:    {Shape: []int64{2, 3}, Data: []float32{1, 2, 3, 4, 5, 6}},
		Mean:      {Shape: []int64{3}, Data: []float32{1, 0, 1}},
		Scale:     {Shape: []int64{1}, Data: []float32{2}},
		itemTable: {Shape: []int64{3, 2}, Data: []float32{9, 9, 0.5, -1, 9, 9}},
	}
}

// n = 2 ([2 1 0] - [1 0 1]) = [2 2 -2].
func TestARowByHand(t *testing.T) {
	tower, err := New(published())
	require.NoError(t, err)
	require.True(t, tower.Reads())
	row, err := tower.Row([]float32{2, 1, 0})
	require.NoError(t, err)
	require.Equal(t, []float32{0.5 + 2 + 4 - 6, -1 + 8 + 10 - 12}, row)
	require.Equal(t, 3, tower.Dim())
	_, err = tower.Row([]float32{2, 1})
	require.ErrorContains(t, err, "a vector of 2 numbers, the model was trained with 3")
	_, err = tower.Row([]float32{2, float32(math.NaN()), 1})
	require.ErrorContains(t, err, "not finite")
}

// As a tower begins: its model has learnt from no vector.
func TestATowerOfZerosReadsNothing(t *testing.T) {
	tensors := published()
	tensors[Weight] = snapshot.Tensor{Shape: []int64{2, 3}, Data: make([]float32, 6)}
	tower, err := New(tensors)
	require.NoError(t, err)
	require.False(t, tower.Reads())
}

func TestABaseHasNoTower(t *testing.T) {
	tensors := published()
	delete(tensors, Weight)
	tower, err := New(tensors)
	require.NoError(t, err)
	require.Nil(t, tower)
}

func TestTensorsThatDoNotFitAreRefused(t *testing.T) {
	for name, shape := range map[string][]int64{Weight: {6}, Mean: {2}, Scale: {2}, itemTable: {3, 3}} {
		tensors := published()
		x := tensors[name]
		x.Shape = shape
		tensors[name] = x
		_, err := New(tensors)
		require.ErrorContains(t, err, name)
	}
	for _, name := range []string{Mean, Scale, itemTable} {
		tensors := published()
		delete(tensors, name)
		_, err := New(tensors)
		require.ErrorContains(t, err, name)
	}
}
