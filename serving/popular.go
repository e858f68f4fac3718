package serving

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"seralm/feature"
)

// Popularity tells the items with the most interactions, most first.
type Popularity interface {
	Popular(ctx context.Context, n int) ([]feature.Scored, error)
}

// popularEvery is how old the popular items of an answer may be while the views
// can be read.
const popularEvery = 2 * time.Second

// popular keeps the last known popular items in memory, so that a look-up has an
// answer when nothing else does.
type popular struct {
	views Popularity
	n     int
	log   *slog.Logger
	last  atomic.Pointer[[]feature.Scored]
}

// items returns the last known popular items, which must not be changed.
func (p *popular) items() []feature.Scored {
	if last := p.last.Load(); last != nil {
		return *last
	}
	return nil
}

// run refreshes the items until ctx ends.
func (p *popular) run(ctx context.Context) error {
	ticker := time.NewTicker(popularEvery)
	defer ticker.Stop()
	failing := false
	for {
		err := p.refresh(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failing {
			p.log.Warn("popular items cannot be read, the last known are used", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (p *popular) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, popularEvery)
	defer cancel()
	items, err := p.views.Popular(ctx, p.n)
	if err != nil {
		return err
	}
	// An empty view is one that was just wiped and is being rebuilt.
	if len(items) > 0 {
		p.last.Store(&items)
	}
	return nil
}
