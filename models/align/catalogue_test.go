package align

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// bilinear is a recommender: p(y|x) = softmax(u E')_y.
type bilinear struct {
	dim     int
	users   [][]float32
	targets []int32
	items   [][]float32
}

func newBilinear(users, items, dim int, size float64) *bilinear {
	r := rand.New(rand.NewPCG(1, uint64(items)))
	vector := func() []float32 {
		v := make([]float32, dim)
		for i := range v {
			v[i] = float32(size * r.NormFloat64())
		}
		return v
	}
	b := &bilinear{dim: dim}
	for range items {
		b.items = append(b.items, vector())
	}
	for range users {
		b.users = append(b.users, vector())
		b.targets = append(b.targets, r.Int32N(int32(items)))
	}
	return b
}

// logZ and log p(y|x) of a user, with all items.
func (b *bilinear) forward(user int) (logZ, logp float64) {
	logits := make([]float64, len(b.items))
	for i, e := range b.items {
		for n, v := range b.users[user] {
			logits[i] += float64(v) * float64(e[n])
		}
	}
	top, sum := slices.Max(logits), 0.0
	for _, l := range logits {
		sum += math.Exp(l - top)
	}
	logZ = top + math.Log(sum)
	return logZ, logits[b.targets[user]] - logZ
}

// others is the share of Z that others than the item have.
func (b *bilinear) others(user, item int) float64 {
	c := b.with(item, make([]float32, b.dim)) // logit 0
	with, _ := b.forward(user)
	without, _ := c.forward(user)
	return math.Exp(without-with) - math.Exp(-with)
}

func (b *bilinear) reservoir(t testing.TB) *Reservoir {
	t.Helper()
	r := NewReservoir(b.dim, len(b.users))
	for i, u := range b.users {
		logZ, _ := b.forward(i)
		at, err := r.Add(u, b.targets[i], logZ)
		require.NoError(t, err)
		require.Equal(t, i, at)
	}
	return r
}

// with returns the recommender whose item has another row.
func (b *bilinear) with(item int, row []float32) *bilinear {
	c := *b
	c.items = slices.Clone(b.items)
	c.items[item] = row
	return &c
}

// Each instance's change in closed form is that of the whole softmax, computed again.
func TestChangesAreThoseOfTheWholeObjective(t *testing.T) {
	for _, size := range []float64{0.1, 0.5, 2, 10} { // up to logits of hundreds: p is 0 or 1 to the last digit
		b := newBilinear(60, 12, 8, size)
		r := b.reservoir(t)
		worst := 0.0
		for item := range b.items {
			for n, row := range newBilinear(5, 1, 8, size).users {
				if n == 4 {
					row = slices.Clone(b.users[item]) // loud: exp overflows at the greater sizes
					for i := range row {
						row[i] *= 20
					}
				}
				changed := b.with(item, row)
				sum := 0.0
				for i := range b.users {
					_, before := b.forward(i)
					_, after := changed.forward(i)
					got, err := r.only(i).Rewards(int32(item), b.items[item], []Rows{{Warm: row}}, Warm, nil)
					require.NoError(t, err)
					off := math.Abs(after - before - got[0])
					if b.others(i, item) > 1e-9 {
						require.LessOrEqual(t, off, 1e-4)
						worst = max(worst, off)
					} else { // log Z hardly tells what others than the item have of it
						require.True(t, finite(got[0]))
					}
					sum += got[0]
				}
				got, err := r.Rewards(int32(item), b.items[item], []Rows{{Warm: row}}, Warm, nil)
				require.NoError(t, err)
				require.InDelta(t, sum, got[0], 1e-9*math.Abs(sum)+1e-9)
			}
		}
		t.Logf("logits of about %.1f: off by at most %.1g nats per instance", size*size*math.Sqrt(8), worst)
	}
}

