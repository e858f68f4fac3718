package experiments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"seralm/models/seqrec"
	"seralm/models/snapshot"
)

// Training is how a recommender learns in epochs.
type Training struct {
	Epochs   int    `json:"epochs"`   // at most
	Batch    int    `json:"batch"`    // sequences of a step
	Patience int    `json:"patience"` // epochs without a better validation before it ends
	Stop     string `json:"stop"`     // the metric of the validation
	Schedule string `json:"schedule"` // of the learning rate: constant, or cosine with a warm-up of one epoch
	Validate int    `json:"validate"` // users of a validation, drawn by seed; 0 = all
}

// validate checks the settings.
func (t Training) validate() error {
	if t.Epochs < 1 || t.Batch < 1 || t.Patience < 1 || t.Validate < 0 {
		return fmt.Errorf("%d epochs, batches of %d, patience %d, %d users of a validation: the first three must be 1 or more, the last 0 or more", t.Epochs, t.Batch, t.Patience, t.Validate)
	}
	if t.Schedule != "constant" && t.Schedule != "cosine" {
		return fmt.Errorf("there is no schedule %q; there are constant and cosine", t.Schedule)
	}
	if t.Stop == coldLogP {
		return fmt.Errorf("a validation does not measure %s: stop by another metric", coldLogP)
	}
	_, err := Cases{}.Values(t.Stop)
	return err
}

// Epoch is a point of a learning curve.
type Epoch struct {
	Epoch      int                `json:"epoch"`
	Loss       float64            `json:"loss"` // mean -log p(y|x) per target while learning; with negatives, of the sampled softmax: lower, and not to be compared
	Validation map[string]float64 `json:"validation"`
	BadSteps   int                `json:"bad_steps,omitempty"` // failed numerically and were not taken
	Seconds    float64            `json:"seconds"`             // since the beginning
}

// CurveMetrics are kept of every validation.
var CurveMetrics = []string{"hit@10", "ndcg@10", "masked_hit@10", "masked_ndcg@10", logP}

// windows cuts sequences into pieces of at most maxLen targets such that every position
// but a user's first is a target once. Before its targets a piece has what their histories
// are made of: up to maxLen items before the first. Where a sequence is cut is drawn by r,
// or else the same positions would share a piece in every epoch, of which a causal
// architecture reads no more than maxLen+1 items, and the first targets have little before
// them.
func windows(sequences [][]int32, maxLen int, r *rand.Rand) []seqrec.Sequence {
	var out []seqrec.Sequence
	for _, items := range sequences {
		newest := maxLen // targets of the newest piece
		if len(items) > maxLen+1 {
			newest = 1 + r.IntN(maxLen)
		}
		for end := len(items); end >= 2; newest = maxLen {
			first := max(1, end-newest)
			begin := max(0, first-maxLen)
			out = append(out, seqrec.Sequence{Items: items[begin:end:end], From: first - begin})
			end = first
		}
	}
	return out
}

// prefixes draws n positions of all sequences, none twice, any but a user's first as
// likely as any other. Each is the target of a piece of its own, after up to maxLen items:
// an architecture that learns one target of a piece thereby learns from a random sample
// of what RecBole trains it on whole.
func prefixes(sequences [][]int32, maxLen, n int, r *rand.Rand) []seqrec.Sequence {
	left := 0
	for _, items := range sequences {
		left += max(0, len(items)-1)
	}
	out := make([]seqrec.Sequence, 0, n)
	for _, items := range sequences {
		for t := 1; t < len(items); t++ {
			// Knuth's algorithm S, The Art of Computer Programming 3.4.2.
			if r.IntN(left) < n-len(out) {
				begin := max(0, t-maxLen)
				out = append(out, seqrec.Sequence{Items: items[begin : t+1 : t+1], From: t - begin})
			}
			left--
		}
	}
	return out
}

// Which targets an epoch learns.
const (
	allTargets = "all"
	aSample    = "a sample, as many as pieces of max_len are" // whose architecture is not causal
)

// targets says which a model learns in an epoch.
func targets(model seqrec.Recommender) string {
	if seqrec.LearnsAll(model) {
		return allTargets
	}
	return aSample
}

