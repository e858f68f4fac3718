package online

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/cespare/xxhash/v2"

	"seralm/models/seqrec"
)

// Sample is an instance (x, y) of the stream with texts that a policy wrote about one of
// its items (the paper's Algorithm 1), each as the text encoder's vector.
type Sample struct {
	Key   uint64   // of the sample; which of its texts a step takes depends on it
	X     []string // the user's items before y, oldest first
	Y     string
	Item  string // whose texts these are: y, or one of x
	Texts [][]float32
}

// Sampled is what the samples of one micro-batch teach (paper, Equation 9): the gradient
// of log p(y|x,s) by the recommender's parameters, for texts s that a policy wrote.
//
// A text is drawn uniformly among the candidates, which are samples of pi(s): over the
// steps that is the gradient of E_pi log p(y|x,s), line 5 of the paper's algorithm. It is
// what an answer to a user is worth, who is served with one text, drawn from the policy.
// The gradient of log sum_s p(y|x,s) pi(s) (Equation 5), of which that is a lower bound,
// would weigh candidate i by p(y|x,s_i) / sum_j p(y|x,s_j). Those probabilities change
// with every step, and a sample holds an older recommender's, which saw the item without
// its id; and the weights would teach most about the texts that are understood already.
//
// The text stands for its item in the whole step, as a dropped id does: in histories and
// among the candidates, of the stream's rows too, which it makes instances of the same
// objective with another text. In the sample's own row alone, a text would be seen only
// where its item is taken or was: that it comes from a sample would be what it says.
type Sampled struct {
	New     []seqrec.Sequence // one for each sample that can be learnt, with y as its only target
	Replay  Replay            // older sequences: a sample counts as a new target of the stream
	Unknown int               // samples of whose item or y there is no row

	rows    []int32 // whose texts they are
	vectors [][]float32
}

// sampledDraws tells the draws of Sample from those of Next.
const sampledDraws = 0x53a3

// Sample returns what samples teach in a step, in their order. It changes nothing: no item
// is admitted by it. It is called after Next, so that it sees the items of the step's own
// events; a sample that names others than these and earlier ones has Unknown items in x.
func (s *Sequencer) Sample(samples []Sample, step uint64) Sampled {
	var out Sampled
	type item struct {
		key   uint64 // of its first sample
		texts [][]float32
	}
	items := map[int32]*item{}
	for _, a := range samples {
		y, known := s.vocab.Row(a.Y)
		row, ok := s.vocab.Row(a.Item)
		if !known || !ok {
			out.Unknown++
			continue
		}
		x := a.X[max(0, len(a.X)-s.opts.MaxLen):]
		q := seqrec.Sequence{Items: make([]int32, 0, len(x)+1), From: len(x)}
		for _, id := range x {
			r, _ := s.vocab.Row(id)
			q.Items = append(q.Items, r)
		}
		q.Items = append(q.Items, y)
		out.New = append(out.New, q)
		if items[row] == nil {
			items[row] = &item{key: a.Key}
			out.rows = append(out.rows, row)
		}
		items[row].texts = append(items[row].texts, a.Texts...)
	}
	for _, row := range out.rows {
		it := items[row]
		out.vectors = append(out.vectors, it.texts[draw(s.opts.Seed, it.key, step, len(it.texts))])
	}
	out.Replay = s.replay(int(float64(len(out.New))*s.opts.Replay), rand.New(rand.NewPCG(s.opts.Seed^sampledDraws, step)))
	return out
}

// draw is a number below n, all of them with the same chance.
func draw(seed, key, step uint64, n int) int {
	var raw [24]byte
	binary.LittleEndian.PutUint64(raw[:], seed)
	binary.LittleEndian.PutUint64(raw[8:], key)
	binary.LittleEndian.PutUint64(raw[16:], step)
	return int(xxhash.Sum64(raw[:]) % uint64(n))
}