// only is a reservoir of one instance.
func (r *Reservoir) only(i int) *Reservoir {
	return &Reservoir{r.dim, 1, 0, r.users[i*r.dim : (i+1)*r.dim], r.targets[i : i+1], r.logZ[i : i+1]}
}

// The formula where its naive form fails, against values worked out by hand.
func TestAChangeIsExactAtTheEdges(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after float64 // of the item's share of Z, in nats
		target        bool
		want          float64
	}{
		{"nothing changes", -3, -3, true, 0},
		{"exp overflows", -3, 1000, false, -1000},
		{"exp overflows at the target", -3, 1000, true, 3},
		{"the item goes away", -3, -1000, false, -math.Log1p(-math.Exp(-3))},
		{"the target goes away", -3, -1000, true, -997 - math.Log1p(-math.Exp(-3))},
		{"it had all but 1e-9 and goes away", math.Log1p(-1e-9), -1000, false, -math.Log(1e-9)},
		{"it had all but 1e-9 and doubles", math.Log1p(-1e-9), math.Ln2, true, math.Log(2-0) - math.Log(2+1e-9) + 1e-9},
		{"it had everything and stays", 0, 0, true, 0},
		{"it had everything and halves", 0, -math.Ln2, true, 0},
		{"half", math.Log(0.5), math.Log(0.25), false, -math.Log(0.75)},
		{"nothing before", -900, math.Log(0.5), true, 900 + math.Log(0.5) - math.Log(1.5)},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.InDelta(t, c.want, change(c.before, c.after, math.Exp(c.before), c.target), 1e-6)
		})
	}
}

func TestViewsAreMixedByTheirShares(t *testing.T) {
	b := newBilinear(20, 6, 4, 1)
	r := b.reservoir(t)
	texts := []Rows{{b.items[1], b.items[2]}, {b.items[3], b.items[4]}, {b.items[5], b.items[0]}}
	rewards := func(v View, texts []Rows) []float64 {
		out, err := r.Rewards(0, b.items[0], texts, v, nil)
		require.NoError(t, err)
		return out
	}
	warm, cold := rewards(Warm, []Rows{{Warm: b.items[1]}, {Warm: b.items[3]}, {Warm: b.items[5]}}), rewards(Cold, []Rows{{Cold: b.items[2]}, {Cold: b.items[4]}, {Cold: b.items[0]}})
	require.Zero(t, cold[2], "the row that it has")
	for i, got := range rewards(0.25, texts) {
		require.InDelta(t, 0.75*warm[i]+0.25*cold[i], got, 1e-9)
	}
	require.Empty(t, rewards(Cold, nil))
}

func TestInstancesWithTheItemInTheirHistoryAreLeftToTheCaller(t *testing.T) {
	b := newBilinear(20, 6, 4, 1)
	r := b.reservoir(t)
	row := []Rows{{Warm: b.items[1]}}
	all, err := r.Rewards(0, b.items[0], row, Warm, nil)
	require.NoError(t, err)
	some, err := r.Rewards(0, b.items[0], row, Warm, []int{0, 7, 19})
	require.NoError(t, err)
	for _, i := range []int{0, 7, 19} {
		one, err := r.only(i).Rewards(0, b.items[0], row, Warm, nil)
		require.NoError(t, err)
		some[0] += one[0]
	}
	require.InDelta(t, all[0], some[0], 1e-9)
	_, err = r.Rewards(0, b.items[0], row, Warm, []int{7, 0})
	require.ErrorContains(t, err, "not in order")

	// A sample of 2 of 10: each stands for five.
	got, err := Reencoded([]float64{-3, -4}, []float64{-2.5, -4.1}, 10)
	require.NoError(t, err)
	require.InDelta(t, 5*(0.5-0.1), got, 1e-12)
	got, err = Reencoded(nil, nil, 0)
	require.NoError(t, err)
	require.Zero(t, got)
	for _, c := range []struct {
		before, after []float64
		count         int
		want          string
	}{
		{[]float64{-1}, nil, 1, "1 before and 0 after"},
		{[]float64{-1, -1}, []float64{-1, -1}, 1, "a sample of 1"},
		{nil, nil, 3, "a sample of 3"},
		{[]float64{-1, math.Inf(-1)}, []float64{-1, -1}, 5, "instance 1: re-encoded, its log p is -Inf before and -1 after"},
	} {
		_, err = Reencoded(c.before, c.after, c.count)
		require.ErrorContains(t, err, c.want)
	}
}

