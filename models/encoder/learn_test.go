package encoder

import (
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/tensor"
)

// learner is the tiny encoder, training.
func learner(t testing.TB, train string) *Encoder {
	t.Helper()
	return open(t, "testdata/tiny", Options{Threads: 1, Train: train, LearningRate: 1e-2, ClipNorm: 5})
}

// titles have different lengths, so that a batch of them holds padding; one is there
// twice.
var titles = []string{"Heat (1995)", "the film", "", "Amélie", strings.Repeat("crime thriller of the 90s ", 6), "love 007", "Heat (1995)", "noir"}

// random vectors, the same for the same seed.
func random(seed uint64, n, dim int) [][]float32 {
	r := rand.New(rand.NewPCG(seed, seed))
	out := make([][]float32, n)
	for i := range out {
		out[i] = make([]float32, dim)
		for j := range out[i] {
			out[i][j] = float32(r.NormFloat64())
		}
	}
	return out
}

func encode(t testing.TB, e *Encoder, texts []string) [][]float32 {
	t.Helper()
	vectors, err := e.Encode(t.Context(), texts)
	require.NoError(t, err)
	return vectors
}

// byWeight is the gradient of a step by each weight that is trained, without the step.
func byWeight(t *testing.T, e *Encoder, texts []string, byVector [][]float32, budget int) map[string][]float32 {
	t.Helper()
	out := map[string][]float32{}
	require.NoError(t, e.thread.Do(func(s *tensor.Scope) {
		require.NoError(t, e.backward(t.Context(), s, texts, byVector, budget))
		for name := range e.config.tensors() {
			if e.trains(name) {
				out[name] = s.Values(s.Gradient(e.params.Get(name)))
			}
		}
	}))
	return out
}

// What a step follows, against finite differences of the loss that Encode's vectors
// make: for every weight, along the gradient, and in random directions, which see what
// the gradient lacks.
func TestGradientsAreThoseOfFiniteDifferences(t *testing.T) {
	for train, weights := range map[string]int{last: 16, full: 37} {
		e := learner(t, train)
		c := random(1, len(titles), e.Dim())
		loss := func() (sum float64) {
			for i, v := range encode(t, e, titles) {
				sum += dot(c[i], v)
			}
			return sum
		}
		gradients := byWeight(t, e, titles, c, learnTokens)
		require.Len(t, gradients, weights)
		for i, name := range slices.Sorted(maps.Keys(gradients)) {
			g := gradients[name]
			norm, size := math.Sqrt(dot(g, g)), 1e-3 // of a step's numbers, or of a step: float32 sees either
			if strings.HasSuffix(name, "key.bias") {
				// It moves all scores of a query alike, which a softmax does not see.
				require.Less(t, norm, 1e-6)
			} else {
				require.Greater(t, norm, 0.1)
			}
			for j, step := range append(random(uint64(i), 2, len(g)), slices.Clone(g)) {
				scale := size
				if j == 2 {
					scale = 3 * size / norm
				}
				for k := range step {
					step[k] *= float32(scale)
				}
				up := moved(t, e, name, step, 1, loss)
				down := moved(t, e, name, step, -1, loss)
				require.InDelta(t, dot(g, step), (up-down)/2, 0.005*norm*size+1e-6, "%s: %s", train, name)
			}
		}
	}
}

// moved is f where a weight is moved by sign times the step.
func moved(t *testing.T, e *Encoder, name string, step []float32, sign float64, f func() float64) float64 {
	t.Helper()
	var kept []float32
	require.NoError(t, e.thread.Do(func(s *tensor.Scope) {
		w := e.params.Get(name)
		kept = s.Values(w)
		s.AddInPlace(w, s.MulScalar(s.F32(step, w.Shape()...), sign))
	}))
	value := f()
	require.NoError(t, e.thread.Do(func(s *tensor.Scope) {
		w := e.params.Get(name)
		s.CopyInPlace(w, s.F32(kept, w.Shape()...))
	}))
	return value
}

// Vectors are drawn towards ones that the texts alone do not suggest.
func TestVectorsMoveWhereTheGradientPoints(t *testing.T) {
	texts := titles[:6]
	for name, o := range map[string]Options{last: {Train: last}, full: {Train: full}, "full, bf16": {Train: full, Type: "bf16"}} {
		t.Run(name, func(t *testing.T) {
			o.Threads, o.LearningRate, o.ClipNorm = 1, 3e-3, 1
			e := open(t, "testdata/tiny", o)
			targets := random(2, len(texts), e.Dim())
			for _, w := range targets {
				length := math.Sqrt(dot(w, w))
				for i := range w {
					w[i] /= float32(length)
				}
			}
			// The loss is half the squared distance: its gradient is the difference.
			step := func() (loss float64) {
				gradients := encode(t, e, texts)
				for i, g := range gradients {
					for j := range g {
						g[j] -= targets[i][j]
					}
					loss += dot(g, g) / 2
				}
				_, err := e.Learn(t.Context(), texts, gradients)
				require.NoError(t, err)
				return loss
			}
			first, now := step(), 0.0
			for range 30 {
				now = step()
			}
			t.Logf("loss %.3g, then %.3g", first, now)
			require.Less(t, now, first/2)
		})
	}
}

