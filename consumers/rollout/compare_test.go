package rollout

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/consumers/internal/toy"
	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/models/vocab"
	"seralm/stream"
)

// Against the definitions, written out: item rows with the one text or the other, user
// vectors of them, a softmax over all items.
func TestTheComparisonIsWhatItsDefinitionSays(t *testing.T) {
	s := toy.Snapshot("m", 1, 10, toy.Good)
	tw, err := tower.New(s.Tensors)
	require.NoError(t, err)
	c := &comparison{model: s, items: vocab.FromIDs(s.IDs), drafts: map[int32]texts{}}
	drafts := []stream.Draft{draft(1, 2, "ab", "ccc"), draft(1, 5, "cca", "d"), draft(1, 7, "", "b"), draft(1, 99, "a", "b")}
	for _, d := range drafts {
		require.NoError(t, c.add(tw, d))
	}
	require.Len(t, c.drafts, 3, "an item that the model does not know is left out")

	var instances []instance
	r := rand.New(rand.NewPCG(3, 3))
	for n := range 60 {
		in := instance{user: fmt.Sprint("u", n%7), y: fmt.Sprint("i", r.IntN(11))} // i10 is unknown
		for range 1 + r.IntN(4) {
			in.x = append(in.x, fmt.Sprint("i", r.IntN(11)))
		}
		instances = append(instances, in)
	}
	cases := c.cases(instances)
	e, err := c.compare(t.Context(), cases, openBag)
	require.NoError(t, err)

	table := s.Tensors[itemTable].Data
	weight := s.Tensors[tower.Weight].Data
	const k = toy.Letters - 1
	// move adds a text to a row, or takes it away.
	move := func(row []float64, text string, sign float64) {
		for d := range row {
			for l, x := range vector(text) {
				row[d] += sign * float64(weight[d*k+l]) * float64(x)
			}
		}
	}
	at := func(row int) []float64 {
		out := make([]float64, toy.Dim)
		for d := range out {
			out[d] = float64(table[row*toy.Dim+d])
		}
		return out
	}
	// logp of an instance with the drafts or without; cold, with y's id unknown.
	logp := func(in instance, drafted, cold bool) float64 {
		rows := map[string][]float64{}
		for i := range 10 {
			rows[fmt.Sprint("i", i)] = at(vocab.FirstItem + i)
		}
		unknown := map[string][]float64{}
		for _, d := range drafts[:3] {
			unknown[d.Item] = at(vocab.Unknown)
			text := d.Served.Text
			if drafted {
				text = d.Candidate.Text
				move(rows[d.Item], d.Served.Text, -1)
				move(rows[d.Item], d.Candidate.Text, 1)
			}
			move(unknown[d.Item], text, 1)
		}
		user := make([]float64, toy.Dim)
		for _, id := range in.x {
			row := rows[id]
			if row == nil {
				row = at(vocab.Unknown)
			}
			for d := range user {
				user[d] += row[d] / float64(len(in.x))
			}
		}
		if cold {
			rows[in.y] = unknown[in.y]
		}
		dot := func(row []float64) (z float64) {
			for d := range row {
				z += row[d] * user[d]
			}
			return z
		}
		sum := 0.0
		for _, row := range rows {
			sum += math.Exp(dot(row))
		}
		return dot(rows[in.y]) - math.Log(sum)
	}
	var warm, cold [2]float64
	n, colds := 0.0, 0.0
	for _, in := range instances {
		if in.y == "i10" {
			continue
		}
		n++
		warm[0] += logp(in, false, false)
		warm[1] += logp(in, true, false)
		if slices.Contains([]string{"i2", "i5", "i7"}, in.y) && !slices.Contains(in.x, in.y) {
			colds++
			cold[0] += logp(in, false, true)
			cold[1] += logp(in, true, true)
		}
	}
	require.Greater(t, colds, 5.0)
	require.EqualValues(t, n, e.Warm.Events)
	require.EqualValues(t, colds, e.Cold.Events)
	require.InDelta(t, warm[0]/n, e.Warm.Served, 1e-5)
	require.InDelta(t, warm[1]/n, e.Warm.Candidate, 1e-5)
	require.InDelta(t, cold[0]/colds, e.Cold.Served, 1e-5)
	require.InDelta(t, cold[1]/colds, e.Cold.Candidate, 1e-5)
	require.InDelta(t, (cold[1]-cold[0])/colds, e.Cold.Change, 1e-5)
	require.Less(t, e.Cold.Low, e.Cold.Change)
	require.Greater(t, e.Cold.High, e.Cold.Change)
	require.Equal(t, 7, e.Warm.Users)
	require.Equal(t, 3, e.Items)
}

