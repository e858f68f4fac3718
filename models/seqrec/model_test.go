package seqrec

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/snapshot"
	"seralm/models/vocab"
)

// tinies are one of each architecture, with rows for 12 items and histories of 6.
var tinies = []Hyper{
	tiny,
	{Name: "gru4rec", Dim: 8, Layers: 2, Inner: 12, MaxLen: 6},
	{Name: "lightsans", Dim: 8, Layers: 2, Heads: 2, Inner: 16, MaxLen: 6, Interests: 3},
	{Name: "paup", Dim: 32, Layers: 2, Heads: 2, Inner: 16, MaxLen: 6, Segments: 2, Kernel: 2},
	{Name: "caser", Dim: 16, MaxLen: 6, Vertical: 2, Horizontal: 3},
}

var tiny = Hyper{Name: "sasrec", Dim: 8, Layers: 2, Heads: 2, Inner: 16, MaxLen: 6}

// each runs a test of every architecture.
func each(t *testing.T, test func(t *testing.T, h Hyper)) {
	t.Helper()
	for _, h := range tinies {
		t.Run(h.Name, func(t *testing.T) { test(t, h) })
	}
}

func newTiny(t testing.TB, h Hyper, o Options) *Model {
	t.Helper()
	if o.LearningRate == 0 {
		o.LearningRate = 1e-2
	}
	o.Threads = 1
	m, err := New(h, 12, o)
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
func TestEachModelLearnsAPlantedTransition(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		m := newTiny(t, h, Options{Seed: 3})
		next := func(x int32) int32 { return 2 + (x-2+1)%10 }
		r := rand.New(rand.NewPCG(1, 1))
		var loss Loss
		for step := range uint64(400) {
			if step == 300 { // large steps end where they happen to
				m.SetLearningRate(1e-3)
			}
			var batch []Sequence
			for range 8 {
				x := int32(2 + r.IntN(10))
				q := Sequence{From: 1}
				for range 2 + r.IntN(h.MaxLen) {
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
	})
}

// The gradient that one step leaves, against central differences of the loss, for
// every parameter.
func TestEachGradientMatchesFiniteDifferences(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		m := newTiny(t, h, Options{Seed: 5})
		state := stir(t, m) // larger weights: gradients well above float32 noise
		compareWithDifferences(t, m, state, randomBatch(rand.New(rand.NewPCG(2, 2)), 5, 12))
	})
}

// compareWithDifferences checks three entries of each parameter, and four of the unknown row.
func compareWithDifferences(t *testing.T, m *Model, state map[string]snapshot.Tensor, batch []Sequence) map[string][]float32 {
	t.Helper()
	gradient := gradients(t, m, batch)
	loss := func() float64 {
		require.NoError(t, m.RestoreFull(state, m.rows))
		return lossOf(t, m, batch)
	}
	base := loss()
	check := func(name string, i int) {
		w := state[name].Data
		was := w[i]
		const h = 1e-3
		w[i] = was + h
		up := loss()
		w[i] = was - h
		down := loss()
		w[i] = was
		// A rectifier may switch between the two; then one side has the gradient's slope.
		got, want := float64(gradient[name][i]), (up-down)/(2*h)
		for _, side := range []float64{(up - base) / h, (base - down) / h} {
			if math.Abs(side-got) < math.Abs(want-got) {
				want = side
			}
		}
		require.InDelta(t, want, got, 2e-3, "%s[%d]", name, i)
	}
	r := rand.New(rand.NewPCG(3, 3))
	for _, p := range m.shapes() {
		for range 3 {
			check(p.name, r.IntN(len(state[p.name].Data)))
		}
		along(t, loss, state[p.name].Data, gradient[p.name], p.name)
	}
	for i := range 4 {
		check(itemTable, vocab.Unknown*m.hyper.Dim+i)
	}
	return gradient
}

