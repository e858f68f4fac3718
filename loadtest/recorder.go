package loadtest

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// longest is what the histograms hold; Options bounds every latency well below it.
const longest = 2 * time.Minute

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(longest), 3) // nanoseconds, to three digits
}

func observe(h *hdrhistogram.Histogram, d time.Duration) {
	// RecordValue fails only outside the range, which the clamp rules out.
	_ = h.RecordValue(int64(min(max(d, 1), longest)))
}

// recorder counts what became of every arrival of the measured part of a run.
type recorder struct {
	lateAfter time.Duration

	mu        sync.Mutex
	kinds     [kinds]counts
	sendDelay *hdrhistogram.Histogram
	sources   map[string]int64
	tick      counts // since the last tick, warm-up included
}

// counts of one kind of request. latency holds those that succeeded.
type counts struct {
	ok, dropped, late int64
	errors            map[string]int64
	latency           *hdrhistogram.Histogram
}

func newCounts() counts { return counts{errors: map[string]int64{}, latency: newHistogram()} }

func (c *counts) failed() (n int64) {
	for _, k := range c.errors {
		n += k
	}
	return n
}

func (c *counts) planned() int64 { return c.ok + c.dropped + c.failed() }

func (c *counts) add(o outcome, latency time.Duration, late bool) {
	if late {
		c.late++
	}
	if o.class != "" {
		c.errors[o.class]++
		return
	}
	c.ok++
	observe(c.latency, latency)
}

func newRecorder(lateAfter time.Duration) *recorder {
	r := &recorder{lateAfter: lateAfter, sendDelay: newHistogram(), sources: map[string]int64{}, tick: newCounts()}
	for k := range r.kinds {
		r.kinds[k] = newCounts()
	}
	return r
}

// done records a request sent and answered, or failed, at the given times.
func (r *recorder) done(a arrival, sent, answered time.Time, o outcome) {
	delay, latency := sent.Sub(a.planned), answered.Sub(a.planned)
	late := delay > r.lateAfter
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tick.add(o, latency, late)
	if !a.counted {
		return
	}
	r.kinds[a.kind].add(o, latency, late)
	observe(r.sendDelay, delay)
	if o.source != "" {
		r.sources[o.source]++
	}
}

// dropped records an arrival that found no connection in time.
func (r *recorder) dropped(a arrival) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tick.dropped++
	if a.counted {
		r.kinds[a.kind].dropped++
	}
}

// second returns what happened since it was last called.
func (r *recorder) second() counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.tick
	r.tick = newCounts()
	return c
}
