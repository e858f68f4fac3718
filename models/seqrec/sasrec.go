package seqrec

import (
	"context"
	"fmt"
	"math"
	"sort"

	"seralm/models/snapshot"
	"seralm/models/tensor"
	"seralm/models/vocab"
)

// Hyper are the sizes of a transformer recommender, named as in RecBole.
type Hyper struct {
	Dim, Layers, Heads, Inner, MaxLen int
}

// Options are how a recommender learns.
type Options struct {
	Seed         uint64
	LearningRate float64
	Dropout      float64 // of embeddings, attention probabilities and sublayer outputs
	ClipNorm     float64 // 0 = off
	Threads      int     // 1 = bit-reproducible
	Device       string
	// Knowledge is the length of the items' knowledge vectors; 0 = a Base, which has
	// none. IDDropout is the probability that an item of a model with knowledge is
	// learnt without its id in a step.
	Knowledge int
	IDDropout float64
}

// SASRec is the self-attentive recommender of Kang and McAuley (ICDM 2018) in
// RecBole's form: learned absolute positions counted from the oldest item kept,
// post-LN blocks, GELU, output tied to the item table, no bias.
//
// It is trained by full-softmax cross-entropy on every new position of a sequence
// in one pass, which the causal mask makes the same as training on each prefix by
// itself (but for dropout).
//
// With Options.Knowledge an item is its id and its text (see items); it starts exactly
// as its Base.
type SASRec struct {
	hyper     Hyper
	opts      Options
	thread    *tensor.Thread
	params    *tensor.Params
	knowledge *knowledge // nil for a Base
	rows      int
}

const layerNormEps = 1e-12

// NewSASRec returns an untrained model with item rows [0, rows).
func NewSASRec(h Hyper, rows int, o Options) (*SASRec, error) {
	if h.Heads < 1 || h.Dim%h.Heads != 0 {
		return nil, fmt.Errorf("sasrec: %d heads do not divide dim %d", h.Heads, h.Dim)
	}
	thread, err := tensor.Start(tensor.Options{Threads: o.Threads, Device: o.Device})
	if err != nil {
		return nil, err
	}
	m := &SASRec{hyper: h, opts: o, thread: thread, params: tensor.NewParams(), rows: max(rows, vocab.FirstItem)}
	err = thread.Do(func(s *tensor.Scope) {
		for _, p := range m.shapes() {
			m.params.Add(s, p.name, initial(o.Seed, p), p.shape...)
		}
		if o.Knowledge > 0 {
			m.knowledge = newKnowledge(s, o.Knowledge, m.rows)
		}
	})
	if err != nil {
		thread.Close()
		return nil, err
	}
	return m, nil
}

const itemTable = "item_embedding.weight"

type shaped struct {
	name  string
	shape []int64
}

func layerName(i int, rest string) string { return fmt.Sprintf("trm_encoder.layer.%d.%s", i, rest) }

// shapes lists the parameters under RecBole's names.
func (m *SASRec) shapes() []shaped {
	d, inner := int64(m.hyper.Dim), int64(m.hyper.Inner)
	out := []shaped{
		{itemTable, []int64{int64(m.rows), d}},
		{"position_embedding.weight", []int64{int64(m.hyper.MaxLen), d}},
		{"LayerNorm.weight", []int64{d}}, {"LayerNorm.bias", []int64{d}},
	}
	for i := range m.hyper.Layers {
		for _, n := range []string{"query", "key", "value", "dense"} {
			out = append(out,
				shaped{layerName(i, "multi_head_attention."+n+".weight"), []int64{d, d}},
				shaped{layerName(i, "multi_head_attention."+n+".bias"), []int64{d}})
		}
		out = append(out,
			shaped{layerName(i, "multi_head_attention.LayerNorm.weight"), []int64{d}},
			shaped{layerName(i, "multi_head_attention.LayerNorm.bias"), []int64{d}},
			shaped{layerName(i, "feed_forward.dense_1.weight"), []int64{inner, d}},
			shaped{layerName(i, "feed_forward.dense_1.bias"), []int64{inner}},
			shaped{layerName(i, "feed_forward.dense_2.weight"), []int64{d, inner}},
			shaped{layerName(i, "feed_forward.dense_2.bias"), []int64{d}},
			shaped{layerName(i, "feed_forward.LayerNorm.weight"), []int64{d}},
			shaped{layerName(i, "feed_forward.LayerNorm.bias"), []int64{d}})
	}
	if m.opts.Knowledge > 0 {
		out = append(out, m.towerShapes()...)
	}
	return out
}

