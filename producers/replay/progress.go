package replay

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

const (
	barEach  = 200 * time.Millisecond
	lineEach = 5 * time.Second
)

// showProgress shows how far at gets on its way to total, until the function it
// returns is called.
func showProgress(w io.Writer, total int, at *atomic.Int64) (stop func()) {
	if w == nil {
		return func() {}
	}
	each, show, finish := lineEach, plainLine(w, total, at), func() {}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		each = barEach
		show, finish = bar(w, total, at)
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(each)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				show()
			}
		}
	})
	return func() {
		close(quit)
		wg.Wait()
		finish()
	}
}

// bar shows what is left to write, so that rate and remaining time are those of this
// run.
func bar(w io.Writer, total int, at *atomic.Int64) (show, finish func()) {
	first := at.Load()
	b := progressbar.NewOptions64(int64(total)-first,
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription("replaying"), progressbar.OptionSetWidth(24),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("events"),
		progressbar.OptionSetPredictTime(true))
	show = func() { _ = b.Set64(at.Load() - first) } // a bar that cannot be drawn is no reason to stop
	return show, func() {
		show()
		fmt.Fprintln(w)
	}
}

func plainLine(w io.Writer, total int, at *atomic.Int64) func() {
	began, first := time.Now(), at.Load()
	return func() {
		n := at.Load()
		rate := float64(n-first) / time.Since(began).Seconds()
		left := "?"
		if rate > 0 {
			left = time.Duration(float64(int64(total)-n) / rate * float64(time.Second)).Round(time.Second).String()
		}
		fmt.Fprintf(w, "replaying: %s of %s interactions (%d%%), %s a second, %s left\n",
			thousands(int(n)), thousands(total), 100*n/int64(total), thousands(int(rate)), left)
	}
}
