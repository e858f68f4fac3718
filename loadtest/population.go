package loadtest

import (
	"bufio"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"strings"
)

const (
	maxPopulation = 10_000_000
	maxID         = 512 // bytes of one id
)

// ParsePopulation reads who or what a run is about: "6040" is the ids 1 to 6040,
// "100-199" those from 100 to 199, and "@FILE" the ids in a file, one a line, the
// most frequent first.
func ParsePopulation(spec string) ([]string, error) {
	if path, ok := strings.CutPrefix(spec, "@"); ok {
		return readPopulation(path)
	}
	low, high, isRange := strings.Cut(spec, "-")
	if !isRange {
		low, high = "1", spec
	}
	first, err1 := strconv.Atoi(low)
	last, err2 := strconv.Atoi(high)
	if err1 != nil || err2 != nil {
		return nil, fmt.Errorf("population %q: write a number, FIRST-LAST or @FILE", spec)
	}
	if first < 0 || last < first || last-first >= maxPopulation {
		return nil, fmt.Errorf("population %q: the range must rise and hold at most %d ids", spec, maxPopulation)
	}
	ids := make([]string, 0, last-first+1)
	for i := first; i <= last; i++ {
		ids = append(ids, strconv.Itoa(i))
	}
	return ids, nil
}

func readPopulation(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading population: %w", err)
	}
	defer f.Close()
	var ids []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		id := strings.TrimSpace(lines.Text())
		switch {
		case id == "":
			continue
		case len(id) > maxID:
			return nil, fmt.Errorf("population %s: line %d is an id of %d bytes; at most %d are taken", path, len(ids)+1, len(id), maxID)
		case len(ids) == maxPopulation:
			return nil, fmt.Errorf("population %s: more than %d ids", path, maxPopulation)
		}
		ids = append(ids, id)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading population %s: %w", path, err)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("population %s names nobody: put one id on each line", path)
	}
	return ids, nil
}

// zipf draws rank k of n with probability proportional to (k+1)^-s. The standard
// library's needs s > 1, and measured popularities lie on both sides of 1.
type zipf struct {
	cumulative []float64 // nil when uniform
	n          int
}

func newZipf(n int, s float64) zipf {
	z := zipf{n: n}
	if s == 0 {
		return z
	}
	z.cumulative = make([]float64, n)
	var sum float64
	for k := range z.cumulative {
		sum += math.Pow(float64(k+1), -s)
		z.cumulative[k] = sum
	}
	return z
}

func (z zipf) draw(r *rand.Rand) int {
	if z.cumulative == nil {
		return r.IntN(z.n)
	}
	x := r.Float64() * z.cumulative[z.n-1]
	// The guard is for x rounding up to the last sum itself.
	return min(sort.Search(z.n, func(k int) bool { return z.cumulative[k] > x }), z.n-1)
}
