package loadtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	probeUsers   = 16
	probeItems   = 20
	probeGiveUp  = 10 * time.Second
	probeRest    = 500 * time.Microsecond // between two polls
	probeAnother = time.Second            // after a probe that could not be made
)

// prober measures how long an event takes to be known to look-ups, through nothing
// but the public API: an item that a user has clicked is not recommended to them
// again. It asks for a user's recommendations, posts a click on the first, and asks
// again until that item is gone. The time counts from the moment before the click
// is posted to the answer without it, so it holds the post and one look-up too.
//
// Probes use users of their own, and post real events of which the models learn.
type prober struct {
	every   time.Duration
	seed    uint64
	sender  *connection
	latency *hdrhistogram.Histogram
	lost    int64
	errors  map[string]int64
}

func newProber(o Options, t target) *prober {
	o.EventType = "click"
	return &prober{
		every: time.Duration(float64(time.Second) / o.ProbeFreshness), seed: o.Seed, sender: newConnection(t, o),
		latency: newHistogram(), errors: map[string]int64{},
	}
}

// run probes from the given time until ctx ends. Probes follow one another: one that
// takes long delays the next, which is noted nowhere since each is timed from its
// own click.
func (p *prober) run(ctx context.Context, from time.Time) {
	defer p.sender.close()
	next := time.NewTimer(time.Until(from))
	defer next.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		began := time.Now()
		rest := p.every
		if class := p.probe(ctx, fmt.Sprintf("loadtest-probe-%d-%d", p.seed, i%probeUsers)); class != "" && ctx.Err() == nil {
			p.errors[class]++
			rest = max(rest, probeAnother)
		}
		next.Reset(max(0, rest-time.Since(began)))
	}
}

// probe makes one measurement; it returns the class of error when it could not.
func (p *prober) probe(ctx context.Context, user string) string {
	a, class := p.look(ctx, user)
	if class != "" {
		return class
	}
	clicked := a.items[0]
	posted := time.Now()
	click := arrival{kind: event, user: user, item: clicked}
	if o := p.sender.send(ctx, click, posted.Add(probeGiveUp)); o.class != "" {
		return o.class
	}
	for time.Since(posted) < probeGiveUp {
		if a, class = p.look(ctx, user); class != "" {
			return class
		}
		if !slices.Contains(a.items, clicked) {
			observe(p.latency, time.Since(posted))
			return ""
		}
		time.Sleep(probeRest)
	}
	p.lost++
	return ""
}

func (p *prober) look(ctx context.Context, user string) (answer, string) {
	c := p.sender
	body, status, err := c.roundTrip(ctx, c.lookupRequest(user, probeItems), time.Now().Add(probeGiveUp), true)
	if class := classify(status, err); class != "" {
		return answer{}, class
	}
	return inspect(body)
}