// Name implements Recommender.
func (m *SASRec) Name() string { return "sasrec" }

// Architecture describes the model to those who serve it.
func (m *SASRec) Architecture() snapshot.Architecture {
	h := m.hyper
	return snapshot.Architecture{Name: m.Name(), Rows: m.rows, Dim: h.Dim, Layers: h.Layers, Heads: h.Heads, Inner: h.Inner, MaxLen: h.MaxLen}
}

// Resize implements Recommender. A new row is a function of seed and row; in a model
// with knowledge, as far from it as the unknown row has come from its beginning: an item
// that was scored by its text alone is scored about the same when its id is admitted.
func (m *SASRec) Resize(rows int) error {
	if rows <= m.rows {
		return nil
	}
	from, d := m.rows, m.hyper.Dim
	fresh := make([]float32, 0, (rows-from)*d)
	for r := from; r < rows; r++ {
		fresh = append(fresh, normalRow(m.opts.Seed, itemTable, r, d)...)
	}
	err := m.thread.Do(func(s *tensor.Scope) {
		if m.knowledge != nil {
			unknown := s.Values(s.Narrow(m.params.Get(itemTable), 0, vocab.Unknown, 1))
			for i, was := range normalRow(m.opts.Seed, itemTable, vocab.Unknown, d) {
				for j := i; j < len(fresh); j += d {
					fresh[j] += unknown[i] - was
				}
			}
		}
		m.params.Grow(s, itemTable, fresh)
		if m.knowledge != nil {
			m.knowledge.resize(s, rows)
		}
	})
	if err != nil {
		return err
	}
	m.rows = rows
	return nil
}

// Learn implements Recommender.
func (m *SASRec) Learn(_ context.Context, batch []Sequence, step uint64) (Loss, error) {
	groups, targets, err := m.prepare(batch)
	if err != nil {
		return Loss{}, err
	}
	n := len(targets)
	if n == 0 {
		return Loss{}, nil
	}
	var nll, norm float64
	err = m.thread.Do(func(s *tensor.Scope) {
		s.Seed(mix(m.opts.Seed, step))
		var items, table, hidden *tensor.Tensor
		s.Grad(func() {
			items = m.items(s, m.opts.IDDropout)
			table = items
			if m.knowledge != nil {
				// What histories and candidates do to the rows meets here, and goes on
				// to the tower's parameters in one pass.
				table = s.Leaf(items)
			}
			var parts []*tensor.Tensor
			for _, g := range groups {
				h := m.encode(s, table, g.ids, g.rows, g.width, m.opts.Dropout)
				parts = append(parts, s.IndexSelect(s.View(h, int64(g.rows*g.width), int64(m.hyper.Dim)), 0, s.I64(g.at, int64(len(g.at)))))
			}
			hidden = s.Cat(0, parts...)
		})
		var byHidden, byItems *tensor.Tensor
		nll, byHidden, byItems = crossEntropy(s, m.realItems(s, table), hidden, targets)
		if !finite(nll) {
			return
		}
		s.BackwardFrom([]*tensor.Tensor{hidden}, []*tensor.Tensor{byHidden})
		byTable := s.Gradient(table)
		s.AddInPlace(m.realItems(s, byTable), byItems)
		if m.knowledge != nil {
			s.BackwardFrom([]*tensor.Tensor{items}, []*tensor.Tensor{byTable})
		}
		adam := tensor.DefaultAdam(m.opts.LearningRate)
		adam.ClipNorm = m.opts.ClipNorm
		norm = m.params.Step(s, adam)
	})
	switch {
	case err != nil:
		return Loss{}, fmt.Errorf("sasrec: learning from %d sequences: %w", len(batch), err)
	case !finite(nll):
		return Loss{}, &NumericError{What: "loss", Value: nll, Step: step}
	case !finite(norm):
		return Loss{}, &NumericError{What: "gradient norm", Value: norm, Step: step}
	}
	return Loss{NLL: nll, Targets: n}, nil
}