// along takes the difference in a gradient's own direction, where its norm must be the
// slope: a part that is missing or has another scale shows there, however small each
// entry is.
func along(t *testing.T, loss func() float64, w, g []float32, name string) {
	t.Helper()
	norm := 0.0
	for _, v := range g {
		norm += float64(v) * float64(v)
	}
	norm = math.Sqrt(norm)
	if norm < 1e-5 {
		// A bias of what a softmax is taken over moves all its terms alike.
		require.Regexp(t, `multi_head_attention\.(key|query|pos_q_linear)\.bias$`, name, "it has a gradient")
		return
	}
	was := slices.Clone(w)
	step := func(h float64) float64 {
		for i := range w {
			w[i] = was[i] + float32(h*float64(g[i])/norm)
		}
		return loss()
	}
	const h = 1e-3
	down, base, up := step(-h), step(0), step(h)
	copy(w, was)
	slope := (up - down) / (2 * h)
	for _, side := range []float64{(up - base) / h, (base - down) / h} { // see check
		if math.Abs(side-norm) < math.Abs(slope-norm) {
			slope = side
		}
	}
	require.InDelta(t, norm, slope, 0.01*norm+5e-4, "%s, along its gradient", name)
}

func lossOf(t *testing.T, m *Model, batch []Sequence) float64 {
	t.Helper()
	// The loss of a step is measured before its update.
	l, err := m.Learn(t.Context(), batch, 0)
	require.NoError(t, err)
	return l.NLL
}

// gradients reads the gradient out of Adam: after one step from zero moments,
// m = (1 - beta1) g.
func gradients(t *testing.T, m *Model, batch []Sequence) map[string][]float32 {
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
func TestEachModelResumesToTheBit(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		run := func(stopAt uint64) map[string]snapshot.Tensor {
			o := Options{Seed: 7, Dropout: 0.3, ClipNorm: 0.5}
			m := newTiny(t, h, o)
			r := rand.New(rand.NewPCG(4, 4))
			rows := 12
			for step := range uint64(12) {
				if step == stopAt {
					state, err := m.FullState()
					require.NoError(t, err)
					m = newTiny(t, h, o)
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
			return state
		}
		want := run(99)
		for _, k := range []uint64{0, 1, 5, 6, 11} {
			require.Equal(t, want, run(k), "stopped at %d", k)
		}
	})
}

func TestATableGrownIsTheTableMadeAtOnce(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		grown, err := New(h, 2, Options{Seed: 1, Threads: 1})
		require.NoError(t, err)
		defer grown.Close()
		for rows := 3; rows <= 40; rows += 3 {
			require.NoError(t, grown.Resize(rows))
		}
		require.NoError(t, grown.Resize(40))
		whole, err := New(h, 40, Options{Seed: 1, Threads: 1})
		require.NoError(t, err)
		defer whole.Close()
		a, err := grown.State()
		require.NoError(t, err)
		b, err := whole.State()
		require.NoError(t, err)
		require.Equal(t, b, a)
	})
}

// How a batch was padded must not be seen, and in a causal model a position's prediction
// must not depend on what comes after it.
func TestEachModelSeesNothingOfItsBatch(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		m := newTiny(t, h, Options{Seed: 11})
		short := []int32{4, 5, 6}
		alone, err := m.Scores(t.Context(), [][]int32{short})
		require.NoError(t, err)
		beside, err := m.Scores(t.Context(), [][]int32{{3, 4, 5, 6, 7, 8}, short, {2}})
		require.NoError(t, err)
		for r := 2; r < 12; r++ {
			require.InDelta(t, alone[0][r], beside[1][r], 1e-6)
		}
		if m.encoder.causal() {
			a := lossAt(t, m, []int32{4, 5, 6, 7, 8}, 2)
			b := lossAt(t, m, []int32{4, 5, 6, 3, 2}, 2)
			require.InDelta(t, a, b, 1e-6, "later items change an earlier prediction")
		}
	})
}

// lossAt is -log p(items[at] | items[:at]) within the whole sequence, by making
// every other target invisible.
func lossAt(t *testing.T, m *Model, items []int32, at int) float64 {
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

// What a model scores for a history is what it learns to predict after it, with what it
// adds for items that the history holds.
func TestEachLossIsThatOfTheScores(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		m := newTiny(t, h, Options{Seed: 11, HistoryBias: true})
		stir(t, m)
		items := []int32{4, 5, 9, 1, 7, 7, 11, 3, 2}
		for to := 1; to < len(items); to++ {
			if items[to] < vocab.FirstItem {
				continue
			}
			state, err := m.State()
			require.NoError(t, err)
			scores, err := m.Scores(t.Context(), [][]int32{items[:to]})
			require.NoError(t, err)
			l, err := m.Learn(t.Context(), []Sequence{{Items: items[:to+1], From: to}}, 3)
			require.NoError(t, err)
			require.NoError(t, m.Restore(state, 12))
			sum := 0.0
			for _, p := range probabilities(scores[0]) {
				sum += p
			}
			require.InDelta(t, math.Log(sum)-float64(scores[0][items[to]]), l.NLL, 1e-5)
		}
	})
}

