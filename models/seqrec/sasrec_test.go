package seqrec

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

var tiny = Hyper{Dim: 8, Layers: 2, Heads: 2, Inner: 16, MaxLen: 6}

func newTiny(t testing.TB, o Options) *SASRec {
	t.Helper()
	if o.LearningRate == 0 {
		o.LearningRate = 1e-2
	}
	o.Threads = 1
	m, err := NewSASRec(tiny, 12, o)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

func randomBatch(r *rand.Rand, n, rows int) []Sequence {
	var batch []Sequence
	for range n {
		q := Sequence{Items: make([]int32, 2+r.IntN(tiny.MaxLen)), From: r.IntN(3)}
		for i := range q.Items {
			q.Items[i] = int32(2 + r.IntN(rows-2))
		}
		batch = append(batch, q)
	}
	return batch
}

// x is followed by x+1: after learning, the successor must be the top item.
func TestSASRecLearnsAPlantedTransition(t *testing.T) {
	m := newTiny(t, Options{Seed: 3})
	next := func(x int32) int32 { return 2 + (x-2+1)%10 }
	r := rand.New(rand.NewPCG(1, 1))
	var loss Loss
	for step := range uint64(300) {
		var batch []Sequence
		for range 8 {
			x := int32(2 + r.IntN(10))
			q := Sequence{From: 1}
			for range 2 + r.IntN(tiny.MaxLen) {
				q.Items = append(q.Items, x)
				x = next(x)
			}
			batch = append(batch, q)
		}
		var err error
		loss, err = m.Learn(t.Context(), batch, step)
		require.NoError(t, err)
	}
	require.Less(t, loss.NLL, 0.1, "chance is log 10 = 2.3")
	for x := int32(2); x < 12; x++ {
		scores, err := m.Scores(t.Context(), [][]int32{{x}})
		require.NoError(t, err)
		best := 0
		for i, v := range scores[0] {
			if v > scores[0][best] {
				best = i
			}
		}
		require.EqualValues(t, next(x), best)
	}
}

// The gradient that one step leaves, against central differences of the loss, for
// every parameter.
func TestSASRecGradientMatchesFiniteDifferences(t *testing.T) {
	m := newTiny(t, Options{Seed: 5})
	batch := randomBatch(rand.New(rand.NewPCG(2, 2)), 5, 12)
	weights, err := m.State()
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(9, 9))
	for name, w := range weights { // larger weights: gradients well above float32 noise
		for i := range w.Data {
			w.Data[i] += float32(0.3 * r.NormFloat64())
		}
		weights[name] = w
	}
	require.NoError(t, m.Restore(weights, 12))
	gradient := gradients(t, m, batch)

	loss := func() float64 {
		require.NoError(t, m.Restore(weights, 12))
		return lossOf(t, m, batch)
	}
	for name, w := range weights {
		for range 6 {
			i := r.IntN(len(w.Data))
			was := w.Data[i]
			const h = 1e-2
			w.Data[i] = was + h
			up := loss()
			w.Data[i] = was - h
			down := loss()
			w.Data[i] = was
			require.InDelta(t, (up-down)/(2*h), gradient[name][i], 2e-3, "%s[%d]", name, i)
		}
	}
}

func lossOf(t *testing.T, m *SASRec, batch []Sequence) float64 {
	t.Helper()
	// The loss of a step is measured before its update.
	l, err := m.Learn(t.Context(), batch, 0)
	require.NoError(t, err)
	return l.NLL
}

// gradients reads the gradient out of Adam: after one step from zero moments,
// m = (1 - beta1) g.
func gradients(t *testing.T, m *SASRec, batch []Sequence) map[string][]float32 {
	t.Helper()
	_, err := m.Learn(t.Context(), batch, 0)
	require.NoError(t, err)
	state, err := m.FullState()
	require.NoError(t, err)
	out := map[string][]float32{}
	for _, p := range m.shapes() {
		g := state[adamM+p.name].Data
		for i := range g {
			g[i] /= 1 - 0.9
		}
		out[p.name] = g
	}
	return out
}

