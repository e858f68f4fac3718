package loadtest

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/segmentio/encoding/json"
)

// Report is what a run found. All times are in milliseconds, all counts and
// percentiles are of the measured part, without the warm-up.
type Report struct {
	Target  string    `json:"target"`
	Started time.Time `json:"started"` // first planned request of the measured part
	// Model is "open" (planned arrivals) or "closed" (Connections busy all the time).
	// A closed loop's latencies are service times at saturation, no user's wait.
	Model       string  `json:"model"`
	Plan        Plan    `json:"plan"`
	Connections int     `json:"connections"` // at most
	Seconds     float64 `json:"seconds"`
	Interrupted bool    `json:"interrupted,omitempty"`

	Rate    float64  `json:"rate"` // good answers per second
	All     Requests `json:"all"`
	Lookups Requests `json:"lookups"`
	Events  Requests `json:"events"`
	// SendDelay is from the planned time to the sending: what the generator and its
	// bound of connections added, to be subtracted from no latency but to be judged.
	SendDelay Latency `json:"send_delay"`
	// Sources counts the sources that a sample of the look-ups' answers named.
	Sources   map[string]int64 `json:"sources,omitempty"`
	Freshness *Freshness       `json:"freshness,omitempty"`
	Timeline  []Second         `json:"timeline"`
	Generator Generator        `json:"generator"`
	SLO       []Verdict        `json:"slo,omitempty"`
}

// Plan is what the run was asked to do, so that a result says how to get it again.
type Plan struct {
	Arrivals       Arrivals `json:"arrivals,omitempty"`
	Stages         []Stage  `json:"stages,omitempty"` // without the warm-up
	WarmupSeconds  float64  `json:"warmup_seconds"`
	Users          int      `json:"users"`
	Items          int      `json:"items"`
	Zipf           float64  `json:"zipf"`
	EventsShare    float64  `json:"events_share"`
	N              int      `json:"n"`
	TimeoutSeconds float64  `json:"timeout_seconds"`
	Seed           uint64   `json:"seed"`
}

// Requests is what became of one kind of request. Planned = OK + Failed + Dropped.
type Requests struct {
	Planned int64            `json:"planned"`
	OK      int64            `json:"ok"`
	Failed  int64            `json:"failed"`
	Dropped int64            `json:"dropped"` // never sent: no connection was free in time
	Late    int64            `json:"late"`    // sent, but later than planned by more than the bound
	Errors  map[string]int64 `json:"errors,omitempty"`
	Latency Latency          `json:"latency"` // of the good answers, from the planned time

	histogram *hdrhistogram.Histogram
}

// Latency is a distribution, in milliseconds.
type Latency struct {
	Mean float64 `json:"mean_ms"`
	P50  float64 `json:"p50_ms"`
	P90  float64 `json:"p90_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p99_9_ms"`
	Max  float64 `json:"max_ms"`
}

// Freshness is the time from an event's posting to the first look-up that knows it.
type Freshness struct {
	Probes  int64            `json:"probes"` // seen in time
	Lost    int64            `json:"lost"`   // not seen within 10 s
	Errors  map[string]int64 `json:"errors,omitempty"`
	Latency Latency          `json:"latency"`

	histogram *hdrhistogram.Histogram
}

