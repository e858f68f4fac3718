package experiments

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Seen returns a result with those of the cases whose target occurs so often in what
// was learnt: "0", "1-5", "21-". Arms and seeds with none of them are left out.
func (r *HoldoutResult) Seen(times string) (*HoldoutResult, error) {
	low, high, err := parseRange(times)
	if err != nil {
		return nil, err
	}
	out := *r
	out.seen, out.Arms = times, nil
	for _, a := range r.Arms {
		arm := *a
		arm.Runs = nil
		for _, run := range a.Runs {
			if len(run.Cases.Seen) == 0 {
				return nil, fmt.Errorf("arm %q, seed %d was made by a version that did not note how often an item was seen: run it again", a.Name, run.Seed)
			}
			run.Cases = run.Cases.only(func(i int) bool { return run.Cases.Seen[i] >= low && run.Cases.Seen[i] <= high })
			if len(run.Cases.Users) > 0 {
				arm.Runs = append(arm.Runs, run)
			}
		}
		if len(arm.Runs) > 0 {
			out.Arms = append(out.Arms, &arm)
		}
	}
	return &out, nil
}

// parseRange reads 3, 1-5 or 21-.
func parseRange(times string) (low, high float64, err error) {
	from, to, is := strings.Cut(times, "-")
	a, errA := strconv.ParseUint(from, 10, 31)
	b, errB := a, error(nil)
	if is && to != "" {
		b, errB = strconv.ParseUint(to, 10, 31)
	}
	if errA != nil || errB != nil || b < a {
		return 0, 0, fmt.Errorf("%q is no range of how often an item was seen: 0, 1-5 and 21- are some", times)
	}
	if is && to == "" {
		return float64(a), math.Inf(1), nil
	}
	return float64(a), float64(b), nil
}

// only returns the cases that are kept.
func (c Cases) only(keep func(i int) bool) Cases {
	pick := func(list Numbers) (out Numbers) {
		for i, v := range list {
			if keep(i) {
				out = append(out, v)
			}
		}
		return out
	}
	return Cases{
		Users: pick(c.Users), Items: pick(c.Items), Rank: pick(c.Rank), Masked: pick(c.Masked),
		LogP: pick(c.LogP), Cold: pick(c.Cold), Seen: pick(c.Seen),
	}
}