// Of a sequence with targets, each position must be drawn as often as any other.
func TestAModelThatIsNotCausalLearnsARandomTargetOfEachSequence(t *testing.T) {
	items := []int32{4, 1, 5, 6, 1, 7}
	const from, steps = 2, 1200
	counts := map[int64]int{}
	for step := range uint64(steps) {
		groups, targets := oneTargetEach([]Sequence{{Items: items, From: from}, {Items: items[:1]}, {Items: items, From: from}}, 3, mix(1, step))
		require.Len(t, targets, 2)
		require.Len(t, groups, 1)
		g := groups[0]
		for i, target := range targets {
			counts[target+vocab.FirstItem]++
			// The history is what stands before the target, the newest three of it.
			at := slices.Index(items, int32(target+vocab.FirstItem))
			want := make([]int64, 3)
			for j, r := range items[max(0, at-3):at] {
				want[j] = int64(r)
			}
			require.Equal(t, want, g.ids[i*3:i*3+3])
			require.EqualValues(t, i*3+min(at, 3)-1, g.at[i])
		}
		again, same := oneTargetEach([]Sequence{{Items: items, From: from}, {Items: items[:1]}, {Items: items, From: from}}, 3, mix(1, step))
		require.Equal(t, groups, again)
		require.Equal(t, targets, same)
	}
	require.Len(t, counts, 3)
	for item, n := range counts {
		require.InDelta(t, 2*steps/3, n, 5*math.Sqrt(2*steps*2/9.), "item %d", item)
	}
}

func TestEachModelKeepsTheNewestItems(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		m := newTiny(t, h, Options{Seed: 13})
		long := []int32{9, 9, 9, 2, 3, 4, 5, 6, 7}
		a, err := m.Scores(t.Context(), [][]int32{long})
		require.NoError(t, err)
		b, err := m.Scores(t.Context(), [][]int32{long[3:]})
		require.NoError(t, err)
		require.Equal(t, a, b)
	})
}

func TestEachModelSkipsAStepThatIsNotFinite(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		m := newTiny(t, h, Options{Seed: 1})
		state, err := m.FullState()
		require.NoError(t, err)
		state[m.encoder.shapes()[0].name].Data[0] = float32(math.NaN())
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
	})
}

func TestEachModelRefusesBadInput(t *testing.T) {
	each(t, func(t *testing.T, h Hyper) {
		m := newTiny(t, h, Options{Seed: 1})
		_, err := m.Scores(t.Context(), [][]int32{{2}, {}})
		require.ErrorContains(t, err, h.Name+": history 1 is empty")
		_, err = m.Learn(t.Context(), []Sequence{{Items: []int32{2, 99}, From: 1}}, 1)
		require.ErrorContains(t, err, "row 99")
		l, err := m.Learn(t.Context(), []Sequence{{Items: []int32{2}, From: 0}, {Items: []int32{2, 1}, From: 1}}, 1)
		require.NoError(t, err, "nothing to learn is no error")
		require.Zero(t, l.Targets)
	})
}

func TestSizesThatDoNotFitAreNamed(t *testing.T) {
	for want, h := range map[string]Hyper{
		`no such architecture "markov": it is one of caser, gru4rec, lightsans, paup, sasrec`: {Name: "markov", Dim: 8, MaxLen: 6},
		"sasrec: 3 heads do not divide dim 8":                                                 {Name: "sasrec", Dim: 8, Layers: 1, Heads: 3, Inner: 8, MaxLen: 6},
		"gru4rec: inner is 0":                                                                 {Name: "gru4rec", Dim: 8, Layers: 1, MaxLen: 6},
		"lightsans: k_interests is 7; it must be between 1 and 6":                             {Name: "lightsans", Dim: 8, Layers: 1, Heads: 2, Inner: 8, MaxLen: 6, Interests: 7},
		"paup: k1 (kernel) is 3; it must be between 1 and 2":                                  {Name: "paup", Dim: 16, Layers: 1, Heads: 2, Inner: 8, MaxLen: 11, Segments: 4, Kernel: 3},
		"paup: m (segments) is 0":                                                             {Name: "paup", Dim: 16, Layers: 1, Heads: 2, Inner: 8, MaxLen: 11, Kernel: 3},
		"paup: dim is 8":                                                                      {Name: "paup", Dim: 8, Layers: 1, Heads: 2, Inner: 8, MaxLen: 11, Segments: 4, Kernel: 2},
		"caser: max_len is 51":                                                                {Name: "caser", Dim: 8, MaxLen: 51, Vertical: 1, Horizontal: 1},
		"caser: n_v is 0":                                                                     {Name: "caser", Dim: 8, MaxLen: 6, Horizontal: 1},
	} {
		_, err := New(h, 2, Options{Threads: 1})
		require.ErrorContains(t, err, want)
	}
}

