package scorer

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/models/snapshot"
	"seralm/models/vocab"
	"seralm/serving/catalogue"
	"seralm/serving/internal/specimen"
	"seralm/stream"
)

// engine is a specimen as an Engine.
type engine struct{ *specimen.Engine }

func (e engine) WithRows(extra [][]float32) (Engine, error) {
	return engine{e.Engine.WithRows(extra)}, nil
}

// rig is a scorer whose engines are made by the test.
type rig struct {
	*Scorer
	t       *testing.T
	logs    bytes.Buffer
	engines []*specimen.Engine // in the order they were built
	prepare func(*specimen.Engine)
}

func newRig(t *testing.T, change func(*config.Config)) *rig {
	t.Helper()
	cfg := config.Default()
	if change != nil {
		change(&cfg)
	}
	r := &rig{t: t, prepare: func(*specimen.Engine) {}}
	r.Scorer = New(cfg, func(s *snapshot.Snapshot) (Engine, error) {
		e := specimen.NewEngine(s.Architecture.Rows)
		r.prepare(e)
		r.engines = append(r.engines, e)
		return engine{e}, nil
	}, catalogue.New(1000), prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&r.logs, nil)))
	t.Cleanup(r.Close)
	return r
}

func blob(t testing.TB, s *snapshot.Snapshot) *stream.Blob {
	t.Helper()
	manifest, payload, err := snapshot.Encode(s)
	require.NoError(t, err)
	return &stream.Blob{Key: s.Model, ID: "a snapshot", Manifest: manifest, Payload: payload}
}

// arrive does what happens when a complete snapshot was read from the topic.
func (r *rig) arrive(b *stream.Blob) {
	r.offer(b)
	r.loadNext()
}

func (r *rig) step(epoch, step int64) {
	s := specimen.SASRec(specimen.Small, 20, step)
	s.Epoch = epoch
	r.arrive(blob(r.t, s))
}

func (r *rig) requireInUse(epoch, step int64) {
	r.t.Helper()
	m := r.Acquire()
	require.NotNil(r.t, m)
	defer m.Release()
	require.Equal(r.t, snapshot.Version{Epoch: epoch, Step: step}, m.Manifest.Version())
}

func (r *rig) outcome(result string) int {
	return int(testutil.ToFloat64(r.outcomes.WithLabelValues(result)))
}

func TestThereIsNoModelBeforeTheFirstSnapshot(t *testing.T) {
	require.Nil(t, newRig(t, nil).Acquire())
}

func TestANewerSnapshotReplacesTheOlder(t *testing.T) {
	r := newRig(t, nil)
	r.step(1, 10)
	r.requireInUse(1, 10)
	r.step(1, 20)
	r.requireInUse(1, 20)
	r.step(2, 5) // a later epoch wins over a higher step
	r.requireInUse(2, 5)
	require.Equal(t, 3, r.outcome(swapped))

	points := r.Progress()
	require.Len(t, points, 3)
	require.EqualValues(t, 20, points[1].Step)
	require.NotEmpty(t, points[1].Metrics)
}

func TestAnOlderSnapshotIsRefused(t *testing.T) {
	r := newRig(t, nil)
	r.step(2, 20)
	r.step(2, 10)
	r.step(1, 99)
	r.requireInUse(2, 20)
	require.Equal(t, 2, r.outcome(refused))
	require.Contains(t, r.logs.String(), "serving.allow_rollback")
	require.Len(t, r.engines, 1, "nothing is built for a snapshot that is refused")
}

func TestAnOlderSnapshotIsAcceptedAsARollback(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Serving.AllowRollback = true })
	r.step(2, 20)
	r.step(2, 10)
	r.requireInUse(2, 10)
}

func TestTheSameSnapshotAgainIsNothingNew(t *testing.T) {
	r := newRig(t, nil)
	r.step(1, 10)
	r.step(1, 10)
	require.Len(t, r.engines, 1)
	require.Zero(t, r.outcome(refused))
	require.Empty(t, r.logs.String())
}

func TestTheNewestOfThoseThatWaitIsLoaded(t *testing.T) {
	r := newRig(t, nil)
	for _, step := range []int64{10, 30, 20} {
		r.offer(blob(t, specimen.SASRec(specimen.Small, 20, step)))
	}
	require.EqualValues(t, 30, r.pending.version.Step)
}

// Who starts finds several in the topic: that the newest cannot be used does not leave it
// without a model, nor do others wait once there is one.
func TestAnEarlierSnapshotIsLoadedWhereTheNewestCannotBe(t *testing.T) {
	r := newRig(t, nil)
	for step := range int64(6) {
		b := blob(t, specimen.SASRec(specimen.Small, 20, 10+step))
		if step > 3 {
			b.Payload[len(b.Payload)/2] ^= 1
		}
		r.offer(b)
	}
	require.Len(t, r.earlier, mostEarlier)
	r.loadNext()
	r.requireInUse(1, 13)
	require.Equal(t, 2, r.outcome(rejected))
	require.Empty(t, r.earlier)
	r.offer(blob(t, specimen.SASRec(specimen.Small, 20, 20)))
	r.offer(blob(t, specimen.SASRec(specimen.Small, 20, 21)))
	require.Empty(t, r.earlier)
	r.loadNext()
	r.requireInUse(1, 21)
}