func TestTheReservoirKeepsTheNewest(t *testing.T) {
	r := NewReservoir(1, 3)
	for n := range 5 {
		at, err := r.Add([]float32{float32(n)}, int32(n), float64(10+n))
		require.NoError(t, err)
		require.Equal(t, n%3, at)
	}
	require.Equal(t, 3, r.Len())
	require.Equal(t, []int32{3, 4, 2}, r.targets)
	require.Equal(t, []float32{3, 4, 2}, r.users)
	require.Equal(t, []float64{13, 14, 12}, r.logZ)
}

func TestNumbersThatAreNoneAreNamed(t *testing.T) {
	r := NewReservoir(2, 3)
	nan := float32(math.NaN())
	var instance *InstanceError
	for want, add := range map[string]func() (int, error){
		"instance 0: its user vector has 1 numbers":      func() (int, error) { return r.Add([]float32{1}, 3, 1) },
		"instance 0: its log Z is NaN":                   func() (int, error) { return r.Add([]float32{1, 2}, 3, math.NaN()) },
		"instance 0: number 1 of its user vector is NaN": func() (int, error) { return r.Add([]float32{1, nan}, 3, 1) },
	} {
		_, err := add()
		require.ErrorAs(t, err, &instance)
		require.ErrorContains(t, err, want)
	}
	require.Zero(t, r.Len())
	_, err := r.Add([]float32{1, 2}, 3, 4)
	require.NoError(t, err)
	row, loud := []float32{1, 1}, []float32{3, 3}
	for want, f := range map[string]func() ([]float64, error){
		"item row 5: text 1: number 0 is NaN": func() ([]float64, error) {
			return r.Rewards(5, row, []Rows{{Warm: row}, {Warm: []float32{nan, 0}}}, Warm, nil)
		},
		"item row 5: text 0: it has 0 numbers":  func() ([]float64, error) { return r.Rewards(5, row, []Rows{{Warm: row}}, Cold, nil) },
		"item row 5: its row: it has 1 numbers": func() ([]float64, error) { return r.Rewards(5, row[:1], []Rows{{Warm: row}}, Warm, nil) },
		"view 2":                                func() ([]float64, error) { return r.Rewards(5, row, nil, 2, nil) },
		"item row 5: instance 0: the item alone exceeds its log Z": func() ([]float64, error) { return r.Rewards(5, loud, []Rows{{Warm: row}}, Warm, nil) },
	} {
		_, err := f()
		require.ErrorContains(t, err, want)
	}
}

// One text over 100,000 instances, and 8 texts in one pass.
func BenchmarkRewards(b *testing.B) {
	const n, dim = 100_000, 64
	r := NewReservoir(dim, n)
	for i, u := range newBilinear(n, 100, dim, 0.4).users {
		_, err := r.Add(u, int32(i%100), 12)
		require.NoError(b, err)
	}
	rows := newBilinear(9, 1, dim, 0.4).users
	for _, texts := range []int{1, 8} {
		b.Run(fmt.Sprint(texts, " texts"), func(b *testing.B) {
			var judged []Rows
			for _, row := range rows[1 : 1+texts] {
				judged = append(judged, Rows{Cold: row})
			}
			for b.Loop() {
				_, err := r.Rewards(7, rows[0], judged, Cold, nil)
				require.NoError(b, err)
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N*texts), "ms/text")
		})
	}
}
