package scorer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/models/tower"
	"seralm/models/vocab"
	"seralm/serving/internal/specimen"
	"seralm/stream"
)

// numbers is the length of the vectors in these tests.
const numbers = 4

// knows puts a model with a tower for vectors in use and lets the scorer have read the
// knowledge topic to its end, which held nothing.
func (r *rig) knows(step int64) {
	r.t.Helper()
	r.arrive(blob(r.t, specimen.WithTower(specimen.SASRec(specimen.Small, 20, step), numbers)))
	if r.texts.Load() == nil {
		r.hold(newTexts(r.limit))
	}
}

func (r *rig) describe(id string, change ...func(*stream.Event[stream.Item])) {
	r.t.Helper()
	ev := stream.Event[stream.Item]{Body: stream.Item{Item: id, Title: "Title of " + id}}
	for _, c := range change {
		c(&ev)
	}
	require.True(r.t, r.items.Apply(ev))
	r.Described(id)
}

func deleted(ev *stream.Event[stream.Item]) { ev.Deleted = true }

// record is what the knowledge topic holds of an item; no vector removes.
func record(t testing.TB, topic, id, encoder string, vector ...float32) *kgo.Record {
	t.Helper()
	var body any = stream.NoKnowledge{}
	if vector != nil {
		body = stream.Knowledge{Item: id, Text: "About " + id, Vector: vector, Encoder: encoder, Origin: stream.OriginTitle}
	}
	rec, err := stream.NewRecord(topic, id, fmt.Sprint(time.Now().UnixNano()), "test", time.Now(), body)
	require.NoError(t, err)
	return rec
}

// tell is a record of the knowledge topic, and the turn to make a table.
func (r *rig) tell(id, encoder string, vector ...float32) {
	r.t.Helper()
	r.learn(r.texts.Load(), record(r.t, "knowledge", id, encoder, vector...))
	r.Refresh()
}

func (r *rig) told(result string) int {
	return int(testutil.ToFloat64(r.knowledge.WithLabelValues(result)))
}

// requireByText checks which items the model in use knows by text alone.
func (r *rig) requireByText(ids ...string) {
	r.t.Helper()
	m := r.Acquire()
	defer m.Release()
	var got []string
	for row := m.learnt; row < m.Rows(); row++ {
		id := m.Item(int32(row)).ID
		got = append(got, id)
		at, ok := m.Row(id)
		require.True(r.t, ok)
		require.EqualValues(r.t, row, at)
		require.True(r.t, m.KnownByText(at))
	}
	require.Equal(r.t, ids, got)
	require.Equal(r.t, len(ids), m.ByText())
	require.Len(r.t, *m.Buffer(), m.Rows())
	require.Len(r.t, m.inverse, m.Rows())
	require.Equal(r.t, 18, m.Items(), "what is learnt is counted for itself")
}

func TestAnItemWithATextIsARowBehindTheLearntOnes(t *testing.T) {
	r := newRig(t, nil)
	r.knows(1)
	r.requireByText()
	r.describe("new")
	r.tell("new", "e", 1, 2, 3, 4)
	r.requireByText("new")

	m := r.Acquire()
	defer m.Release()
	row, _ := m.Row("new")
	require.EqualValues(t, 20, row)
	require.Equal(t, "Title of new", m.Item(row).Title())
	want, err := m.tower.Row([]float32{1, 2, 3, 4})
	require.NoError(t, err)
	require.Equal(t, want[:2], m.engine.ItemVector(row), "the fake keeps two numbers")
	require.NoError(t, m.Score([]int32{row}, *m.Buffer()))
	require.Contains(t, func() (rows []int32) {
		for _, p := range m.Popular() {
			rows = append(rows, p.Row)
		}
		return rows
	}(), row, "popular with the model, behind whatever it likes better")
	require.NotEqual(t, int32(vocab.Unknown), m.Nearest(row, []int32{vocab.Unknown, 7}))
	require.Equal(t, row, m.Nearest(7, []int32{row}))
	like := *m.Buffer()
	require.NoError(t, m.Similar(t.Context(), row, like))
	require.InDelta(t, 1, like[row], 1e-6)
	state, ok := r.Knowledge()
	require.True(t, ok)
	require.Equal(t, 1, state.ByText)
	require.WithinDuration(t, time.Now(), state.Newest, time.Minute)
}