func TestABadSnapshotLeavesTheOldOneInUse(t *testing.T) {
	for name, c := range map[string]struct {
		damage  func(*stream.Blob)
		prepare func(*specimen.Engine)
		want    string
	}{
		"a manifest that is no JSON": {
			damage: func(b *stream.Blob) { b.Manifest = []byte("{") }, want: "manifest",
		},
		"a flipped bit in the payload": {
			damage: func(b *stream.Blob) { b.Payload[len(b.Payload)/2] ^= 1 }, want: "sha256",
		},
		"a payload cut short": {
			damage: func(b *stream.Blob) { b.Payload = b.Payload[:len(b.Payload)-1] }, want: "",
		},
		"scores that are not the trainer's": {
			prepare: func(e *specimen.Engine) { e.Probe = errors.New("differ by 0.5") }, want: "differ by 0.5",
		},
		"an engine that fails": {
			prepare: func(e *specimen.Engine) { e.Err = errors.New("out of memory") }, want: "out of memory",
		},
		"scores that are no numbers": {
			prepare: func(e *specimen.Engine) {
				for i := range e.Bias {
					e.Bias[i] = float32(math.NaN())
				}
			}, want: "finite score",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.step(1, 10)
			b := blob(t, specimen.SASRec(specimen.Small, 20, 20))
			if c.damage != nil {
				c.damage(b)
			}
			if c.prepare != nil {
				r.prepare = c.prepare
			}
			r.arrive(b)

			r.requireInUse(1, 10)
			require.Equal(t, 1, r.outcome(rejected))
			require.Equal(t, 1, strings.Count(r.logs.String(), "snapshot rejected"), r.logs.String())
			require.Contains(t, r.State().Trouble, c.want)
			require.False(t, r.engines[0].Closed.Load())
			for _, e := range r.engines[1:] {
				require.True(t, e.Closed.Load(), "what was built for it is freed")
			}

			r.prepare = func(*specimen.Engine) {}
			r.step(1, 30)
			r.requireInUse(1, 30)
			require.Empty(t, r.State().Trouble, "the next good one ends the trouble")
		})
	}
}

func TestARetiredModelIsClosedWhenItsLastLookUpEnds(t *testing.T) {
	r := newRig(t, nil)
	r.step(1, 10)
	first, second := r.Acquire(), r.Acquire()
	r.step(1, 20)
	first.Release()
	require.False(t, r.engines[0].Closed.Load(), "a look-up still uses it")
	require.NoError(t, second.Score([]int32{2}, make([]float32, 20)))
	second.Release()
	r.closing.Wait()
	require.True(t, r.engines[0].Closed.Load())
	require.False(t, r.engines[1].Closed.Load())
	r.Close()
	require.True(t, r.engines[1].Closed.Load())
	require.Nil(t, r.Acquire())
}

func TestModelsOfOneVocabularyShareIt(t *testing.T) {
	r := newRig(t, nil)
	r.step(1, 10)
	a := r.Acquire()
	defer a.Release()
	r.step(1, 20)
	b := r.Acquire()
	defer b.Release()
	require.Same(t, a.vocabulary, b.vocabulary)

	grown := specimen.SASRec(specimen.Small, 21, 30)
	r.arrive(blob(t, grown))
	c := r.Acquire()
	defer c.Release()
	require.Equal(t, 21, c.Rows())
	require.Same(t, a.Item(5), c.Item(5), "an item's place stays the same")
}

func TestAModelKnowsItsItems(t *testing.T) {
	r := newRig(t, nil)
	r.step(1, 10)
	m := r.Acquire()
	defer m.Release()
	row, ok := m.Row(specimen.ID(7))
	require.True(t, ok)
	require.EqualValues(t, 7, row)
	require.Equal(t, specimen.ID(7), m.Item(7).ID)
	row, ok = m.Row("never heard of")
	require.False(t, ok)
	require.EqualValues(t, vocab.Unknown, row)
	require.Equal(t, 18, m.Items())
	require.EqualValues(t, 2, m.Popular()[0].Row, "the specimen prefers low rows")
	require.Len(t, m.Popular(), 18)
}

func TestSimilarIsTheCosineOfItemVectors(t *testing.T) {
	r := newRig(t, nil)
	r.prepare = func(e *specimen.Engine) { e.Vectors[9] = []float32{0, 0} }
	r.step(1, 10)
	m := r.Acquire()
	defer m.Release()
	out := make([]float32, 20)
	require.NoError(t, m.Similar(t.Context(), 5, out))
	for row := vocab.FirstItem; row < 20; row++ {
		want := (1 + 5*float64(row)) / math.Sqrt((1+25)*(1+float64(row*row)))
		if row == 9 {
			want = 0 // a vector without a direction is like nothing
		}
		require.InDelta(t, want, out[row], 1e-6)
	}
	require.True(t, math.IsInf(float64(out[vocab.Padding]), -1) && math.IsInf(float64(out[vocab.Unknown]), -1))

	require.EqualValues(t, 6, m.Nearest(7, []int32{vocab.Unknown, 2, 6, 19}))
	require.EqualValues(t, vocab.Unknown, m.Nearest(7, []int32{vocab.Unknown}))
	require.EqualValues(t, vocab.Unknown, m.Nearest(7, nil))
}