// realItems are the rows of a table that can be targets.
func (m *SASRec) realItems(s *tensor.Scope, table *tensor.Tensor) *tensor.Tensor {
	return s.Narrow(table, 0, vocab.FirstItem, int64(m.rows-vocab.FirstItem))
}

// encode returns the hidden states [B, T, d] of ids [B*T], rows of the table of items.
func (m *SASRec) encode(s *tensor.Scope, table *tensor.Tensor, ids []int64, batch, width int, dropout float64) *tensor.Tensor {
	b, t, d, heads := int64(batch), int64(width), int64(m.hyper.Dim), int64(m.hyper.Heads)
	p := m.params.Get
	linear := func(x *tensor.Tensor, name string) *tensor.Tensor {
		return s.Linear(x, p(name+".weight"), p(name+".bias"))
	}
	norm := func(x *tensor.Tensor, name string) *tensor.Tensor {
		return s.LayerNorm(x, p(name+".weight"), p(name+".bias"), layerNormEps)
	}
	x := s.Embedding(table, s.I64(ids, b, t))
	x = s.Add(x, s.Narrow(p("position_embedding.weight"), 0, 0, t))
	x = s.Dropout(norm(x, "LayerNorm"), dropout)
	mask := s.Bool(causal(width), t, t)
	for i := range m.hyper.Layers {
		attention, ffn := layerName(i, "multi_head_attention"), layerName(i, "feed_forward")
		head := func(name string) *tensor.Tensor {
			return s.Transpose(s.View(linear(x, attention+"."+name), b, t, heads, d/heads), 1, 2)
		}
		context := s.Attention(head("query"), head("key"), head("value"), mask, dropout)
		out := linear(s.View(s.Transpose(context, 1, 2), b, t, d), attention+".dense")
		x = norm(s.Add(s.Dropout(out, dropout), x), attention+".LayerNorm")
		out = linear(s.Gelu(linear(x, ffn+".dense_1")), ffn+".dense_2")
		x = norm(s.Add(s.Dropout(out, dropout), x), ffn+".LayerNorm")
	}
	return x
}

// causal is the lower triangle [T, T]. Padding stands behind the items, so no
// position that counts sees it.
func causal(t int) []bool {
	mask := make([]bool, t*t)
	for i := range t {
		for j := 0; j <= i; j++ {
			mask[i*t+j] = true
		}
	}
	return mask
}

// group is sequences of similar length, padded to the longest.
type group struct {
	ids         []int64 // [rows, width]
	rows, width int
	at          []int64 // flat positions whose hidden state predicts a target
}

// maxWaste is the share of padding that a group may hold.
const maxWaste = 0.25

