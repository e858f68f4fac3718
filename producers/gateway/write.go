package gateway

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// maxBufferedBytes bounds the events that wait for the log, beside
// gateway.max_buffered: a hundred thousand clicks are 60 MB, as many texts of items
// would be 25 GB. It is below what the client itself holds, so that producing does
// not block before we say 429.
const maxBufferedBytes = 128 << 20

// buffer counts what waits for the log.
type buffer struct {
	maxRecords, maxBytes int

	mu             sync.Mutex
	records, bytes int
}

// reserve makes room for records, all or none. One request always fits into an
// empty buffer.
func (b *buffer) reserve(records, bytes int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.records > 0 && (b.records+records > b.maxRecords || b.bytes+bytes > b.maxBytes) {
		return false
	}
	b.records += records
	b.bytes += bytes
	return true
}

func (b *buffer) release(records, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records -= records
	b.bytes -= bytes
}

func (b *buffer) held() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.records
}

// deliver writes records to the log in their order, and waits until it has all of
// them, ctx ends or the log gives up. It returns which are confirmed. ok is false
// when too many wait already; then nothing is written.
//
// Of the others nobody knows: one that was on its way when ctx ended may be written
// still, for the client may not forget it (its sequence number is used). The client
// fails all waiting records of a partition together, so that no later one overtakes;
// but records that come after that are written again, so a record may be confirmed
// although an earlier one of its key was not.
func (g *Gateway) deliver(ctx context.Context, records []*kgo.Record) (confirmed []bool, ok bool) {
	if len(records) == 0 {
		return nil, true
	}
	sizes, total := make([]int, len(records)), 0
	for i, rec := range records {
		sizes[i] = size(rec)
		total += sizes[i]
	}
	if !g.buffer.reserve(len(records), total) {
		return nil, false
	}
	var mu sync.Mutex
	written, left, done := make([]bool, len(records)), len(records), make(chan struct{})
	for i, rec := range records {
		g.kafka.Produce(ctx, rec, func(rec *kgo.Record, err error) {
			g.buffer.release(1, sizes[i])
			g.health.saw(err)
			if err == nil && rec.Topic == g.items {
				g.remember(rec)
			}
			mu.Lock()
			defer mu.Unlock()
			written[i] = err == nil
			if left--; left == 0 {
				close(done)
			}
		})
	}
	select {
	case <-done:
	case <-ctx.Done():
		g.health.saw(ctx.Err())
	}
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(written), true
}

// health logs when writing begins to fail and when it works again, not each
// event between.
type health struct {
	log  *slog.Logger
	sick atomic.Bool
}

func (h *health) saw(err error) {
	switch was := h.sick.Load(); {
	case err != nil && !was && h.sick.CompareAndSwap(false, true):
		h.log.Warn("events cannot be written to the log; clients are told to try again", "error", err)
	case err == nil && was && h.sick.CompareAndSwap(true, false):
		h.log.Info("events are written to the log again")
	}
}
