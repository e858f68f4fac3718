package loadtest

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// Arrivals is the law of the time between two planned requests.
type Arrivals string

// The two laws: evenly spaced (like wrk2), or a Poisson process, which has the
// bursts that independent users make.
const (
	Constant Arrivals = "constant"
	Poisson  Arrivals = "poisson"
)

// Bounds of what one run may ask for. They keep a slip of the keyboard from
// filling the memory of the machine that runs the test.
const (
	maxRate        = 1_000_000
	maxConnections = 20_000
	maxRun         = 24 * time.Hour
	maxWaiting     = 1 << 20 // arrivals waiting for a connection
)

// Options describes one run. The zero value is not useful: start from Defaults.
type Options struct {
	Target string // base URL of the server, http or https

	// Rate is the planned number of requests per second over Duration. Stages,
	// when given, replaces both.
	Rate     float64
	Duration time.Duration
	Stages   []Stage
	// Warmup precedes what is measured, at the rate of its beginning; requests
	// planned in it are sent and not counted.
	Warmup   time.Duration
	Arrivals Arrivals

	// Saturate, when above 0, replaces the open model by a closed loop of that
	// many connections, each sending its next request when the last is answered.
	Saturate int

	Users []string // who asks; earlier ones ask more often
	Items []string // what they click; empty = items the server itself recommends
	Zipf  float64  // exponent of both popularities; 0 = uniform

	EventsShare float64 // share of requests that post an event; the rest are look-ups
	EventType   string
	N           int // items per look-up

	// MaxInFlight bounds the connections, one request on each.
	MaxInFlight int
	// Timeout is a user's patience, counted from the planned time: a request that is
	// not answered by then has failed.
	Timeout time.Duration
	// DropAfter is how long an arrival waits for a connection before it is dropped.
	// It is below Timeout: requests sent when their users are about to leave would
	// only make an overloaded server work for nobody.
	DropAfter time.Duration
	// LateAfter is how long after its planned time a request counts as sent late.
	LateAfter time.Duration

	// ProbeFreshness is how many times a second to post an event and watch for the
	// look-up that knows of it; 0 = never.
	ProbeFreshness float64

	Seed        uint64 // of arrivals, users and items: same seed, same plan
	AllowRemote bool
	Progress    io.Writer // one line a second; nil = silent
}

// Stage is a stretch of the run whose rate goes evenly From one value To another.
type Stage struct {
	Duration time.Duration `json:"duration"`
	From     float64       `json:"from"` // requests per second
	To       float64       `json:"to"`
}

// Defaults returns a short, gentle run against a server on this machine.
func Defaults() Options {
	return Options{
		Target: "http://127.0.0.1:8080", Rate: 100, Duration: 30 * time.Second, Warmup: 5 * time.Second, Arrivals: Constant,
		Zipf: 1, EventsShare: 0.1, EventType: "click", N: 10,
		MaxInFlight: 256, Timeout: 5 * time.Second, DropAfter: 2 * time.Second, LateAfter: time.Millisecond, Seed: 1,
	}
}

// stages returns the run as stages, the warm-up first.
func (o Options) stages() []Stage {
	stages := o.Stages
	if len(stages) == 0 {
		stages = []Stage{{Duration: o.Duration, From: o.Rate, To: o.Rate}}
	}
	if o.Warmup > 0 {
		warm := Stage{Duration: o.Warmup, From: stages[0].From, To: stages[0].From}
		stages = append([]Stage{warm}, stages...)
	}
	return stages
}

// measured is how long the run lasts after its warm-up.
func (o Options) measured() time.Duration {
	if len(o.Stages) == 0 || o.Saturate > 0 {
		return o.Duration
	}
	var d time.Duration
	for _, s := range o.Stages {
		d += s.Duration
	}
	return d
}

// usesItems reports whether the run has to name items itself.
func (o Options) usesItems() bool { return o.EventsShare > 0 }

// Validate names everything that is wrong with the options, not the first only.
func (o Options) Validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for i, s := range o.Stages {
		refuse(s.Duration <= 0 || s.Duration > maxRun, "stage %d lasts %s; it must last more than 0 and at most %s", i+1, s.Duration, maxRun)
		refuse(!within(s.From, 0, maxRate) || !within(s.To, 0, maxRate), "stage %d goes from %g to %g requests/s; both must lie in 0..%d", i+1, s.From, s.To, maxRate)
		refuse(s.From == 0 && s.To == 0, "stage %d sends nothing: give it a rate above 0", i+1)
	}
	refuse(o.Saturate > 0 && len(o.Stages) > 0, "a closed loop has no planned rate: give stages or saturate, not both")
	if len(o.Stages) == 0 {
		refuse(!within(o.Rate, 1e-3, maxRate) && o.Saturate == 0, "rate %g: it must lie in 0.001..%d requests/s", o.Rate, maxRate)
		refuse(o.Duration <= 0 || o.Duration > maxRun, "duration %s: it must be above 0 and at most %s", o.Duration, maxRun)
	}
	refuse(o.Warmup < 0 || o.Warmup > maxRun, "warm-up %s: it must lie in 0..%s", o.Warmup, maxRun)
	refuse(o.Arrivals != Constant && o.Arrivals != Poisson, "arrivals %q: there are %s and %s", o.Arrivals, Constant, Poisson)
	refuse(o.Saturate < 0 || o.Saturate > maxConnections, "saturate %d: it must lie in 0..%d connections", o.Saturate, maxConnections)
	refuse(len(o.Users) == 0, "no users: name at least one")
	refuse(!within(o.Zipf, 0, 10), "zipf %g: it must lie in 0..10", o.Zipf)
	refuse(!within(o.EventsShare, 0, 1), "events share %g: it must lie in 0..1", o.EventsShare)
	refuse(o.EventType == "" && o.EventsShare > 0, "events need a type")
	refuse(o.N < 1 || o.N > 10_000, "n %d: it must lie in 1..10000", o.N)
	refuse(o.MaxInFlight < 1 || o.MaxInFlight > maxConnections, "max in flight %d: it must lie in 1..%d", o.MaxInFlight, maxConnections)
	refuse(o.Timeout <= 0 || o.Timeout > time.Minute, "timeout %s: it must be above 0 and at most 1m", o.Timeout)
	refuse(o.DropAfter <= 0 || o.DropAfter >= o.Timeout, "drop after %s: it must be above 0 and below the timeout, %s", o.DropAfter, o.Timeout)
	refuse(o.LateAfter <= 0, "late after %s: it must be above 0", o.LateAfter)
	refuse(!within(o.ProbeFreshness, 0, 100), "freshness probes %g: it must lie in 0..100 a second", o.ProbeFreshness)
	return errors.Join(errs...)
}

// within is false for NaN, which every comparison with a bound must refuse.
func within(x, low, high float64) bool { return x >= low && x <= high }