// prepare sorts the sequences by length into groups and lists their targets, in
// the order of the groups' positions, counted from vocab.FirstItem.
func (m *SASRec) prepare(batch []Sequence) ([]*group, []int64, error) {
	var use []Sequence
	for _, q := range batch {
		if cut := len(q.Items) - (m.hyper.MaxLen + 1); cut > 0 {
			q = Sequence{Items: q.Items[cut:], From: max(0, q.From-cut)}
		}
		for _, r := range q.Items {
			if r < vocab.Unknown || int(r) >= m.rows {
				return nil, nil, fmt.Errorf("sasrec: item row %d is not among the %d rows", r, m.rows)
			}
		}
		if len(q.Items) >= 2 && q.From < len(q.Items) {
			use = append(use, q)
		}
	}
	sort.SliceStable(use, func(i, j int) bool { return len(use[i].Items) < len(use[j].Items) })
	var groups []*group
	var targets []int64
	for end := len(use); end > 0; {
		width := len(use[end-1].Items) - 1
		begin, filled := end, 0
		for begin > 0 {
			n := len(use[begin-1].Items) - 1
			if float64(filled+n) < (1-maxWaste)*float64(width*(end-begin+1)) {
				break
			}
			filled += n
			begin--
		}
		g := &group{rows: end - begin, width: width, ids: make([]int64, (end-begin)*width)}
		for i, q := range use[begin:end] {
			for t, r := range q.Items[:len(q.Items)-1] {
				g.ids[i*width+t] = int64(r)
			}
			for t := max(q.From, 1); t < len(q.Items); t++ {
				if q.Items[t] >= vocab.FirstItem { // nobody recommends the unknown item
					g.at = append(g.at, int64(i*width+t-1))
					targets = append(targets, int64(q.Items[t])-vocab.FirstItem)
				}
			}
		}
		if len(g.at) > 0 {
			groups = append(groups, g)
		}
		end = begin
	}
	return groups, targets, nil
}

// scoreRows bounds the histories scored in one pass.
const scoreRows = 256

// Scores implements Recommender.
func (m *SASRec) Scores(_ context.Context, histories [][]int32) ([][]float32, error) {
	out := make([][]float32, len(histories))
	order := make([]int, len(histories))
	for i, h := range histories {
		if len(h) == 0 {
			return nil, fmt.Errorf("sasrec: history %d is empty", i)
		}
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return len(histories[order[a]]) < len(histories[order[b]]) })
	err := m.thread.Do(func(s *tensor.Scope) {
		table := m.items(s, 0)
		for len(order) > 0 {
			some := order[:min(len(order), scoreRows)]
			order = order[len(some):]
			s.Sub(func(s *tensor.Scope) { m.score(s, table, histories, some, out) })
		}
	})
	if err != nil {
		return nil, fmt.Errorf("sasrec: scoring %d histories: %w", len(histories), err)
	}
	return out, nil
}

func (m *SASRec) score(s *tensor.Scope, table *tensor.Tensor, histories [][]int32, which []int, out [][]float32) {
	width := min(len(histories[which[len(which)-1]]), m.hyper.MaxLen)
	ids := make([]int64, len(which)*width)
	last := make([]int64, len(which))
	for i, w := range which {
		h := histories[w][max(0, len(histories[w])-m.hyper.MaxLen):]
		for t, r := range h {
			ids[i*width+t] = int64(r)
		}
		last[i] = int64(i*width + len(h) - 1)
	}
	d := int64(m.hyper.Dim)
	hidden := s.View(m.encode(s, table, ids, len(which), width, 0), int64(len(ids)), d)
	users := s.IndexSelect(hidden, 0, s.I64(last, int64(len(last))))
	scores := s.Values(s.Matmul(users, s.Transpose(table, 0, 1)))
	for i, w := range which {
		row := scores[i*m.rows : (i+1)*m.rows : (i+1)*m.rows]
		row[vocab.Padding], row[vocab.Unknown] = negInf, negInf
		out[w] = row
	}
}

var negInf = float32(math.Inf(-1))

// Close implements Recommender.
func (m *SASRec) Close() {
	_ = m.thread.Do(func(s *tensor.Scope) {
		m.params.Free(s)
		if m.knowledge != nil {
			s.Free(m.knowledge.table)
		}
	})
	m.thread.Close()
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
