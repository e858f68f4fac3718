package loadtest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// lead is between the start of a run and its first planned request, so that the
// first is not late for want of goroutines.
const lead = 20 * time.Millisecond

// afterFailure is how long a closed loop rests when a request failed: a server that
// refuses connections would otherwise be asked a hundred thousand times a second.
const afterFailure = 10 * time.Millisecond

// Run performs one load test. A cancelled context ends it early with the report of
// what was measured until then, marked as interrupted; an error means that there is
// nothing to report.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := o.Validate(); err != nil {
		return Report{}, fmt.Errorf("load test: %w", err)
	}
	t, err := resolve(ctx, o.Target, o.AllowRemote)
	if err != nil {
		return Report{}, fmt.Errorf("load test: %w", err)
	}
	if o.Items, err = reconnoitre(ctx, t, o); err != nil {
		return Report{}, fmt.Errorf("load test: %w", err)
	}
	p, err := newPacer()
	if err != nil {
		return Report{}, fmt.Errorf("load test: %w", err)
	}
	defer p.close()
	r := newRun(o, func() sender { return newConnection(t, o) }, p)
	if o.ProbeFreshness > 0 {
		r.prober = newProber(o, t)
	}
	return r.measure(ctx)
}

// run is one load test under way.
type run struct {
	o       Options
	connect func() sender
	wait    waiter
	rec     *recorder
	began   time.Time // the first planned time
	users   zipf
	items   zipf
	prober  *prober // nil = no probes

	queue       chan arrival
	outstanding atomic.Int64 // handed to the queue and not finished
	workers     sync.WaitGroup
}

func newRun(o Options, connect func() sender, w waiter) *run {
	r := &run{o: o, connect: connect, wait: w, rec: newRecorder(o.LateAfter), users: newZipf(len(o.Users), o.Zipf)}
	if len(o.Items) > 0 {
		r.items = newZipf(len(o.Items), o.Zipf)
	}
	return r
}

func (r *run) measure(ctx context.Context) (Report, error) {
	cpu := cpuTime()
	r.began = time.Now().Add(lead)
	observers, stop := context.WithCancel(ctx)
	var observing sync.WaitGroup
	var seconds []Second
	observing.Go(func() { seconds = r.watch(observers) })
	if r.prober != nil {
		observing.Go(func() { r.prober.run(observers, r.measuredFrom()) })
	}
	var err error
	if r.o.Saturate > 0 {
		r.closed(ctx)
	} else {
		err = r.open(ctx)
	}
	stop()
	observing.Wait()
	if err != nil && ctx.Err() == nil {
		return Report{}, fmt.Errorf("load test: %w", err)
	}
	return r.report(ctx.Err() != nil, cpuTime()-cpu, seconds), nil
}

func (r *run) measuredFrom() time.Time { return r.began.Add(r.o.Warmup) }

// open plans arrivals and hands each to a connection at its time, whatever became of
// the earlier ones.
func (r *run) open(ctx context.Context) error {
	stages := r.o.stages()
	// An arrival that waits longer than DropAfter is dropped by whoever takes it from
	// the queue, so this many are all that can wait with a purpose.
	waiting := min(math.Ceil(peak(stages)*r.o.DropAfter.Seconds())+1, maxWaiting)
	r.queue = make(chan arrival, int(waiting))
	defer func() {
		close(r.queue)
		r.workers.Wait()
	}()
	// Two sources, so that the same seed gives the same users at another rate.
	times := newPlan(stages, r.o.Arrivals, rand.New(rand.NewPCG(r.o.Seed, 1)))
	who := rand.New(rand.NewPCG(r.o.Seed, 2))
	for started := 0; ; {
		offset, ok := times.arrival()
		if !ok {
			return nil
		}
		a := r.draw(who, r.began.Add(offset))
		if err := r.wait.until(ctx, a.planned); err != nil {
			return err
		}
		// As many connections as were ever needed at once, like a pool of a real
		// client: hundreds of idle ones would make every request a cold one.
		if n := r.outstanding.Add(1); n > int64(started) && started < r.o.MaxInFlight {
			started++
			r.workers.Go(func() { r.work(ctx) })
		}
		select {
		case r.queue <- a:
		default:
			r.outstanding.Add(-1)
			r.rec.dropped(a)
		}
	}
}

func (r *run) work(ctx context.Context) {
	s := r.connect()
	defer s.close()
	for a := range r.queue {
		r.serve(ctx, s, a)
		r.outstanding.Add(-1)
	}
}

// serve sends one arrival and records what became of it; it reports whether the
// server answered well.
func (r *run) serve(ctx context.Context, s sender, a arrival) bool {
	if ctx.Err() != nil {
		return false // interrupted: this arrival was never due
	}
	sent := time.Now()
	if sent.Sub(a.planned) > r.o.DropAfter {
		r.rec.dropped(a)
		return false
	}
	o := s.send(ctx, a, a.planned.Add(r.o.Timeout))
	if o.class != "" && ctx.Err() != nil {
		return false // our own cancellation, not the server's failure
	}
	r.rec.done(a, sent, time.Now(), o)
	return o.class == ""
}

// closed keeps Saturate connections busy until the run is over.
func (r *run) closed(ctx context.Context) {
	end := r.measuredFrom().Add(r.o.Duration)
	for i := range r.o.Saturate {
		r.workers.Go(func() {
			s := r.connect()
			defer s.close()
			who := rand.New(rand.NewPCG(r.o.Seed, uint64(i)))
			for ctx.Err() == nil {
				now := time.Now()
				if !now.Before(end) {
					return
				}
				if !r.serve(ctx, s, r.draw(who, now)) {
					time.Sleep(afterFailure)
				}
			}
		})
	}
	r.workers.Wait()
}

func (r *run) draw(who *rand.Rand, planned time.Time) arrival {
	a := arrival{planned: planned, counted: !planned.Before(r.measuredFrom())}
	a.user = r.o.Users[r.users.draw(who)]
	if who.Float64() < r.o.EventsShare {
		a.kind = event
		a.item = r.o.Items[r.items.draw(who)]
	}
	return a
}

// watch cuts the run into seconds, for the reader who waits and for the timeline.
func (r *run) watch(ctx context.Context) []Second {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	var seconds []Second
	for {
		select {
		case <-ctx.Done():
			return seconds
		case now := <-every.C:
			c := r.rec.second()
			s := newSecond(now.Sub(r.measuredFrom()), &c)
			if r.o.Progress != nil {
				fmt.Fprintln(r.o.Progress, s.line())
			}
			if s.At > 0 {
				seconds = append(seconds, s)
			}
		}
	}
}