// Second is one second of the run, by when answers came.
type Second struct {
	At      float64 `json:"at"` // seconds since the measured part began, at the end of this one
	OK      int64   `json:"ok"`
	Failed  int64   `json:"failed"`
	Dropped int64   `json:"dropped"`
	Late    int64   `json:"late"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
}

// Generator is what the load generator itself used, of a machine that it may share
// with the server.
type Generator struct {
	CPUSeconds float64 `json:"cpu_seconds"`
	Cores      float64 `json:"cores"` // CPU seconds per second, warm-up included
	GOMAXPROCS int     `json:"gomaxprocs"`
	Go         string  `json:"go"`
}

func (r *run) report(interrupted bool, cpu time.Duration, timeline []Second) Report {
	elapsed := time.Since(r.began)
	seconds := r.o.measured().Seconds()
	if interrupted {
		seconds = min(seconds, max(0, elapsed-r.o.Warmup).Seconds())
	}
	rep := Report{
		Target: r.o.Target, Started: r.measuredFrom().UTC(), Model: "open", Plan: newPlanned(r.o), Connections: r.o.MaxInFlight,
		Seconds: seconds, Interrupted: interrupted, SendDelay: newLatency(r.rec.sendDelay), Sources: r.rec.sources, Timeline: timeline,
		Lookups: newRequests(&r.rec.kinds[lookup]), Events: newRequests(&r.rec.kinds[event]),
		Generator: Generator{CPUSeconds: cpu.Seconds(), Cores: cpu.Seconds() / elapsed.Seconds(), GOMAXPROCS: runtime.GOMAXPROCS(0), Go: runtime.Version()},
	}
	if r.o.Saturate > 0 {
		rep.Model, rep.Connections = "closed", r.o.Saturate
	}
	all := newCounts()
	for k := range r.rec.kinds {
		c := &r.rec.kinds[k]
		all.ok, all.dropped, all.late = all.ok+c.ok, all.dropped+c.dropped, all.late+c.late
		all.latency.Merge(c.latency)
		for class, n := range c.errors {
			all.errors[class] += n
		}
	}
	rep.All = newRequests(&all)
	if seconds > 0 {
		rep.Rate = float64(all.ok) / seconds
	}
	if p := r.prober; p != nil {
		rep.Freshness = &Freshness{Probes: p.latency.TotalCount(), Lost: p.lost, Errors: p.errors, Latency: newLatency(p.latency), histogram: p.latency}
	}
	return rep
}

func newPlanned(o Options) Plan {
	p := Plan{
		WarmupSeconds: o.Warmup.Seconds(), Users: len(o.Users), Items: len(o.Items), Zipf: o.Zipf,
		EventsShare: o.EventsShare, N: o.N, TimeoutSeconds: o.Timeout.Seconds(), Seed: o.Seed,
	}
	if o.Saturate > 0 {
		return p
	}
	p.Arrivals, p.Stages = o.Arrivals, o.stages()
	if o.Warmup > 0 {
		p.Stages = p.Stages[1:]
	}
	return p
}

func newRequests(c *counts) Requests {
	return Requests{
		Planned: c.planned(), OK: c.ok, Failed: c.failed(), Dropped: c.dropped, Late: c.late,
		Errors: c.errors, Latency: newLatency(c.latency), histogram: c.latency,
	}
}

func newLatency(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	at := func(percent float64) float64 { return milliseconds(h.ValueAtPercentile(percent)) }
	return Latency{Mean: h.Mean() / 1e6, P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: milliseconds(h.Max())}
}

func newSecond(at time.Duration, c *counts) Second {
	l := newLatency(c.latency)
	return Second{At: at.Seconds(), OK: c.ok, Failed: c.failed(), Dropped: c.dropped, Late: c.late, P50: l.P50, P99: l.P99, Max: l.Max}
}

func milliseconds(ns int64) float64 { return float64(ns) / 1e6 }

func (s Second) line() string {
	what := fmt.Sprintf("%4.0f s", math.Round(s.At))
	if s.At <= 0 {
		what = "warm-up"
	}
	return fmt.Sprintf("%7s  %6d ok  %d failed  %d dropped  %d late  p50 %s  p99 %s  max %s",
		what, s.OK, s.Failed, s.Dropped, s.Late, show(s.P50), show(s.P99), show(s.Max))
}

// show writes milliseconds with three digits, in the unit a reader expects.
func show(ms float64) string {
	switch {
	case ms == 0:
		return "-"
	case ms >= 999.5:
		return fmt.Sprintf("%.3g s", ms/1000)
	default:
		return fmt.Sprintf("%.3g ms", ms)
	}
}

// WriteText writes the report for a person.
func (rep *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	if rep.Model == "closed" {
		fmt.Fprintf(&b, "%s: %d connections kept busy for %.3g s\n", rep.Target, rep.Connections, rep.Seconds)
	} else {
		fmt.Fprintf(&b, "%s: %s arrivals, %s, at most %d in flight\n", rep.Target, rep.Plan.Arrivals, rep.Plan.rates(), rep.Connections)
	}
	if rep.Interrupted {
		b.WriteString("interrupted: what follows covers a part of the run only\n")
	}
	b.WriteByte('\n')
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tplanned\tok\tfailed\tdropped\tlate\tmean\tp50\tp90\tp99\tp99.9\tmax\t")
	row := func(name string, r Requests) {
		if r.Planned > 0 {
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%s\n", name, r.Planned, r.OK, r.Failed, r.Dropped, r.Late, r.Latency.cells())
		}
	}
	row("look-ups", rep.Lookups)
	row("events", rep.Events)
	row("all", rep.All)
	if rep.Model == "open" {
		fmt.Fprintf(t, "sent after its time by\t\t\t\t\t\t%s\n", rep.SendDelay.cells())
	}
	if f := rep.Freshness; f != nil {
		fmt.Fprintf(t, "event to look-up\t%d\t%d\t%d\t%d\t\t%s\n", f.Probes+f.Lost+total(f.Errors), f.Probes, total(f.Errors), f.Lost, f.Latency.cells())
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("laying out the report: %w", err)
	}
	fmt.Fprintf(&b, "\n%.0f good answers/s; the generator used %.2f cores\n", rep.Rate, rep.Generator.Cores)
	if rep.Model == "closed" {
		b.WriteString("latencies are service times under full load, not what users at a given rate would see\n")
	}
	list(&b, "errors", rep.All.Errors)
	list(&b, "sources of sampled answers", rep.Sources)
	if rep.Freshness != nil {
		list(&b, "probes that failed", rep.Freshness.Errors)
	}
	for _, v := range rep.SLO {
		fmt.Fprintln(&b, v)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// rates is the planned rate of each stage.
func (p Plan) rates() string {
	var parts []string
	for _, s := range p.Stages {
		rate := fmt.Sprintf("%g", s.From)
		if s.From != s.To {
			rate = fmt.Sprintf("%g to %g", s.From, s.To)
		}
		parts = append(parts, fmt.Sprintf("%s/s for %s", rate, s.Duration))
	}
	return strings.Join(parts, ", ")
}

func (l Latency) cells() string {
	cells := ""
	for _, ms := range []float64{l.Mean, l.P50, l.P90, l.P99, l.P999, l.Max} {
		cells += show(ms) + "\t"
	}
	return cells
}

func list(b *strings.Builder, name string, n map[string]int64) {
	keys := make([]string, 0, len(n))
	for k := range n {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return n[keys[i]] > n[keys[j]] || n[keys[i]] == n[keys[j]] && keys[i] < keys[j] })
	for i, k := range keys {
		keys[i] = fmt.Sprintf("%s %d", k, n[k])
	}
	if len(keys) > 0 {
		fmt.Fprintf(b, "%s: %s\n", name, strings.Join(keys, ", "))
	}
}

func total(n map[string]int64) (sum int64) {
	for _, k := range n {
		sum += k
	}
	return sum
}

// WriteJSON writes the report for a program.
func (rep *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(rep)
}

// WriteHGRM writes the latencies of all good answers as HdrHistogram's percentile
// table, in milliseconds, which its plotters read.
func (rep *Report) WriteHGRM(w io.Writer) error {
	h := rep.All.histogram
	if h == nil {
		h = newHistogram()
	}
	_, err := h.PercentilesPrint(w, 5, 1e6)
	return err
}
