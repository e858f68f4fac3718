package online

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/seqrec"
	"seralm/models/snapshot"
	"seralm/models/vocab"
)

const textDim = 3

// newReader is a learner whose model reads texts, with rows for items i0 to i<n-1>.
func newReader(t *testing.T, n int, o seqrec.Options) *Learner {
	t.Helper()
	o.Seed, o.Threads, o.Knowledge = 3, 1, textDim
	m, err := seqrec.New(seqrec.Hyper{Name: "sasrec", Dim: 8, Layers: 1, Heads: 2, Inner: 8, MaxLen: 6}, 2, o)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	l := NewLearner(NewSequencer(SequencerOptions{MaxLen: 6, MaxUsers: 15, DedupWindow: 50, AdmitAfter: 1, Replay: 1, Seed: 3}), m)
	for i := range n {
		l.vocab.Observe(fmt.Sprint("i", i))
	}
	require.NoError(t, m.Resize(l.vocab.Rows()))
	return l
}

func text(r *rand.Rand) []float32 {
	v := make([]float32, textDim)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// give gives rows of items vectors of their own.
func give(t *testing.T, l *Learner, r *rand.Rand, items ...string) {
	t.Helper()
	var known []Known
	for _, i := range items {
		known = append(known, Known{i, text(r)})
	}
	require.NoError(t, l.tell(known))
}

// logP is log p(y|x,s) with text s of an item, from the scores of all.
func logP(t *testing.T, l *Learner, x []int32, y, item int32, s []float32) (p float64) {
	t.Helper()
	require.NoError(t, l.Model.(Knowing).Lend([]int32{item}, [][]float32{s}, func() error {
		scores, err := l.Model.Scores(t.Context(), [][]int32{x})
		require.NoError(t, err)
		sum := 0.0
		for _, z := range scores[0][vocab.FirstItem:] {
			sum += math.Exp(float64(z))
		}
		p = float64(scores[0][y]) - math.Log(sum)
		return nil
	}))
	return p
}

// The gradients of the steps that take one text each, over all texts that a sample has,
// against finite differences of mean_i log p(y|x,s_i): Equation 9 over samples of pi(s).
// Once the item is one of x and has a vector of its own, once it is y and has none.
func TestTheGradientIsThatOfTheExpectedLogProbability(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, item := range []string{"i1", "i4"} {
		t.Run(item, func(t *testing.T) {
			l := newReader(t, 6, seqrec.Options{LearningRate: 1e-3})
			l.opts.Replay = 0
			give(t, l, r, "i1", "i2", "i3")
			model := l.Model.(Checkpointable)
			state, err := model.FullState()
			require.NoError(t, err)
			var names []string
			for name, x := range state {
				if _, ok := state["adam.m."+name]; ok {
					names = append(names, name)
					for i := range x.Data {
						x.Data[i] += float32(0.3 * r.NormFloat64())
					}
				}
			}
			rows := l.vocab.Rows()
			restore := func(state map[string]snapshot.Tensor) { require.NoError(t, model.RestoreFull(state, rows)) }

			a := Sample{Key: 7, X: []string{"i0", "i1", "i2"}, Y: "i4", Item: item, Texts: [][]float32{text(r), text(r), text(r)}}
			row := func(id string) int32 { i, _ := l.vocab.Row(id); return i }
			x := []int32{row("i0"), row("i1"), row("i2")}
			objective := func() (mean float64) {
				for _, s := range a.Texts {
					mean += logP(t, l, x, row("i4"), row(item), s) / float64(len(a.Texts))
				}
				return mean
			}

			// What the steps do that take each of the texts.
			gradient := map[string][]float64{}
			took := map[float32]bool{}
			for step := uint64(1); len(took) < len(a.Texts); step++ {
				batch := Batch{Sampled: l.Sample([]Sample{a}, step)}
				if first := batch.Sampled.vectors[0][0]; took[first] {
					continue
				} else {
					took[first] = true
				}
				restore(state)
				l.step = step - 1
				result, err := l.Learn(t.Context(), batch, nil, nil)
				require.NoError(t, err)
				require.Equal(t, 1, result.Samples)
				require.Equal(t, 1, result.Loss.Targets)
				after, err := model.FullState()
				require.NoError(t, err)
				for _, name := range names {
					// After one step from zero moments, Adam's m is (1 - beta1) times the gradient of the loss.
					g := after["adam.m."+name].Data
					if gradient[name] == nil {
						gradient[name] = make([]float64, len(g))
					}
					for i, v := range g {
						gradient[name][i] -= float64(v) / (1 - 0.9) / float64(len(a.Texts))
					}
				}
			}
			for _, name := range names {
				for range 3 {
					w := state[name].Data
					i := r.IntN(len(w))
					was := w[i]
					const h = 4e-3
					w[i] = was + h
					restore(state)
					up := objective()
					w[i] = was - h
					restore(state)
					down := objective()
					w[i] = was
					require.InDelta(t, (up-down)/(2*h), gradient[name][i], 2e-3, "%s[%d]", name, i)
				}
			}
			require.NotZero(t, gradient["item_tower.knowledge.weight"][0], "the text is part of it")
		})
	}
}

func TestEachTextIsDrawnAsOften(t *testing.T) {
	l := newReader(t, 6, seqrec.Options{})
	counts := map[float32]int{}
	const steps, texts = 6000, 4
	// Two samples of one item lend their texts together.
	samples := []Sample{
		{Key: 1, X: []string{"i0"}, Y: "i1", Item: "i1", Texts: [][]float32{{0, 0, 0}, {1, 0, 0}, {2, 0, 0}}},
		{Key: 2, X: []string{"i1"}, Y: "i2", Item: "i1", Texts: [][]float32{{3, 0, 0}}},
	}
	for step := range uint64(steps) {
		s := l.Sample(samples, step)
		require.Len(t, s.rows, 1)
		counts[s.vectors[0][0]]++
		require.Equal(t, s, l.Sample(samples, step), "a function of the step")
	}
	for i := range texts {
		require.InDelta(t, steps/texts, counts[float32(i)], 5*math.Sqrt(steps/texts), "text %d", i)
	}
	// Two items in a step, and an item of two samples, do not draw alike.
	alike := 0
	samples[1].Item, samples[1].Texts = "i2", samples[0].Texts
	for step := range uint64(steps) {
		if s := l.Sample(samples, step); s.vectors[0][0] == s.vectors[1][0] {
			alike++
		}
	}
	require.InDelta(t, steps/3, alike, 5*math.Sqrt(steps/3))
}

func TestASampleIsOneTargetAndAdmitsNothing(t *testing.T) {
	l := newReader(t, 9, seqrec.Options{})
	row := func(id string) int32 { i, _ := l.vocab.Row(id); return i }
	s := []float32{1, 2, 3}
	long := []string{"i0", "i1", "i2", "new", "i4", "i5", "i6", "i7"}
	got := l.Sample([]Sample{
		{Key: 1, X: long, Y: "i8", Item: "i5", Texts: [][]float32{s}},
		{Key: 2, X: long, Y: "another", Item: "i5", Texts: [][]float32{s}},
		{Key: 3, X: long, Y: "i8", Item: "new", Texts: [][]float32{s}},
	}, 5)
	require.Equal(t, 2, got.Unknown)
	require.Equal(t, []seqrec.Sequence{{
		Items: []int32{row("i2"), vocab.Unknown, row("i4"), row("i5"), row("i6"), row("i7"), row("i8")}, From: 6,
	}}, got.New)
	require.Equal(t, []int32{row("i5")}, got.rows)
	require.Equal(t, 9, l.vocab.Rows()-vocab.FirstItem)
	require.Empty(t, got.Replay.For(l.Model), "there are no histories")

	// A sample counts as a new target: so many older ones are learnt with it.
	var events []Event
	for i := range 12 {
		events = append(events, Event{Key: uint64(i), User: fmt.Sprint("u", i%3), Item: fmt.Sprint("i", i%5)})
	}
	l.Next(events, 1)
	l.opts.Replay = 3
	got = l.Sample([]Sample{{Key: 1, X: long, Y: "i8", Item: "i5", Texts: [][]float32{s}}}, 5)
	targets := 0
	for _, q := range got.Replay.For(l.Model) {
		targets += len(q.Items) - 1
	}
	require.Equal(t, 3, targets)
}

// taught makes steps of a stream with n samples in each, and returns the learner. Some
// users take even items only, the others odd ones. The texts that samples hold say of
// which kind their item is; the vectors that the items have say nothing, so the stream
// does not hold what the texts mean.
func taught(t *testing.T, n int) *Learner {
	t.Helper()
	const items = 20
	l := newReader(t, items, seqrec.Options{LearningRate: 1e-2, IDDropout: 0.3})
	r := rand.New(rand.NewPCG(4, 4))
	for i := range items {
		s := text(r)
		s[0] = 0
		require.NoError(t, l.tell([]Known{{fmt.Sprint("i", i), s}}))
	}
	item := func(odd int) string { return fmt.Sprint("i", 2*r.IntN(items/2)+odd) }
	key := uint64(0)
	for step := uint64(1); step <= 300; step++ {
		var events []Event
		for range 16 {
			key++
			user := r.IntN(12)
			events = append(events, Event{Key: key, User: fmt.Sprint("u", user), Item: item(user % 2)})
		}
		var samples []Sample
		for range n {
			key++
			odd := r.IntN(2)
			a := Sample{Key: key, X: []string{item(odd), item(odd), item(odd)}, Y: item(odd), Texts: [][]float32{saying(r, odd), saying(r, odd)}}
			if a.Item = a.Y; r.IntN(2) == 0 {
				a.Item = a.X[r.IntN(3)]
			}
			samples = append(samples, a)
		}
		batch := l.Next(events, step)
		batch.Sampled = l.Sample(samples, step)
		_, err := l.Learn(t.Context(), batch, events, nil)
		require.NoError(t, err)
	}
	return l
}

// saying is a text that says whether its item is odd, and other things.
func saying(r *rand.Rand, odd int) []float32 {
	s := text(r)
	s[0] = 2*float32(odd) - 1
	return s
}

// What only samples hold is learnt: which histories a text makes its item follow.
func TestARecommenderLearnsFromSamplesWhatTheStreamDoesNotHold(t *testing.T) {
	preference := func(l *Learner) (mean float64) {
		r := rand.New(rand.NewPCG(5, 5))
		const trials = 60
		for range trials {
			odd := r.IntN(2)
			item := func() int32 { return int32(vocab.FirstItem + 2*r.IntN(10) + odd) }
			x, y, right := []int32{item(), item(), item()}, item(), saying(r, odd)
			wrong := append([]float32{-right[0]}, right[1:]...)
			mean += (logP(t, l, x, y, y, right) - logP(t, l, x, y, y, wrong)) / trials
		}
		return mean
	}
	with, without := preference(taught(t, 4)), preference(taught(t, 0))
	t.Logf("the right text is worth %.3f nats after samples, %.3f without", with, without)
	require.Greater(t, with, 0.5)
	require.InDelta(t, 0, without, 1e-3)
}

// As TestALearnerResumesToTheBit, with knowledge and samples.
func TestALearnerOfSamplesResumesToTheBit(t *testing.T) {
	all := batches(12)
	end := func(k int) (model, sequencer []byte) {
		o := seqrec.Options{LearningRate: 1e-2, Dropout: 0.2, ClipNorm: 1, IDDropout: 0.3}
		l := newReader(t, 10, o)
		r := rand.New(rand.NewPCG(6, 6))
		give(t, l, r, "i0", "i1", "i2")
		for i, events := range all {
			if i == k {
				m, s, err := l.Save()
				require.NoError(t, err)
				l = newReader(t, 0, o)
				require.NoError(t, l.Restore(m, s))
			}
			var samples []Sample
			for range r.IntN(4) {
				item := fmt.Sprint("i", r.IntN(12))
				samples = append(samples, Sample{Key: r.Uint64(), X: []string{"i1", item}, Y: fmt.Sprint("i", r.IntN(12)), Item: item, Texts: [][]float32{text(r), text(r)}})
			}
			step := l.StepNumber() + 1
			batch := l.Next(events, step)
			batch.Sampled = l.Sample(samples, step)
			_, err := l.Learn(t.Context(), batch, events, nil)
			require.NoError(t, err)
		}
		m, s, err := l.Save()
		require.NoError(t, err)
		return m, s
	}
	model, sequencer := end(-1)
	for k := range all {
		m, s := end(k)
		require.Equal(t, model, m, "stopped before batch %d", k)
		require.Equal(t, string(sequencer), string(s), "stopped before batch %d", k)
	}
}

// Without samples a step is what the model makes of the events' sequences alone.
func TestAStepWithoutSamplesIsThatOfTheEvents(t *testing.T) {
	l, other := newLearner(t), newLearner(t)
	for _, events := range batches(10) {
		batch := l.Next(events, l.StepNumber()+1)
		batch.Sampled = l.Sample(nil, l.StepNumber()+1)
		_, err := l.Learn(t.Context(), batch, events, nil)
		require.NoError(t, err)

		other.step++
		b := other.Next(events, other.step)
		require.NoError(t, other.Model.Resize(other.vocab.Rows()))
		for _, r := range b.Renewed {
			require.NoError(t, other.renew([]int32{r.Row}))
		}
		if rows := append(b.New, b.Replay.For(other.Model)...); len(rows) > 0 {
			_, err = other.Model.Learn(t.Context(), rows, other.step)
			require.NoError(t, err)
		}
	}
	want, err := other.Model.State()
	require.NoError(t, err)
	got, err := l.Model.State()
	require.NoError(t, err)
	require.Equal(t, want, got)
}
