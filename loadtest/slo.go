package loadtest

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// ErrSLO is returned by the command when an objective was missed.
var ErrSLO = errors.New("service-level objective missed")

// Objective is one promise about a run.
type Objective struct {
	text  string
	of    string  // all, lookups, events, freshness
	what  string  // p50, p99.9, max, errors, late, rps
	bound float64 // nanoseconds, share of the planned requests, or requests/s
}

// Verdict says whether an objective was met.
type Verdict struct {
	Objective string `json:"objective"`
	Measured  string `json:"measured"`
	Met       bool   `json:"met"`
}

// String is one line for a person.
func (v Verdict) String() string {
	word := "missed"
	if v.Met {
		word = "met"
	}
	return fmt.Sprintf("SLO %s: %s (%s)", v.Objective, word, v.Measured)
}

var subjects = map[string]bool{"all": true, "lookups": true, "events": true, "freshness": true}

// ParseSLO reads "p99=2ms,errors=0.1%,events.p99=20ms". An objective is about all
// requests unless it begins with lookups., events. or freshness. There are:
//
//	p50, p99, p99.9, ... max=DURATION  that part of the planned requests was answered well within it
//	errors=PERCENT                     at most so many failed or were dropped
//	late=PERCENT                       at most so many were sent late
//	rps=NUMBER                         at least so many good answers a second
//
// A failed or dropped request counts as infinitely slow: a server that fails
// quickly meets no latency objective.
func ParseSLO(text string) ([]Objective, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var all []Objective
	for _, part := range strings.Split(text, ",") {
		o, err := parseObjective(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("objective %q: %w", part, err)
		}
		all = append(all, o)
	}
	return all, nil
}

func parseObjective(text string) (o Objective, err error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return o, errors.New("write NAME=BOUND, as in p99=2ms or errors=0.1%")
	}
	o = Objective{text: text, of: "all", what: name}
	if before, after, ok := strings.Cut(name, "."); ok && subjects[before] {
		o.of, o.what = before, after
	}
	switch {
	case o.what == "max" || strings.HasPrefix(o.what, "p"):
		if _, err := o.percent(); err != nil {
			return o, err
		}
		var d time.Duration
		if d, err = time.ParseDuration(value); err != nil || d <= 0 {
			return o, fmt.Errorf("%q is not a duration above 0 (write 2ms)", value)
		}
		o.bound = float64(d)
	case o.of == "freshness":
		return o, errors.New("freshness has p50, p99, ... and max only")
	case o.what == "errors" || o.what == "late":
		o.bound, err = parseShare(value)
	case o.what == "rps":
		if o.bound, err = strconv.ParseFloat(value, 64); err != nil || !within(o.bound, 0, maxRate) {
			return o, fmt.Errorf("%q is not a number of requests a second", value)
		}
	default:
		return o, fmt.Errorf("there is no %q: use p50, p99, p99.9, max, errors, late or rps", o.what)
	}
	return o, err
}

func parseShare(value string) (float64, error) {
	number, percent := strings.CutSuffix(value, "%")
	share, err := strconv.ParseFloat(number, 64)
	if percent {
		share /= 100
	}
	if err != nil || !within(share, 0, 1) {
		return 0, fmt.Errorf("%q is not a share (write 0.1%% or 0.001)", value)
	}
	return share, nil
}

func (o Objective) percent() (float64, error) {
	if o.what == "max" {
		return 100, nil
	}
	p, err := strconv.ParseFloat(strings.TrimPrefix(o.what, "p"), 64)
	if err != nil || !within(p, 0, 100) || p == 0 {
		return 0, fmt.Errorf("%q is not a percentile (write p50, p99 or p99.9)", o.what)
	}
	return p, nil
}

// Check judges the report by the objectives and keeps the verdicts in it. It returns
// ErrSLO when any was missed.
func (rep *Report) Check(objectives []Objective) error {
	missed := 0
	for _, o := range objectives {
		v := o.judge(rep)
		if !v.Met {
			missed++
		}
		rep.SLO = append(rep.SLO, v)
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d: %w", missed, len(objectives), ErrSLO)
	}
	return nil
}

func (o Objective) judge(rep *Report) Verdict {
	v := Verdict{Objective: o.text}
	r := map[string]Requests{"all": rep.All, "lookups": rep.Lookups, "events": rep.Events}[o.of]
	good, bad, h := r.OK, r.Failed+r.Dropped, r.histogram
	if o.of == "freshness" && rep.Freshness != nil {
		good, bad, h = rep.Freshness.Probes, rep.Freshness.Lost+total(rep.Freshness.Errors), rep.Freshness.histogram
	}
	if good+bad == 0 {
		v.Measured = "nothing was measured"
		return v
	}
	share := func(n int64) {
		s := float64(n) / float64(good+bad)
		v.Measured, v.Met = fmt.Sprintf("%.4g%%", 100*s), s <= o.bound
	}
	switch o.what {
	case "errors":
		share(bad)
	case "late":
		share(r.Late)
	case "rps":
		rate := float64(good) / rep.Seconds
		v.Measured, v.Met = fmt.Sprintf("%.0f/s", rate), rate >= o.bound
	default:
		percent, _ := o.percent() // parsed before
		slow, ok := overAll(h, percent, good, bad)
		v.Measured = fmt.Sprintf("%.4g%% got no good answer", 100*float64(bad)/float64(good+bad))
		if ok {
			v.Measured, v.Met = show(milliseconds(slow)), float64(slow) <= o.bound
		}
	}
	return v
}

// overAll is the percentile of good latencies and bad requests together, the bad ones
// infinitely slow; ok is false when it falls among those.
func overAll(h *hdrhistogram.Histogram, percent float64, good, bad int64) (value int64, ok bool) {
	rank := int64(math.Ceil(percent / 100 * float64(good+bad)))
	if rank > good {
		return 0, false
	}
	// A hair below the exact share, for the library rounds up to the next value.
	return h.ValueAtPercentile(100 * (float64(rank) - 0.5) / float64(good)), true
}