// The same texts again change nothing at all, and a served graph computes the rows.
func TestAServedGraphSeesTheDrafts(t *testing.T) {
	const d, k = 2, toy.Letters - 1
	rows := int64(vocab.FirstItem + 3)
	s := &snapshot.Snapshot{IDs: []string{"i0", "i1", "i2"}, Tensors: map[string]snapshot.Tensor{}}
	s.Architecture = snapshot.Architecture{Name: "sasrec", Rows: int(rows), Dim: d, Layers: 1, Heads: 1, Inner: 2, MaxLen: 4}
	zero := func(name string, shape ...int64) []float32 {
		n := int64(1)
		for _, k := range shape {
			n *= k
		}
		s.Tensors[name] = snapshot.Tensor{Shape: shape, Data: make([]float32, n)}
		return s.Tensors[name].Data
	}
	table := zero(itemTable, rows, d)
	zero("position_embedding.weight", 4, d)
	layer := "trm_encoder.layer.0."
	for _, name := range []string{"query", "key", "value", "dense"} {
		zero(layer+"multi_head_attention."+name+".weight", d, d)
		zero(layer+"multi_head_attention."+name+".bias", d)
	}
	for _, name := range []string{"dense_1", "dense_2"} {
		zero(layer+"feed_forward."+name+".weight", d, d)
		zero(layer+"feed_forward."+name+".bias", d)
	}
	for _, name := range []string{"LayerNorm", layer + "multi_head_attention.LayerNorm", layer + "feed_forward.LayerNorm"} {
		zero(name+".weight", d)
		zero(name+".bias", d)[0] = 1 // the user's vector is (1, 0)
	}
	zero(tower.Weight, d, k)[0] = 1 // a letter a adds 1 to the score
	zero(tower.Mean, k)
	zero(tower.Scale, 1)[0] = 1
	table[2*d], table[3*d], table[vocab.Unknown*d] = 2, 1, 0.5

	tw, err := tower.New(s.Tensors)
	require.NoError(t, err)
	c := &comparison{model: s, items: vocab.FromIDs(s.IDs), drafts: map[int32]texts{}}
	require.NoError(t, c.add(tw, draft(1, 1, "a", "aaa")))
	cases := c.cases([]instance{{"u", []string{"i0"}, "i1"}, {"u", []string{"i1"}, "i1"}})
	require.Equal(t, []bool{true, false}, []bool{cases[0].cold, cases[1].cold})
	e, err := c.compare(t.Context(), cases, ONNX)
	require.NoError(t, err)
	p := func(y float64, others ...float64) float64 {
		sum := math.Exp(y)
		for _, z := range others {
			sum += math.Exp(z)
		}
		return y - math.Log(sum)
	}
	require.InDelta(t, p(1, 2, 0), e.Warm.Served, 1e-5)
	require.InDelta(t, p(3, 2, 0), e.Warm.Candidate, 1e-5)
	require.InDelta(t, p(1.5, 2, 0), e.Cold.Served, 1e-5)
	require.InDelta(t, p(3.5, 2, 0), e.Cold.Candidate, 1e-5)

	require.NoError(t, c.add(tw, draft(1, 1, "a", "a")))
	e, err = c.compare(t.Context(), cases, ONNX)
	require.NoError(t, err)
	require.Zero(t, e.Warm.Change)
	require.Zero(t, e.Cold.Low)
	action, _ := verdict(e)
	require.Equal(t, stream.ActionPromote, action, "no worse, with no tolerance")
}

func TestAVerdictGoesByTheLowerEndInBothViews(t *testing.T) {
	e := stream.Evidence{Tolerance: 0.02, Warm: stream.Comparison{Change: 1, Low: -0.019}, Cold: stream.Comparison{Change: 1, Low: 0.5}}
	action, _ := verdict(e)
	require.Equal(t, stream.ActionPromote, action)
	worse := e
	worse.Warm.Low = -0.021
	action, reason := verdict(worse)
	require.Equal(t, stream.ActionHold, action)
	require.Contains(t, reason, "warm")
	worse = e
	worse.Cold.Low = -0.5
	action, reason = verdict(worse)
	require.Equal(t, stream.ActionHold, action)
	require.Contains(t, reason, "cold")
}