func TestANewerTextReplacesTheRowAndARemovalTakesItAway(t *testing.T) {
	r := newRig(t, nil)
	r.knows(1)
	r.describe("a")
	r.describe("b")
	r.tell("a", "e", 1, 0, 0, 0)
	r.tell("b", "e", 0, 1, 0, 0)
	vector := func() []float32 {
		m := r.Acquire()
		defer m.Release()
		row, ok := m.Row("a")
		require.True(t, ok)
		return m.engine.ItemVector(row)
	}
	before := vector()
	r.tell("a", "e", 0, 0, 1, 0)
	require.NotEqual(t, before, vector())
	r.requireByText("a", "b")

	r.tell("a", "")
	r.requireByText("b")
	r.tell("b", "")
	r.requireByText()
	require.Equal(t, 3, r.told(kept))
	require.Equal(t, 2, r.told(removed))
	require.EqualValues(t, 1, r.current.Load().Manifest.Step, "all on one snapshot")
}

func TestWhatTheCatalogueSaysOfAnItemDecides(t *testing.T) {
	r := newRig(t, nil)
	r.knows(1)
	r.tell("late", "e", 1, 0, 0, 0)
	r.requireByText()
	r.describe("late")
	require.Len(t, r.stale, 1, "nobody writes knowledge again for it")
	r.Refresh()
	r.requireByText("late")

	r.describe("late", deleted)
	r.requireByText("late") // its entry keeps it out of answers at once
	r.tell("other", "e", 1, 0, 0, 0)
	r.requireByText()

	r.describe("late")
	r.Refresh()
	r.requireByText("late")
	r.describe("late", func(ev *stream.Event[stream.Item]) { ev.Body.Hidden = true })
	r.Refresh()
	r.requireByText("late") // a click on it says something; it is not shown
}

// Rows of learnt items are the recommender's own.
func TestTheTextOfALearntItemChangesNothingBeforeTheNextSnapshot(t *testing.T) {
	r := newRig(t, nil)
	r.knows(1)
	r.describe(specimen.ID(5))
	<-r.stale // the model is new
	m := r.current.Load()
	r.tell(specimen.ID(5), "e", 1, 2, 3, 4)
	require.Empty(t, r.stale)
	require.Same(t, m, r.current.Load())
	require.Equal(t, 1, r.told(kept))
}

func TestANewSnapshotHasTheRowsOfItsOwnTowerWhenItIsSwappedIn(t *testing.T) {
	r := newRig(t, nil)
	r.knows(1)
	for _, id := range []string{"i20", "new"} {
		r.describe(id)
		r.tell(id, "e", 1, 2, 3, 4)
	}
	r.requireByText("i20", "new")
	old := r.current.Load()

	// The next one has learnt i20.
	r.arrive(blob(t, specimen.WithTower(specimen.SASRec(specimen.Small, 21, 2), numbers)))
	m := r.Acquire()
	defer m.Release()
	require.Equal(t, 1, m.ByText())
	row, _ := m.Row("i20")
	require.EqualValues(t, 20, row)
	require.False(t, m.KnownByText(row))
	row, _ = m.Row("new")
	require.EqualValues(t, 21, row)
	want, err := m.tower.Row([]float32{1, 2, 3, 4})
	require.NoError(t, err)
	require.Equal(t, want[:2], m.engine.ItemVector(row))
	require.NotEqual(t, old.engine.ItemVector(21), m.engine.ItemVector(row))

	// One that has not is not without it.
	r.rollback = true
	r.knows(1)
	r.requireByText("i20", "new")
}

func TestABaseHoldsNothing(t *testing.T) {
	r := newRig(t, nil)
	r.step(1, 1)
	require.True(t, r.State().Knowing, "there is nothing to wait for")
	_, ok := r.Knowledge()
	require.False(t, ok)
	r.describe("new")
	require.Nil(t, r.texts.Load())
	r.Refresh()
	r.requireByText()
}

