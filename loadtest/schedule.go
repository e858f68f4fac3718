package loadtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// plan yields the planned send times of a run, as offsets from its start.
//
// With the expected number of arrivals up to t being L(t) = integral of the rate,
// the k-th evenly spaced arrival is at L^-1(k), and a Poisson process of that rate
// is L^-1 of a Poisson process of rate 1 (time-rescaling theorem). So both laws and
// every ramp are one inversion, and no error adds up over the run.
type plan struct {
	stages []Stage
	began  time.Duration // offset at which stages[0] begins
	count  float64       // L(began)
	next   float64       // L of the next arrival
	gap    func() float64
}

func newPlan(stages []Stage, law Arrivals, r *rand.Rand) *plan {
	p := &plan{stages: stages, gap: func() float64 { return 1 }}
	if law == Poisson {
		p.gap = r.ExpFloat64
		p.next = p.gap()
	}
	return p
}

// arrival returns the next planned offset; ok is false when the run is over.
func (p *plan) arrival() (offset time.Duration, ok bool) {
	for len(p.stages) > 0 {
		s := p.stages[0]
		mass := (s.From + s.To) / 2 * s.Duration.Seconds()
		if p.next < p.count+mass {
			offset = p.began + s.invert(p.next-p.count)
			p.next += p.gap()
			return offset, true
		}
		p.began, p.count, p.stages = p.began+s.Duration, p.count+mass, p.stages[1:]
	}
	return 0, false
}

// invert returns how far into the stage x arrivals are expected: the root of
// From*t + (To-From)/(2*Duration)*t^2 = x, in the form that does not cancel.
func (s Stage) invert(x float64) time.Duration {
	if x <= 0 {
		return 0
	}
	slope := (s.To - s.From) / s.Duration.Seconds()
	t := 2 * x / (s.From + math.Sqrt(math.Max(0, s.From*s.From+2*slope*x)))
	return min(time.Duration(t*float64(time.Second)), s.Duration)
}

// peak is the highest planned rate.
func peak(stages []Stage) float64 {
	var high float64
	for _, s := range stages {
		high = max(high, s.From, s.To)
	}
	return high
}

// ParseStages reads "10s:100-1000,60s:1000": ten seconds from 100 to 1,000
// requests/s, then a minute at 1,000.
func ParseStages(text string) ([]Stage, error) {
	if text == "" {
		return nil, nil
	}
	var stages []Stage
	for _, part := range strings.Split(text, ",") {
		length, rates, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok {
			return nil, fmt.Errorf("stage %q: write DURATION:RATE or DURATION:FROM-TO, as in 30s:1000", part)
		}
		d, err := time.ParseDuration(length)
		if err != nil {
			return nil, fmt.Errorf("stage %q: %w", part, err)
		}
		from, to, ramp := strings.Cut(rates, "-")
		if !ramp {
			to = from
		}
		s := Stage{Duration: d}
		for _, f := range []struct {
			text string
			into *float64
		}{{from, &s.From}, {to, &s.To}} {
			if *f.into, err = strconv.ParseFloat(f.text, 64); err != nil {
				return nil, fmt.Errorf("stage %q: %q is not a rate in requests/s", part, f.text)
			}
		}
		stages = append(stages, s)
	}
	return stages, nil
}
