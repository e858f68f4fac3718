package replay

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// producer are the options of the client beyond stream's.
var producer = []kgo.Opt{
	// Nothing is sent but in Flush. When the broker refuses a batch, the client drops
	// what it holds of that partition and begins a new sequence with the next record:
	// one produced meanwhile would be written behind a hole.
	kgo.ManualFlushing(),
	// A broker that lost what it had acknowledged is an error, and nothing to go on behind.
	kgo.StopProducerOnDataLossDetected(),
}

// limits bound what a replay holds and waits for.
type limits struct {
	records  int           // in flight, and beyond the cursor on disk; more by less than a chunk
	saveEach time.Duration // the cursor, while there is something to save
	patience time.Duration // with a broker that does not acknowledge what is in flight
	flush    time.Duration // the same, after ctx has ended
}

var defaults = limits{records: 32 << 10, saveEach: 200 * time.Millisecond, patience: time.Minute, flush: 5 * time.Second}

// maxBytes bounds the values of the records in flight, for items can be large.
const maxBytes = 16 << 20

// writer sends streams to the log.
type writer struct {
	cl      *kgo.Client
	brokers string // for errors
	limits
	acked atomic.Int64 // position of the stream being written, for the progress
}

// write sends what src hands out, and returns when all of it is acknowledged and
// saved. save is called with positions before which everything is acknowledged.
// Whatever the error, the last position saved is right; the writer can then not be
// used again.
//
// A source and several encoders run ahead of one sender, which takes what they have
// ready, a window of records at most, and waits until the broker has all of it.
func (w *writer) write(ctx context.Context, src source, save func(next int) error) error {
	feed, stop := context.WithCancel(ctx)
	work, order := make(chan *chunk), make(chan *chunk, w.records/chunkRecords)
	var ended error // why the source ended; set before order is closed
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		defer close(order)
		defer close(work)
		ended = src(feed, func(c *chunk) error {
			select {
			case order <- c:
			case <-feed.Done():
				return feed.Err()
			}
			work <- c
			return nil
		})
	})
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for c := range work {
				c.recs, c.err = c.encode()
				close(c.ready)
			}
		})
	}
	if err := w.follow(ctx, order, save); err != nil {
		return err
	}
	return ended
}

// follow sends and saves until order is closed.
func (w *writer) follow(ctx context.Context, order <-chan *chunk, save func(next int) error) error {
	next, unsaved := 0, 0
	flush := func() error {
		if unsaved == 0 {
			return nil
		}
		unsaved = 0
		return save(next)
	}
	tick := time.NewTicker(w.saveEach)
	defer tick.Stop()
	for {
		select {
		case c, open := <-order:
			if !open {
				return flush()
			}
			recs, end, err := w.window(c, order)
			if len(recs) > 0 && unsaved+len(recs) > w.records {
				err = errors.Join(err, flush())
			}
			if err == nil {
				err = w.send(ctx, recs)
			}
			if err != nil {
				return errors.Join(err, flush())
			}
			next, unsaved = end, unsaved+len(recs)
			w.acked.Store(int64(next))
		case <-tick.C:
			if err := flush(); err != nil {
				return err
			}
		case <-ctx.Done():
			return errors.Join(ctx.Err(), flush())
		}
	}
}

// window joins a chunk with those that wait behind it.
func (w *writer) window(c *chunk, order <-chan *chunk) (recs []*kgo.Record, end int, err error) {
	for size := 0; ; {
		<-c.ready
		if c.err != nil {
			return nil, 0, c.err
		}
		recs, end = append(recs, c.recs...), c.end
		for _, rec := range c.recs {
			size += len(rec.Value)
		}
		if len(recs) >= w.records || size >= maxBytes {
			return recs, end, nil
		}
		var open bool
		select {
		case c, open = <-order:
			if !open {
				return recs, end, nil
			}
		default:
			return recs, end, nil
		}
	}
}

// send returns when every record is acknowledged, or when it is given up.
func (w *writer) send(ctx context.Context, recs []*kgo.Record) error {
	var refused error // written by promises, which the client calls one at a time
	var left atomic.Int64
	left.Store(int64(len(recs)))
	answered := make(chan struct{})
	promise := func(rec *kgo.Record, err error) {
		if err != nil && refused == nil {
			refused = fmt.Errorf("writing to topic %s: %w", rec.Topic, err)
		}
		if left.Add(-1) == 0 {
			close(answered)
		}
	}
	// What is in flight is not cancelled with ctx but waited for, a little less long.
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.patience)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		select {
		case <-time.After(w.flush):
			cancel()
		case <-wait.Done():
		}
	})()
	for _, rec := range recs {
		w.cl.Produce(wait, rec, promise)
	}
	// An error is that of wait, which is looked at below.
	_ = w.cl.Flush(wait)
	select {
	case <-answered:
		return refused
	case <-wait.Done():
	}
	// What was not sent is failed here; for the rest there is no answer to wait for.
	w.cl.Close()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%s did not acknowledge what was sent for %s: it is away, or too slow (what was acknowledged before is safe; when it is back, replay again to go on)", w.brokers, w.patience)
}