func TestAModelWithATowerIsNotReadyBeforeTheTopicWasRead(t *testing.T) {
	r := newRig(t, nil)
	r.arrive(blob(t, specimen.WithTower(specimen.SASRec(specimen.Small, 20, 1), numbers)))
	require.False(t, r.State().Knowing)
	r.hold(newTexts(r.limit))
	require.True(t, r.State().Knowing)
}

func TestVectorsOfAnotherEncoderAreCountedNamedOnceAndDoNotStopTheRest(t *testing.T) {
	r := newRig(t, nil)
	r.knows(1)
	for i := range 10 {
		r.describe(fmt.Sprint("odd", i))
		r.tell(fmt.Sprint("odd", i), "another-encoder", 1, 2)
	}
	r.describe("good")
	r.tell("good", "e", 1, 2, 3, 4)
	r.requireByText("good")
	require.Equal(t, 10, r.told(misfit))
	require.Equal(t, 1, strings.Count(r.logs.String(), "another-encoder"), r.logs.String())
	require.Contains(t, r.logs.String(), "a vector of 2 numbers, the model was trained with 4")
	require.NotContains(t, r.logs.String(), "odd")

	// A snapshot that was trained with the other encoder.
	r.arrive(blob(t, specimen.WithTower(specimen.SASRec(specimen.Small, 20, 2), 2)))
	m := r.Acquire()
	defer m.Release()
	require.Equal(t, 10, m.ByText())
	require.Equal(t, 1, strings.Count(r.logs.String(), "encoder=e "), r.logs.String())
}

func TestARecordThatIsNoKnowledgeIsCounted(t *testing.T) {
	r := newRig(t, nil)
	r.knows(1)
	r.learn(r.texts.Load(), &kgo.Record{Key: []byte("a"), Value: []byte("{")})
	require.Equal(t, 1, r.told(invalid))
}

func TestThereIsRoomForAsManyItemsAsTheCatalogueHas(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Serving.Catalogue = 2 })
	r.knows(1)
	for _, id := range []string{"a", "b", "c"} {
		r.describe(id)
		r.tell(id, "e", 1, 2, 3, 4)
	}
	r.requireByText("a", "b")
	require.Equal(t, 1, r.told(full))
	r.tell("a", "e", 4, 3, 2, 1)
	r.tell("b", "")
	r.tell("c", "e", 1, 2, 3, 4)
	r.requireByText("a", "c")
	state, _ := r.Knowledge()
	require.Equal(t, KnowledgeState{ByText: 2, Vectors: 2, Limit: 2, Refused: 1, Newest: state.Newest}, state)
}

// A reading that begins again must not show what was replaced long ago.
func TestWhatIsReadAgainServesWhenAllOfItIsRead(t *testing.T) {
	r := newRig(t, nil)
	r.knows(1)
	r.describe("a")
	r.tell("a", "e", 0, 0, 0, 9)
	m := r.current.Load()
	again := newTexts(r.limit)
	r.learn(again, record(t, "knowledge", "a", "e", 1, 0, 0, 0))
	r.Refresh()
	require.Same(t, m, r.current.Load())
	r.learn(again, record(t, "knowledge", "a", "e", 0, 0, 0, 8))
	r.hold(again)
	require.NotSame(t, m, r.current.Load())
	r.requireByText("a")
}

func TestATableIsNotMadeTwiceOfTheSame(t *testing.T) {
	r := newRig(t, nil)
	r.knows(1)
	r.describe("a")
	r.tell("a", "e", 1, 2, 3, 4)
	m := r.current.Load()
	r.mark()
	require.Zero(t, r.Refresh())
	require.Same(t, m, r.current.Load())
}

func TestASnapshotWhoseTowerDoesNotFitIsRejected(t *testing.T) {
	r := newRig(t, nil)
	r.step(1, 1)
	s := specimen.WithTower(specimen.SASRec(specimen.Small, 20, 2), numbers)
	delete(s.Tensors, tower.Mean)
	r.arrive(blob(t, s))
	r.requireInUse(1, 1)
	require.Contains(t, r.State().Trouble, tower.Mean)
	require.True(t, r.engines[1].Closed.Load())
}