// Whatever the sizes, keys and values are shortened to m.
func TestPAUPMakesAsManySegmentsAsItShould(t *testing.T) {
	for maxLen := 1; maxLen <= 60; maxLen++ {
		for m := 1; m <= maxLen; m++ {
			for k1 := 1; k1*m <= maxLen; k1++ {
				k2, padding := paupSecond(Hyper{MaxLen: maxLen, Segments: m, Kernel: k1})
				require.EqualValues(t, m, (int64(maxLen/k1)+2*padding-k2)/k2+1, "L %d, m %d, k1 %d", maxLen, m, k1)
			}
		}
	}
}

func TestAStepIsProportionalToTheLearningRate(t *testing.T) {
	m := newTiny(t, tiny, Options{Seed: 1})
	state, err := m.FullState()
	require.NoError(t, err)
	moved := func(rate float64) float64 {
		require.NoError(t, m.RestoreFull(state, 12))
		m.SetLearningRate(rate)
		_, err := m.Learn(t.Context(), []Sequence{{Items: []int32{2, 3, 4}, From: 1}}, 1)
		require.NoError(t, err)
		after, err := m.State()
		require.NoError(t, err)
		return float64(after["LayerNorm.bias"].Data[0] - state["LayerNorm.bias"].Data[0])
	}
	require.InEpsilon(t, 3*moved(1e-3), moved(3e-3), 1e-3)
}

// Thousands of operations under a collector that runs all the time: nothing may
// be freed early, nothing kept.
func TestEachModelKeepsNothingUnderAnEagerCollector(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(2))
	each(t, func(t *testing.T, h Hyper) {
		for _, o := range []Options{{}, {Knowledge: tinyKnowledge, IDDropout: 0.3}} {
			o.Seed, o.Dropout = 1, 0.2
			m := newTiny(t, h, o)
			r := rand.New(rand.NewPCG(8, 8))
			before := m.thread.Live()
			for step := range uint64(100) {
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
	})
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
			m, err := New(Hyper{Name: "sasrec", Dim: 64, Layers: 2, Heads: 2, Inner: 256, MaxLen: 50}, rows, o)
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

// Steps of 64 sequences with a history of L items and one new one, as a stream has them.
func BenchmarkLearn(b *testing.B) {
	const rows = 1684
	for _, h := range []Hyper{
		{Name: "sasrec", MaxLen: 20}, {Name: "gru4rec", MaxLen: 20}, {Name: "lightsans", MaxLen: 20, Interests: 2},
		{Name: "paup", MaxLen: 20, Kernel: 2, Segments: 4}, {Name: "caser", MaxLen: 10, Vertical: 4, Horizontal: 8},
	} {
		h.Dim, h.Layers, h.Heads, h.Inner = 64, 2, 2, 256
		b.Run(h.Name, func(b *testing.B) {
			r := rand.New(rand.NewPCG(8, 8))
			var batch []Sequence
			for range 64 {
				q := Sequence{Items: make([]int32, h.MaxLen+1), From: h.MaxLen}
				for i := range q.Items {
					q.Items[i] = int32(2 + r.IntN(rows-2))
				}
				batch = append(batch, q)
			}
			m, err := New(h, rows, Options{Threads: 1, Seed: 1, LearningRate: 1e-3, Dropout: 0.2, ClipNorm: 5})
			require.NoError(b, err)
			defer m.Close()
			for step := uint64(0); b.Loop(); step++ {
				_, err := m.Learn(b.Context(), batch, step)
				require.NoError(b, err)
			}
		})
	}
}
