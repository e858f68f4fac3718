package toy

import (
	"context"
	"fmt"
	"math/rand/v2"

	"seralm/consumers/generator"
	"seralm/models/snapshot"
	"seralm/models/tower"
	"seralm/models/vocab"
)

// Dim of the recommender's rows.
const Dim = 4

// Encoder counts the letters of a text: a vector of Letters-1 numbers.
type Encoder struct{}

// Version implements generator.Encoder.
func (Encoder) Version() string { return "letters" }

// Encode implements generator.Encoder.
func (Encoder) Encode(_ context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i, text := range texts {
		out[i] = make([]float32, Letters-1)
		for _, r := range text {
			out[i][r-'a']++
		}
	}
	return out, nil
}

// Snapshot is a recommender of items i0, i1, ...: every user likes what lies in the
// first dimension, and a text moves its item there by one for each of its letters that
// is the good one, and back by one for each other.
func Snapshot(name string, step int64, items, good int) *snapshot.Snapshot {
	s := &snapshot.Snapshot{Tensors: map[string]snapshot.Tensor{}}
	s.Model, s.Epoch, s.Step = name, 1, step
	s.Architecture = snapshot.Architecture{Name: "bag", Rows: vocab.FirstItem + items, Dim: Dim, MaxLen: 8}
	r := rand.New(rand.NewPCG(1, uint64(step)))
	table := []float32{Dim: 1, 2*Dim - 1: 0} // of padding and the unknown item
	for i := range items {
		s.IDs = append(s.IDs, fmt.Sprint("i", i))
		table = append(table, 1)
		for range Dim - 1 {
			table = append(table, float32(r.NormFloat64()/4))
		}
	}
	const k = Letters - 1
	weight := make([]float32, Dim*k)
	for letter := range k {
		weight[letter] = -1
	}
	weight[good] = 1
	s.Tensors["item_embedding.weight"] = snapshot.Tensor{Shape: []int64{int64(s.Architecture.Rows), Dim}, Data: table}
	s.Tensors[tower.Weight] = snapshot.Tensor{Shape: []int64{Dim, k}, Data: weight}
	s.Tensors[tower.Mean] = snapshot.Tensor{Shape: []int64{k}, Data: make([]float32, k)}
	s.Tensors[tower.Scale] = snapshot.Tensor{Shape: []int64{1}, Data: []float32{1}}
	return s
}

// Groups is a recommender of items i0, i1, ... of two groups, those of an even number and
// those of an odd one, and of users who take items of one group alone (GroupInteractions).
// A text is evidence: the good letter moves its item towards those who take the even
// items, each other letter towards the others, and three good letters put an even item
// exactly where it belongs. An item of which nothing is known belongs to neither.
func Groups(name string, items, good int) *snapshot.Snapshot {
	s := Snapshot(name, 1, items, good)
	table := s.Tensors["item_embedding.weight"].Data
	clear(table)
	for i := range items {
		table[(vocab.FirstItem+i)*Dim+i%2] = apart
	}
	weight := s.Tensors[tower.Weight].Data
	clear(weight)
	for letter := range Letters - 1 {
		d := 1
		if letter == good {
			d = 0
		}
		weight[d*(Letters-1)+letter] = apart / Length
	}
	return s
}

// Even reports whether an item is of the first group of Groups.
func Even(item string) bool { return (item[len(item)-1]-'0')%2 == 0 }

// apart is how far a group's items are from where nothing is known: users take items of
// the other group about once in 50 times.
const apart = 2.0

// Users is the bag of words: the mean of the rows.
type Users struct {
	table []float32
	limit int
}

// Open implements generator.Open.
func Open(s *snapshot.Snapshot, extra int) (generator.Users, error) {
	return &Users{s.Tensors["item_embedding.weight"].Data, extra}, nil
}

// Users implements generator.Users.
func (u *Users) Users(_ context.Context, histories [][]int32, extra [][]float32) ([][]float32, error) {
	if len(extra) > u.limit {
		return nil, fmt.Errorf("%d rows beside the table, there is room for %d", len(extra), u.limit)
	}
	out := make([][]float32, len(histories))
	for i, h := range histories {
		out[i] = make([]float32, Dim)
		for _, r := range h {
			row := u.table
			if at := int(r) - len(u.table)/Dim; at >= 0 {
				row = extra[at]
			} else {
				row = row[int(r)*Dim:]
			}
			for d := range Dim {
				out[i][d] += row[d] / float32(len(h))
			}
		}
	}
	return out, nil
}

// Close implements generator.Users.
func (u *Users) Close() {}
