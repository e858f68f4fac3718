package prequential

import "math"

// Summary is the mean of the judgements of a span of events.
type Summary struct {
	Events int64   `json:"events"`
	Hit10  float64 `json:"hit_at_10"`
	NDCG10 float64 `json:"ndcg_at_10"`
	MRR    float64 `json:"mrr"`
	// The same with the user's history left out of the ranking.
	MaskedHit10  float64 `json:"masked_hit_at_10"`
	MaskedNDCG10 float64 `json:"masked_ndcg_at_10"`
	// LogP is the mean of log p(y|x) over the events whose item was known.
	LogP float64 `json:"log_p"`
}

// Tally gathers an arm's judgements: as a sliding window, and cumulatively so
// that any span between two marks can be summed up.
type Tally struct {
	window []contribution
	next   int
	sum    sums // of the window
	total  sums
}

type contribution struct{ hit, ndcg, mrr, maskedHit, maskedNDCG, logP, known float64 }

// sums add up contributions.
type sums struct {
	n int64
	contribution
}

func newTally(window int) *Tally { return &Tally{window: make([]contribution, 0, window)} }

func (t *Tally) add(j Judgement) {
	var c contribution
	c.hit, c.ndcg, c.mrr = gains(j.Rank)
	c.maskedHit, c.maskedNDCG, _ = gains(j.Masked)
	if j.Rank > 0 {
		c.logP, c.known = j.LogP, 1
	}
	t.total.n++
	if len(t.window) < cap(t.window) {
		t.window = append(t.window, c)
		t.sum.n++
	} else {
		t.sum.add(t.window[t.next], -1)
		t.window[t.next] = c
		t.next = (t.next + 1) % len(t.window)
	}
	t.sum.add(c, 1)
	t.total.add(c, 1)
}

// gains are Hit@10, NDCG@10 = 1/log2(rank+1) and the reciprocal rank.
func gains(rank float64) (hit, ndcg, mrr float64) {
	if rank <= 0 {
		return 0, 0, 0
	}
	if rank <= 10 {
		hit, ndcg = 1, 1/math.Log2(rank+1)
	}
	return hit, ndcg, 1 / rank
}

func (s *sums) add(c contribution, sign float64) {
	s.hit += sign * c.hit
	s.ndcg += sign * c.ndcg
	s.mrr += sign * c.mrr
	s.maskedHit += sign * c.maskedHit
	s.maskedNDCG += sign * c.maskedNDCG
	s.logP += sign * c.logP
	s.known += sign * c.known
}

func (s *sums) summary() Summary {
	n, known := math.Max(1, float64(s.n)), math.Max(1, s.known)
	return Summary{
		Events: s.n, Hit10: s.hit / n, NDCG10: s.ndcg / n, MRR: s.mrr / n,
		MaskedHit10: s.maskedHit / n, MaskedNDCG10: s.maskedNDCG / n, LogP: s.logP / known,
	}
}

// Window sums up the newest events, as many as the window holds.
func (t *Tally) Window() Summary { return t.sum.summary() }

// Mark is a point in an arm's stream; see Since.
type Mark struct{ at sums }

// Mark returns the present point.
func (t *Tally) Mark() Mark { return Mark{t.total} }

// Since sums up the events after a mark; the zero Mark is the beginning.
func (t *Tally) Since(m Mark) Summary {
	d := t.total
	d.n -= m.at.n
	d.add(m.at.contribution, -1)
	return d.summary()
}
