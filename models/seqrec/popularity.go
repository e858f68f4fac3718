package seqrec

import (
	"context"
	"fmt"
	"math"

	"seralm/models/snapshot"
	"seralm/models/vocab"
)

// Popularity recommends what was taken most often. Its scores are
// log((count + 1) / sum), so that their softmax is the add-one estimate of p(y).
type Popularity struct {
	counts []float32 // of each row
	scores []float32 // as of the last change
	stale  bool
}

// NewPopularity returns an empty one.
func NewPopularity() *Popularity { return &Popularity{counts: make([]float32, vocab.FirstItem)} }

// Name implements Recommender.
func (p *Popularity) Name() string { return "popularity" }

// Resize implements Recommender.
func (p *Popularity) Resize(rows int) error {
	if more := rows - len(p.counts); more > 0 {
		p.counts = append(p.counts, make([]float32, more)...)
		p.stale = true
	}
	return nil
}

// Learn implements Recommender: it counts the new items.
func (p *Popularity) Learn(_ context.Context, batch []Sequence, _ uint64) (Loss, error) {
	for _, q := range batch {
		for _, row := range q.Items[q.From:] {
			if int(row) >= len(p.counts) {
				return Loss{}, fmt.Errorf("popularity: item row %d is not among the %d rows", row, len(p.counts))
			}
			p.counts[row]++
		}
	}
	p.stale = true
	return Loss{}, nil
}

// Scores implements Recommender. The rows are shared: they must not be changed,
// and hold until the next Learn or Resize.
func (p *Popularity) Scores(_ context.Context, histories [][]int32) ([][]float32, error) {
	if p.stale || p.scores == nil {
		p.scores, p.stale = make([]float32, len(p.counts)), false
		total := 0.0
		for _, c := range p.counts[vocab.FirstItem:] {
			total += float64(c) + 1
		}
		for i, c := range p.counts {
			p.scores[i] = float32(math.Log((float64(c) + 1) / total))
		}
		p.scores[vocab.Padding], p.scores[vocab.Unknown] = negInf, negInf
	}
	out := make([][]float32, len(histories))
	for i := range out {
		out[i] = p.scores
	}
	return out, nil
}

// State implements Recommender.
func (p *Popularity) State() (map[string]snapshot.Tensor, error) {
	counts := append([]float32(nil), p.counts...)
	return map[string]snapshot.Tensor{"counts": {Shape: []int64{int64(len(counts))}, Data: counts}}, nil
}

// Restore implements Recommender.
func (p *Popularity) Restore(state map[string]snapshot.Tensor, rows int) error {
	counts, ok := state["counts"]
	if !ok || len(counts.Data) != rows {
		return fmt.Errorf("popularity: the state has %d counts, %d rows are wanted", len(counts.Data), rows)
	}
	p.counts, p.stale = append([]float32(nil), counts.Data...), true
	return nil
}

// Close implements Recommender.
func (p *Popularity) Close() {}
