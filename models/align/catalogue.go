package align

import (
	"fmt"
	"math"
	"slices"
)

// Reservoir holds what a recommender's forward passes leave behind of recent instances
// (x, y): the user's vector u, the target y, and log Z, the logarithm of the sum of
// exp(score) over all items, where an item that is not in x has the score u.e_i. It
// judges texts in closed form. When item j's text changes, so does its row,
// e_j to e'_j, and an instance without j in its history changes by
//
//	delta = [y = j] (u.e'_j - u.e_j) - log(1 + (exp(u.e'_j) - exp(u.e_j)) / Z)
//
// nats of log p(y|x), with no forward pass. Instances with j in their history have
// another u as well: the caller re-encodes a sample of them (see Reencoded).
//
// It keeps the newest instances, up to its capacity. It is not safe for concurrent use.
type Reservoir struct {
	dim, capacity int
	next          int // place of the next instance, once all are taken
	users         []float32
	targets       []int32
	logZ          []float64
}

// InstanceError says which instance of a reservoir cannot be computed with, and why.
type InstanceError struct {
	Instance int
	Problem  string
}

func (e *InstanceError) Error() string { return fmt.Sprintf("instance %d: %s", e.Instance, e.Problem) }

// NewReservoir returns an empty one for vectors of dim numbers.
func NewReservoir(dim, capacity int) *Reservoir {
	return &Reservoir{dim: dim, capacity: capacity}
}

// Len is the number of instances.
func (r *Reservoir) Len() int { return len(r.targets) }

// Add puts an instance in, in the place of the oldest when all are taken, and returns
// which place that is: the instance's number until it is replaced.
func (r *Reservoir) Add(user []float32, target int32, logZ float64) (int, error) {
	if len(user) != r.dim {
		return 0, &InstanceError{r.next, fmt.Sprintf("its user vector has %d numbers, the rows have %d", len(user), r.dim)}
	}
	if !finite(logZ) {
		return 0, &InstanceError{r.next, fmt.Sprintf("its log Z is %v", logZ)}
	}
	for i, v := range user {
		if !finite(float64(v)) {
			return 0, &InstanceError{r.next, fmt.Sprintf("number %d of its user vector is %v", i, v)}
		}
	}
	at := r.next
	if at == len(r.targets) {
		r.users, r.targets, r.logZ = append(r.users, user...), append(r.targets, target), append(r.logZ, logZ)
	} else {
		copy(r.users[at*r.dim:], user)
		r.targets[at], r.logZ[at] = target, logZ
	}
	r.next = (at + 1) % r.capacity
	return at, nil
}

// View is how an item is seen when its texts are judged: the share of the cold view, in
// which nothing is known of the item but the text. Others are whole in both.
type View float64

// The views; a number between is a mixture of both rewards.
const (
	Warm View = 0
	Cold View = 1
)

// Rows are what a text makes of its item: the row of id and text, and that of the
// unknown id and text. A view without one of them needs it not.
type Rows struct{ Warm, Cold []float32 }

// Rewards returns what each text of the item does to the sum of log p(y|x) over the
// reservoir's instances, those of except left out (ascending numbers: instances with
// the item in their history). before is the row that log Z was taken with.
//
// All texts are judged in one pass over the instances.
func (r *Reservoir) Rewards(item int32, before []float32, texts []Rows, view View, except []int) ([]float64, error) {
	if !(view >= Warm && view <= Cold) {
		return nil, fmt.Errorf("view %v: it is %v (warm) to %v (cold)", float64(view), float64(Warm), float64(Cold))
	}
	if !slices.IsSorted(except) {
		return nil, fmt.Errorf("judging item row %d: the instances to leave out are not in order", item)
	}
	rows := [][]float32{before}
	var shares []float64
	for i, t := range texts {
		for _, v := range []struct {
			share float64
			row   []float32
		}{{1 - float64(view), t.Warm}, {float64(view), t.Cold}} {
			if v.share == 0 {
				continue
			}
			if err := r.checkRow(v.row); err != nil {
				return nil, fmt.Errorf("judging item row %d: text %d: %w", item, i, err)
			}
			rows, shares = append(rows, v.row), append(shares, v.share)
		}
	}
	if err := r.checkRow(before); err != nil {
		return nil, fmt.Errorf("judging item row %d: its row: %w", item, err)
	}
	sums, err := r.changes(item, rows, except)
	if err != nil {
		return nil, fmt.Errorf("judging item row %d: %w", item, err)
	}
	out := make([]float64, len(texts))
	per := len(sums) / max(1, len(texts)) // views of a text
	for i, s := range sums {
		out[i/per] += shares[i] * s
	}
	return out, nil
}