// epochOf returns what the model learns from in an epoch, in its order: a function of
// seed and epoch.
func epochOf(model seqrec.Recommender, sequences [][]int32, maxLen int, seed uint64, epoch int) []seqrec.Sequence {
	r := rand.New(rand.NewPCG(seed, uint64(epoch)))
	pieces := windows(sequences, maxLen, r)
	if !seqrec.LearnsAll(model) {
		pieces = prefixes(sequences, maxLen, len(pieces), r)
	}
	r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	return pieces
}

// fitted is what learning came to.
type fitted struct {
	state map[string]snapshot.Tensor // of the best epoch
	best  int                        // the epoch
	curve []Epoch
}

// fit teaches the model in epochs. Its order is a function of seed and epoch.
func fit(ctx context.Context, model seqrec.Recommender, s split, maxLen int, rate float64, t Training, seed uint64, progress io.Writer) (fitted, error) {
	schedule, err := t.schedule(model, rate)
	if err != nil {
		return fitted{}, err
	}
	if len(s.validation) == 0 {
		return fitted{}, errors.New("there is nothing to validate with: no user has enough interactions to hold one back")
	}
	validation := s.validation
	if t.Validate > 0 {
		validation = sample(validation, t.Validate, rand.New(rand.NewPCG(seed, 0xa11d)))
	}
	var f fitted
	began, top, done := time.Now(), math.Inf(-1), 0
	for epoch := 1; epoch <= t.Epochs && epoch-f.best <= t.Patience; epoch++ {
		pieces := epochOf(model, s.train, maxLen, seed, epoch)
		steps := (len(pieces) + t.Batch - 1) / t.Batch // about the same in every epoch
		loss, targets, bad := 0.0, 0, 0
		for batch := range slices.Chunk(pieces, t.Batch) {
			if err := ctx.Err(); err != nil {
				return f, err
			}
			schedule(done, steps, t.Epochs*steps)
			l, err := model.Learn(ctx, batch, uint64(done))
			done++
			var numeric *seqrec.NumericError
			switch {
			case errors.As(err, &numeric): // the model is as it was, and what it learnt before is not lost
				bad++
			case err != nil:
				return f, fmt.Errorf("epoch %d: %w", epoch, err)
			}
			loss, targets = loss+l.NLL*float64(l.Targets), targets+l.Targets
		}
		if bad > 0 && bad == steps {
			return f, fmt.Errorf("epoch %d: none of its %d steps was finite: lower the learning rate", epoch, steps)
		}
		judged, err := judge(ctx, model, validation)
		if err != nil {
			return f, fmt.Errorf("validating epoch %d: %w", epoch, err)
		}
		means := judged.Means()
		point := Epoch{Epoch: epoch, Loss: loss / float64(max(1, targets)), Validation: map[string]float64{}, BadSteps: bad, Seconds: time.Since(began).Seconds()}
		for _, m := range append(CurveMetrics, t.Stop) {
			point.Validation[m] = means[m]
		}
		f.curve = append(f.curve, point)
		if means[t.Stop] > top {
			top, f.best = means[t.Stop], epoch
			if f.state, err = model.State(); err != nil {
				return f, err
			}
		}
		if progress != nil {
			fmt.Fprintf(progress, "  epoch %3d  loss %.4f  validation %s %.4f (best %.4f in epoch %d)  %.0f s\n",
				epoch, point.Loss, t.Stop, means[t.Stop], top, f.best, point.Seconds)
		}
	}
	return f, nil
}

// schedule returns what sets the learning rate before step `done` of `total`, with
// `warm` steps of warm-up.
func (t Training) schedule(model seqrec.Recommender, rate float64) (func(done, warm, total int), error) {
	if t.Schedule == "constant" {
		return func(int, int, int) {}, nil
	}
	m, ok := model.(interface{ SetLearningRate(rate float64) })
	if !ok {
		return nil, fmt.Errorf("%s has a constant learning rate: leave the schedule constant", model.Name())
	}
	return func(done, warm, total int) { m.SetLearningRate(rate * cosine(done, warm, total)) }, nil
}

// cosine rises to 1 in the first `warm` steps and falls to 0 until `total`.
func cosine(done, warm, total int) float64 {
	if done < warm {
		return float64(done+1) / float64(warm)
	}
	return (1 + math.Cos(math.Pi*float64(done-warm)/float64(max(1, total-warm)))) / 2
}