// Steps straight equal steps, save, load into another model, the rest: to the bit,
// dropout, clipping and growth included.
func TestSASRecResumesToTheBit(t *testing.T) {
	run := func(stopAt uint64) map[string][]float32 {
		o := Options{Seed: 7, Dropout: 0.3, ClipNorm: 0.5}
		m := newTiny(t, o)
		r := rand.New(rand.NewPCG(4, 4))
		rows := 12
		for step := range uint64(12) {
			if step == stopAt {
				state, err := m.FullState()
				require.NoError(t, err)
				m = newTiny(t, o)
				require.NoError(t, m.RestoreFull(state, rows))
			}
			if step%3 == 2 {
				rows += 5
				require.NoError(t, m.Resize(rows))
			}
			_, err := m.Learn(t.Context(), randomBatch(r, 6, rows), step)
			require.NoError(t, err)
		}
		state, err := m.FullState()
		require.NoError(t, err)
		out := map[string][]float32{}
		for name, w := range state {
			out[name] = w.Data
		}
		return out
	}
	want := run(99)
	for _, k := range []uint64{0, 1, 5, 6, 11} {
		require.Equal(t, want, run(k), "stopped at %d", k)
	}
}

func TestSASRecATableGrownIsTheTableMadeAtOnce(t *testing.T) {
	grown, err := NewSASRec(tiny, 2, Options{Seed: 1, Threads: 1})
	require.NoError(t, err)
	defer grown.Close()
	for rows := 3; rows <= 40; rows += 3 {
		require.NoError(t, grown.Resize(rows))
	}
	require.NoError(t, grown.Resize(40))
	whole, err := NewSASRec(tiny, 40, Options{Seed: 1, Threads: 1})
	require.NoError(t, err)
	defer whole.Close()
	a, err := grown.State()
	require.NoError(t, err)
	b, err := whole.State()
	require.NoError(t, err)
	require.Equal(t, b, a)
}

// A position's prediction must not depend on what comes after it, nor on how the
// batch was padded.
func TestSASRecIsCausalAndPaddingIsInvisible(t *testing.T) {
	m := newTiny(t, Options{Seed: 11})
	short := []int32{4, 5, 6}
	alone, err := m.Scores(t.Context(), [][]int32{short})
	require.NoError(t, err)
	beside, err := m.Scores(t.Context(), [][]int32{{3, 4, 5, 6, 7, 8}, short, {2}})
	require.NoError(t, err)
	for r := 2; r < 12; r++ {
		require.InDelta(t, alone[0][r], beside[1][r], 1e-6)
	}
	a := lossAt(t, m, []int32{4, 5, 6, 7, 8}, 2)
	b := lossAt(t, m, []int32{4, 5, 6, 3, 2}, 2)
	require.InDelta(t, a, b, 1e-6, "later items change an earlier prediction")
}

// lossAt is -log p(items[at] | items[:at]) within the whole sequence, by making
// every other target invisible.
func lossAt(t *testing.T, m *SASRec, items []int32, at int) float64 {
	t.Helper()
	all := func(to int) float64 {
		state, err := m.State()
		require.NoError(t, err)
		l, err := m.Learn(t.Context(), []Sequence{{Items: items, From: to}}, 0)
		require.NoError(t, err)
		require.NoError(t, m.Restore(state, 12))
		return l.NLL * float64(l.Targets)
	}
	return all(at) - all(at+1)
}

func TestSASRecKeepsTheNewestItems(t *testing.T) {
	m := newTiny(t, Options{Seed: 13})
	long := []int32{9, 9, 9, 2, 3, 4, 5, 6, 7}
	a, err := m.Scores(t.Context(), [][]int32{long})
	require.NoError(t, err)
	b, err := m.Scores(t.Context(), [][]int32{long[3:]})
	require.NoError(t, err)
	require.Equal(t, a, b)
}

