package experiments

import (
	"fmt"
	"slices"
	"strings"

	"seralm/config"
	"seralm/models/metrics"
)

// resamples of a bootstrap, and what they are drawn by: a comparison of two files is
// always the same.
const (
	resamples    = 10_000
	bootstrapKey = 20_170_806
)

// Comparison is how much higher a metric of B is than A's.
type Comparison struct {
	Metric string
	A, B   float64
	metrics.Interval
}

// Compare compares an arm of one result with one of another, case by case; both have
// the same cases, or it is an error. An empty name stands for the only arm.
func Compare(a *HoldoutResult, nameA string, b *HoldoutResult, nameB string) ([]Comparison, error) {
	if err := sameQuestion(a, b); err != nil {
		return nil, fmt.Errorf("the results cannot be compared: %w", err)
	}
	armA, err := a.named(nameA)
	if err != nil {
		return nil, err
	}
	armB, err := b.named(nameB)
	if err != nil {
		return nil, err
	}
	seeds := armA.seeds()
	if !slices.Equal(seeds, armB.seeds()) {
		return nil, fmt.Errorf("the results cannot be compared: arm %q has the seeds %v, arm %q %v; run those that are missing", armA.Name, seeds, armB.Name, armB.seeds())
	}
	for _, s := range seeds {
		x, y := armA.run(s).Cases, armB.run(s).Cases
		if !slices.Equal(x.Users, y.Users) || !slices.Equal(x.Items, y.Items) {
			return nil, fmt.Errorf("the results cannot be compared: with seed %d the arms %q and %q were asked different cases", s, armA.Name, armB.Name)
		}
	}
	var measured []string
	for _, m := range testMetrics() {
		if armA.measured(m) && armB.measured(m) {
			measured = append(measured, m)
		}
	}
	var differences []metrics.Sample
	for _, s := range seeds {
		x, err := armA.run(s).Cases.sample(measured)
		if err != nil {
			return nil, err
		}
		y, err := armB.run(s).Cases.sample(measured)
		if err != nil {
			return nil, err
		}
		for m := range measured {
			for i := range y.Values[m] {
				y.Values[m][i] -= x.Values[m][i]
			}
		}
		differences = append(differences, y)
	}
	var out []Comparison
	for i, interval := range metrics.BootstrapUsers(differences, resamples, bootstrapKey) {
		m := measured[i]
		out = append(out, Comparison{Metric: m, A: armA.mean(m), B: armB.mean(m), Interval: interval})
	}
	return out, nil
}

// Programs are the versions that made the runs of two arms, where they are not one that
// says what the program was.
func Programs(a *HoldoutResult, nameA string, b *HoldoutResult, nameB string) (versions []string) {
	for _, of := range []struct {
		r    *HoldoutResult
		name string
	}{{a, nameA}, {b, nameB}} {
		arm, err := of.r.named(of.name)
		if err != nil {
			continue // Compare has said so
		}
		for _, run := range arm.Runs {
			versions = append(versions, run.Program)
		}
	}
	slices.Sort(versions)
	versions = slices.Compact(versions)
	if len(versions) == 1 && versions[0] != config.UnknownVersion && !strings.HasSuffix(versions[0], "-dirty") {
		return nil
	}
	return versions
}

// named returns an arm that has runs.
func (r *HoldoutResult) named(name string) (*ArmResult, error) {
	var names []string
	for _, a := range r.Arms {
		if len(a.Runs) > 0 && (a.Name == name || name == "" && len(r.Arms) == 1) {
			return a, nil
		}
		names = append(names, fmt.Sprintf("%q", a.Name))
	}
	if name == "" {
		return nil, fmt.Errorf("name one of the arms %s", strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("there is no arm %q with runs; there are %s", name, strings.Join(names, ", "))
}

// sample is what the cases have of some metrics; it may be changed.
func (c Cases) sample(of []string) (s metrics.Sample, err error) {
	for _, u := range c.Users {
		s.Users = append(s.Users, int(u))
	}
	for _, m := range of {
		values, err := c.Values(m)
		if err != nil {
			return s, err
		}
		s.Values = append(s.Values, slices.Clone(values))
	}
	return s, nil
}

// measured tells whether all runs of the arm have the metric.
func (a *ArmResult) measured(metric string) bool {
	return !slices.ContainsFunc(a.Runs, func(r Run) bool {
		values, _ := r.Cases.Values(metric)
		return len(values) == 0
	})
}

// intervals are those of the arm alone, by metric.
func (a *ArmResult) intervals(of []string) ([]metrics.Interval, error) {
	var seeds []metrics.Sample
	for _, run := range a.Runs {
		s, err := run.Cases.sample(of)
		if err != nil {
			return nil, err
		}
		seeds = append(seeds, s)
	}
	return metrics.BootstrapUsers(seeds, resamples, bootstrapKey), nil
}

// mean over all cases of all seeds.
func (a *ArmResult) mean(metric string) float64 {
	sum, n := 0.0, 0
	for _, run := range a.Runs {
		values, _ := run.Cases.Values(metric)
		for _, v := range values {
			sum += v
		}
		n += len(values)
	}
	return sum / float64(max(1, n))
}
