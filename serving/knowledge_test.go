package serving

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/serving/internal/specimen"
	"seralm/serving/scorer"
	"seralm/stream"
)

// tastes is a model that knows two: a text's vector is (action, romance) and nothing
// else is in an item's row. Even rows are action, odd ones romance. Its layers add
// nothing, so that a user's best items are those most like the newest one.
func tastes(t testing.TB, rows int, step int64) *snapshot.Snapshot {
	s := specimen.SASRec(specimen.Small, rows, step)
	for name, tensor := range s.Tensors {
		for i := range tensor.Data {
			tensor.Data[i] = 0
			if strings.HasSuffix(name, "LayerNorm.weight") {
				tensor.Data[i] = 1
			}
		}
	}
	table := s.Tensors["item_embedding.weight"].Data
	weight := make([]float32, 2*specimen.Small.Dim)
	weight[0], weight[3] = 1, 1         // row[0] = action, row[1] = romance
	weight[2*2+1], weight[3*2] = -1, -1 // against each other, for rows are centred
	s.Tensors[tower.Weight] = snapshot.Tensor{Shape: []int64{int64(specimen.Small.Dim), 2}, Data: weight}
	s.Tensors[tower.Mean] = snapshot.Tensor{Shape: []int64{2}, Data: make([]float32, 2)}
	s.Tensors[tower.Scale] = snapshot.Tensor{Shape: []int64{1}, Data: []float32{1}}
	makes, err := tower.New(s.Tensors)
	require.NoError(t, err)
	for row := 2; row < rows; row++ {
		v := []float32{0.5, 0}
		if row%2 == 1 {
			v = []float32{0, 0.5}
		}
		learnt, err := makes.Row(v)
		require.NoError(t, err)
		copy(table[row*specimen.Small.Dim:], learnt)
	}
	return specimen.Proven(t, s)
}

// knowledge is the record of what is known of an item; no vector removes it.
func (p *plant) knowledge(id string, vector ...float32) *kgo.Record {
	p.t.Helper()
	var body any = stream.NoKnowledge{}
	if vector != nil {
		body = stream.Knowledge{Item: id, Text: "About " + id, Vector: vector, Encoder: "e", Origin: stream.OriginTitle}
	}
	rec, err := stream.NewRecord(p.names.Knowledge(), id, fmt.Sprint(time.Now().UnixNano()), "test", time.Now(), body)
	require.NoError(p.t, err)
	return rec
}

// From the log to the answers: everything that a new item does before anybody has
// trained on it.
func TestANewItemIsRecommendedByItsTextAlone(t *testing.T) {
	specimen.Runtime(t)
	p := newPlant(t, func(d *Deps) {
		d.Build = scorer.ONNX
		d.Config.Serving.Deadline, d.Config.Serving.HistoryDeadline = patience, patience
	})
	const rows = 12
	p.publish(tastes(t, rows, 1))
	p.clicked("ann", "i2", "i4") // action
	p.clicked("bob", "i3", "i5") // romance
	p.inUse(1)
	p.eventually(func() bool { return p.readiness().Ready }, "ready")

	best := func(user string) answerItem {
		t.Helper()
		a := decode[answer](t, p.ask("GET", "/v1/recommendations/"+user+"?n=1&explain=true", ""))
		require.Equal(t, sourcePersonalised, a.Source)
		return a.Items[0]
	}
	known := func() itemAnswer { return decode[itemAnswer](t, p.ask("GET", "/v1/items/new", "")) }

	// Its title is encoded as action.
	start := time.Now()
	p.write(p.item("new", &stream.Item{Title: "A chase", Categories: []string{"Action"}}), p.knowledge("new", 2, 0))
	p.eventually(func() bool { return best("ann").Item == "new" }, "the new item is the best for whom it suits")
	t.Logf("recommended %s after it was written", time.Since(start))
	require.Equal(t, "A chase", best("ann").Title)
	require.Equal(t, byText, best("ann").KnownBy)
	require.Contains(t, []string{"i2", "i4"}, best("ann").Because.Item)
	require.NotEqual(t, "new", best("bob").Item)
	require.Empty(t, best("bob").KnownBy)
	require.Equal(t, byText, known().KnownBy)
	require.True(t, known().Modelled)

	// A click on it counts, also where nothing else is known of the user.
	p.clicked("eve", "new")
	require.Equal(t, "i2", best("eve").Item, "action")
	require.Equal(t, "new", best("eve").Because.Item)
	now := decode[status](t, p.ask("GET", "/v1/status", ""))
	require.Equal(t, rows-2, now.Model.Items)
	require.Equal(t, 1, now.Knowledge.ByText)
	require.WithinDuration(t, time.Now(), *now.Knowledge.Newest, time.Minute)

	_, router := specification(t)
	for _, target := range []string{"/v1/recommendations/ann", "/v1/items/new", "/v1/status"} {
		exchange{p.rig, "GET", target, "", 200}.check(t, router)
	}

	// A language model's text replaces the title's: it is a romance.
	p.write(p.knowledge("new", 0, 2))
	p.eventually(func() bool { return best("bob").Item == "new" }, "another text, the same snapshot")
	require.NotEqual(t, "new", best("ann").Item)
	require.Equal(t, "i3", best("eve").Item, "a click on it is another click now")

	p.write(p.item("new", &stream.Item{Title: "A chase", Hidden: true}))
	p.eventually(func() bool { return known().Hidden }, "hidden")
	require.NotEqual(t, "new", best("bob").Item)
	require.Equal(t, sourcePersonalised, decode[answer](t, p.ask("GET", "/v1/recommendations/eve", "")).Source)

	p.write(p.item("new", &stream.Item{Title: "A kiss"}))
	p.eventually(func() bool { return best("bob").Item == "new" }, "shown again")
	require.Equal(t, "A kiss", best("bob").Title)

	p.write(p.knowledge("new"))
	p.eventually(func() bool { return best("bob").Item != "new" }, "a removal removes the row")
	require.False(t, known().Modelled)
	p.write(p.knowledge("new", 0, 2))
	p.eventually(func() bool { return best("bob").Item == "new" }, "and another text brings it back")

	p.write(p.item("new", nil))
	p.eventually(func() bool { return best("bob").Item != "new" }, "a deletion is at once")
	p.write(p.item("new", &stream.Item{Title: "Once more"}))
	p.eventually(func() bool { return best("bob").Title == "Once more" }, "nobody wrote knowledge again")

	// The recommender learns it, as action after all.
	learnt := tastes(t, rows+1, 2)
	learnt.IDs[rows-2] = "new"
	p.publish(learnt)
	p.inUse(2)
	require.NotEqual(t, "new", best("bob").Item)
	require.True(t, known().Modelled)
	require.Empty(t, known().KnownBy)
	require.Zero(t, decode[status](t, p.ask("GET", "/v1/status", "")).Knowledge.ByText)
	p.stop()
}

// A restarted server must not be sent look-ups before it knows what the one before knew.
func TestAServerIsNotReadyBeforeItKnowsTheTexts(t *testing.T) {
	r := newRig(t)
	r.itemsRead.Store(true)
	r.engine = specimen.NewEngine(20)
	r.loadSnapshot(specimen.WithTower(specimen.SASRec(specimen.Small, 20, 1), 2))
	ready := r.readiness()
	require.False(t, ready.Ready)
	require.Equal(t, "knowledge", ready.Missing[0].Check)
	require.Equal(t, 200, r.ask("GET", "/v1/recommendations/ann", "").Code)
}