func TestSASRecSkipsAStepThatIsNotFinite(t *testing.T) {
	m := newTiny(t, Options{Seed: 1})
	state, err := m.FullState()
	require.NoError(t, err)
	state["LayerNorm.weight"].Data[0] = float32(math.NaN())
	require.NoError(t, m.RestoreFull(state, 12))
	before, err := m.FullState()
	require.NoError(t, err)
	_, err = m.Learn(t.Context(), []Sequence{{Items: []int32{2, 3, 4}, From: 1}}, 1)
	var numeric *NumericError
	require.ErrorAs(t, err, &numeric)
	after, err := m.FullState()
	require.NoError(t, err)
	for name := range before {
		for i := range before[name].Data {
			require.Equal(t, math.Float32bits(before[name].Data[i]), math.Float32bits(after[name].Data[i]), name)
		}
	}
}

func TestSASRecRefusesBadInput(t *testing.T) {
	m := newTiny(t, Options{Seed: 1})
	_, err := m.Scores(t.Context(), [][]int32{{2}, {}})
	require.ErrorContains(t, err, "history 1 is empty")
	_, err = m.Learn(t.Context(), []Sequence{{Items: []int32{2, 99}, From: 1}}, 1)
	require.ErrorContains(t, err, "row 99")
	l, err := m.Learn(t.Context(), []Sequence{{Items: []int32{2}, From: 0}, {Items: []int32{2, 1}, From: 1}}, 1)
	require.NoError(t, err, "nothing to learn is no error")
	require.Zero(t, l.Targets)
}

// Thousands of operations under a collector that runs all the time: nothing may
// be freed early, nothing kept.
func TestSASRecKeepsNothingUnderAnEagerCollector(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(2))
	for _, o := range []Options{{}, {Knowledge: tinyKnowledge, IDDropout: 0.3}} {
		o.Seed, o.Dropout = 1, 0.2
		m := newTiny(t, o)
		r := rand.New(rand.NewPCG(8, 8))
		before := m.thread.Live()
		for step := range uint64(150) {
			if o.Knowledge > 0 {
				require.NoError(t, m.SetKnowledge([]int32{int32(2 + step%10)}, vectorsOf(r, 1)))
			}
			_, err := m.Learn(t.Context(), randomBatch(r, 4, 12), step)
			require.NoError(t, err)
			_, err = m.Scores(t.Context(), [][]int32{{2, 3}, {4}})
			require.NoError(t, err)
			runtime.GC()
		}
		require.NoError(t, m.Resize(40))
		state, err := m.FullState()
		require.NoError(t, err)
		require.NoError(t, m.RestoreFull(state, 40))
		require.Equal(t, before, m.thread.Live())
	}
}

// ML-1M's size: B 64, L 50, 3,417 items, d 64, all positions; as a Base, and with
// vectors of MiniLM's length.
func BenchmarkSASRecLearn(b *testing.B) {
	const rows = 3419
	r := rand.New(rand.NewPCG(8, 8))
	var batch []Sequence
	for range 64 {
		q := Sequence{Items: make([]int32, 51), From: 1}
		for i := range q.Items {
			q.Items[i] = int32(2 + r.IntN(3417))
		}
		batch = append(batch, q)
	}
	for _, o := range []Options{{Threads: 1}, {Threads: 2}, {Threads: 1, Knowledge: 384, IDDropout: 0.3}} {
		b.Run(fmt.Sprintf("threads=%d/knowledge=%d", o.Threads, o.Knowledge), func(b *testing.B) {
			o.Seed, o.LearningRate, o.Dropout, o.ClipNorm = 1, 1e-3, 0.2, 5
			m, err := NewSASRec(Hyper{Dim: 64, Layers: 2, Heads: 2, Inner: 256, MaxLen: 50}, rows, o)
			require.NoError(b, err)
			defer m.Close()
			if o.Knowledge > 0 {
				var items []int32
				var vectors [][]float32
				for row := int32(2); row < rows; row++ {
					v := make([]float32, o.Knowledge)
					for i := range v {
						v[i] = r.Float32()
					}
					items, vectors = append(items, row), append(vectors, v)
				}
				require.NoError(b, m.SetKnowledge(items, vectors))
			}
			targets := 0
			for step := uint64(0); b.Loop(); step++ {
				l, err := m.Learn(b.Context(), batch, step)
				require.NoError(b, err)
				targets += l.Targets
			}
			b.ReportMetric(float64(targets)/b.Elapsed().Seconds(), "targets/s")
		})
	}
}