func (r *Reservoir) checkRow(row []float32) error {
	if len(row) != r.dim {
		return fmt.Errorf("it has %d numbers, user vectors have %d", len(row), r.dim)
	}
	for i, v := range row {
		if !finite(float64(v)) {
			return fmt.Errorf("number %d is %v", i, v)
		}
	}
	return nil
}

// stale is how far u.e_j may exceed log Z, which it is part of. Rounding in float32 is
// far less; a row that was learnt since is more.
const stale = 0.01

// changes sums the deltas of rows[1:] against rows[0].
func (r *Reservoir) changes(item int32, rows [][]float32, except []int) ([]float64, error) {
	sums := make([]float64, len(rows)-1)
	wide, u := make([][]float64, len(rows)), make([]float64, r.dim)
	for i, row := range rows {
		wide[i] = make([]float64, r.dim)
		widen(wide[i], row)
	}
	for i, y := range r.targets {
		if len(except) > 0 && except[0] == i {
			except = except[1:]
			continue
		}
		widen(u, r.users[i*r.dim:(i+1)*r.dim])
		before := dot(u, wide[0]) - r.logZ[i]
		if before > stale {
			return nil, &InstanceError{i, fmt.Sprintf("the item alone exceeds its log Z by %.3g: log Z was taken with another row", before)}
		}
		before = min(before, 0)
		p := math.Exp(before)
		for n, row := range wide[1:] {
			sums[n] += change(before, dot(u, row)-r.logZ[i], p, y == item)
		}
	}
	return sums, nil
}

// leastRest is the least that others than the item are taken to have of Z. Below it log Z
// does not tell what they have, and an item that gives up what it had would be worth
// any number of nats.
const leastRest = 1e-12

// change is delta of one instance, of x = u.e_j - log Z <= 0, x' = u.e'_j - log Z and
// p = exp(x):
//
//	delta = [y = j] (x' - x) - log(1 - e^x + e^x')
//
// As written the logarithm overflows where x' is large, and loses its digits where both
// e^x' and the rest 1 - e^x are small.
func change(before, after, p float64, target bool) float64 {
	var delta float64
	if after < 0 && p < 0.5 {
		delta = -math.Log1p(math.Exp(after) - p)
	} else {
		rest := math.Log(max(-math.Expm1(before), leastRest))
		high, low := max(rest, after), min(rest, after)
		delta = -high - math.Log1p(math.Exp(low-high))
	}
	if target {
		delta += after - before
	}
	return delta
}

func widen(to []float64, from []float32) {
	for i, v := range from {
		to[i] = float64(v)
	}
}

// dot sums in four lanes, of float64: a float32 sum is off by more than what is left
// where p is near 1.
func dot(a, b []float64) float64 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float64
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + (s2 + s3)
}

// Reencoded is the part of a reward that comes from the instances with the item in
// their history: count of them, of which the caller has encoded a sample anew. before
// and after are log p(y|x) of the sample with the old text and with the new one.
func Reencoded(before, after []float64, count int) (float64, error) {
	if len(before) != len(after) || len(before) > count || (len(before) == 0) != (count == 0) {
		return 0, fmt.Errorf("re-encoded instances: %d before and %d after, a sample of %d", len(before), len(after), count)
	}
	sum := 0.0
	for i := range before {
		change := after[i] - before[i]
		if !finite(change) {
			return 0, &InstanceError{i, fmt.Sprintf("re-encoded, its log p is %v before and %v after", before[i], after[i])}
		}
		sum += change
	}
	if count == 0 {
		return 0, nil
	}
	return sum * float64(count) / float64(len(before)), nil
}
