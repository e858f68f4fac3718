package replay

import (
	"context"
	"time"

	"seralm/producers/dataset"
)

const (
	// MaxGap is the longest that a replay waits for the next event. A night, or the
	// months that a small data set has no event in, pass in a minute at most: whoever
	// replays at a speed wants the rhythm of the stream, not its silences.
	MaxGap = time.Minute
	// paceTick is the shortest wait. Events closer together go out together: a timer
	// is no more exact, and each wait ends a chunk.
	paceTick = 10 * time.Millisecond
)

// pacer says when events are due. It keeps to one timetable from the first event on:
// after a broker that was slow, it catches up.
type pacer struct {
	data  *dataset.Dataset
	speed float64
	at    int       // an event,
	due   time.Time // and when it is due
	cut   int       // gaps that were longer than MaxGap
}

func newPacer(data *dataset.Dataset, speed float64, from int) *pacer {
	return &pacer{data: data, speed: speed, at: from, due: time.Now()}
}

// take waits until event from is due, and returns the end of those that are, which is
// limit at most.
func (p *pacer) take(ctx context.Context, from, limit int) (int, error) {
	if p.speed == 0 {
		return limit, ctx.Err()
	}
	p.forward(from)
	if wait := time.Until(p.due); wait > 0 {
		timer := time.NewTimer(max(wait, paceTick))
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return from, ctx.Err()
		case <-timer.C:
		}
	}
	now, to := time.Now(), from+1
	for ; to < limit; to++ {
		if p.forward(to); p.due.After(now) {
			break
		}
	}
	return to, ctx.Err()
}

// forward moves the timetable on to event i.
func (p *pacer) forward(i int) {
	for ; p.at < i; p.at++ {
		wait := p.data.Time(p.at+1).Sub(p.data.Time(p.at)).Seconds() / p.speed
		if wait > MaxGap.Seconds() {
			p.due = p.due.Add(MaxGap)
			p.cut++
			continue
		}
		p.due = p.due.Add(time.Duration(wait * float64(time.Second)))
	}
}