// In full, of the tables only the rows that the texts name.
func TestOnlyWhatIsTrainedMoves(t *testing.T) {
	for _, train := range []string{last, full} {
		e := learner(t, train)
		read := func() map[string][]float32 {
			out := map[string][]float32{}
			require.NoError(t, e.thread.Do(func(s *tensor.Scope) {
				for name := range e.config.tensors() {
					out[name] = s.Values(e.stored(name))
				}
			}))
			return out
		}
		before := read()
		norm, err := e.Learn(t.Context(), titles, random(1, len(titles), e.Dim()))
		require.NoError(t, err)
		require.Positive(t, norm)
		for name, now := range read() {
			if train == full || strings.HasPrefix(name, "encoder.layer.1.") {
				require.NotEqual(t, before[name], now, name)
			} else {
				require.Equal(t, before[name], now, name)
			}
			if name == "embeddings.word_embeddings.weight" {
				mask := e.Dim() * 4 // [MASK] is in no text
				require.Equal(t, before[name][mask:mask+e.Dim()], now[mask:mask+e.Dim()])
			}
		}
	}
}

// How a step is cut into passes is not for its outcome to show.
func TestAStepInManyPassesIsThatInOne(t *testing.T) {
	e := learner(t, full)
	c := random(1, len(titles), e.Dim())
	want := byWeight(t, e, titles, c, 1<<20)
	for _, budget := range []int{1, 40} {
		for name, g := range byWeight(t, e, titles, c, budget) {
			require.InDeltaSlice(t, want[name], g, 1e-4, name)
		}
	}
}

// In bf16 the same gradients, as far as bf16 goes.
func TestGradientsInBF16(t *testing.T) {
	e := learner(t, full)
	half := open(t, "testdata/tiny", Options{Threads: 1, Train: full, LearningRate: 1e-2, Type: "bf16"})
	c := random(1, len(titles), e.Dim())
	want := byWeight(t, e, titles, c, learnTokens)
	for name, g := range byWeight(t, half, titles, c, learnTokens) {
		if !strings.HasSuffix(name, "key.bias") { // nothing but rounding
			w := want[name]
			require.Greater(t, dot(w, g)/math.Sqrt(dot(w, w)*dot(g, g)), 0.99, name)
		}
	}
}

// A step that failed must not have been: not in the weights, not in the optimiser, and
// not in what the next one begins with.
func TestAStepThatFailsIsNotTaken(t *testing.T) {
	e, twin := learner(t, full), learner(t, full)
	c := random(1, len(titles), e.Dim())
	for _, x := range []*Encoder{e, twin} {
		_, err := x.Learn(t.Context(), titles, c)
		require.NoError(t, err)
	}

	bad := random(3, len(titles), e.Dim())
	bad[4][7] = float32(math.NaN())
	norm, err := e.Learn(t.Context(), titles, bad)
	require.True(t, math.IsNaN(norm))
	var numeric *NumericError
	require.ErrorAs(t, err, &numeric)
	require.EqualValues(t, 2, numeric.Step)
	require.EqualError(t, err, "encoder: step 2: the gradient's norm is NaN")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = e.Learn(ctx, titles, c)
	require.ErrorIs(t, err, context.Canceled)

	// With some passes done.
	require.NoError(t, e.thread.Do(func(s *tensor.Scope) {
		require.ErrorIs(t, e.backward(&endsAfter{Context: t.Context(), n: 2}, s, titles, c, 1), context.Canceled)
	}))

	require.Equal(t, twin.Version(), e.Version())
	for _, x := range []*Encoder{e, twin} {
		_, err := x.Learn(t.Context(), titles, c)
		require.NoError(t, err)
	}
	want, err := twin.FullState()
	require.NoError(t, err)
	got, err := e.FullState()
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// endsAfter is a context that ends when it has been asked n times.
type endsAfter struct {
	context.Context
	n int
}

func (c *endsAfter) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

func TestLearningThatIsRefused(t *testing.T) {
	frozen := open(t, "testdata/tiny", Options{Threads: 1, Train: "frozen"})
	_, err := frozen.Learn(t.Context(), titles, random(1, len(titles), frozen.Dim()))
	require.EqualError(t, err, "encoder: it is frozen: load it with Options.Train last or full to train it")
	e := learner(t, last)
	_, err = e.Learn(t.Context(), titles, nil)
	require.ErrorContains(t, err, "0 gradients for 8 texts")
	_, err = e.Learn(t.Context(), titles[:2], [][]float32{make([]float32, e.Dim()), make([]float32, 3)})
	require.ErrorContains(t, err, "text 1: a gradient of 3 numbers, vectors have 32")
	before := e.Version()
	_, err = e.Learn(t.Context(), nil, nil)
	require.NoError(t, err)
	require.Equal(t, before, e.Version(), "nothing to learn from is no step")
}

// One goroutine learns, another encodes the same text many times over, in several passes.
func TestVectorsOfACallAreOfOneVersion(t *testing.T) {
	e := learner(t, last)
	texts := slices.Repeat([]string{strings.Repeat("the film noir ", 200)}, 3*batchTokens/maxTokens)
	gradients := random(1, len(titles), e.Dim())
	learnt := make(chan error)
	go func() {
		var err error
		for range 5 {
			if _, err = e.Learn(t.Context(), titles, gradients); err != nil {
				break
			}
		}
		learnt <- err
	}()
	for done := false; !done; {
		select {
		case err := <-learnt:
			require.NoError(t, err)
			done = true
		default:
		}
		vectors := encode(t, e, texts)
		for _, v := range vectors {
			require.InDeltaSlice(t, vectors[0], v, 1e-5)
		}
	}
	require.True(t, strings.HasSuffix(e.Version(), "-last@5"), e.Version())
}
