package loadtest

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// waiter waits for planned times. It is an interface for tests, which run on a
// fake clock that no kernel timer follows.
type waiter interface {
	until(ctx context.Context, t time.Time) error
	close()
}

// pacer is the waiter of real runs, a timerfd. The runtime's own timers wake an idle
// process through epoll_wait, whose timeout is in whole milliseconds: time.Sleep
// overshoots by half a millisecond at the median and by three at p99, more than
// the latencies to be measured. A timerfd is a file that becomes readable at the
// nanosecond asked for and wakes the same epoll_wait.
//
// Waking an idle core still takes 20-60 us, much the same each time. The pacer
// learns that lateness, asks to be woken so much earlier, and spends what is left of
// an early wake-up (one in ten is early, by a few microseconds) in a loop.
type pacer struct {
	timer    *os.File
	fd       int           // os.File.Fd could switch the file to blocking mode
	lateness time.Duration // tenth percentile of how late the timer wakes us
}

// Bounds and step of pacer.lateness, which moves by a stochastic approximation:
// up by a tenth of the step when we woke later than it says, else down by the rest.
const (
	mostLateness = 200 * time.Microsecond
	latenessStep = time.Microsecond
)

func newPacer() (*pacer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating the timer that paces requests: %w", err)
	}
	return &pacer{timer: os.NewFile(uintptr(fd), "timerfd"), fd: fd}, nil
}

// longestWait bounds one wait, so that a cancelled run is noticed.
const longestWait = 100 * time.Millisecond

func (p *pacer) until(ctx context.Context, t time.Time) error {
	for {
		left := time.Until(t) - p.lateness
		if left <= 0 || ctx.Err() != nil {
			break
		}
		wait := min(left, longestWait)
		alarm := time.Now().Add(wait)
		spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(wait))}
		if err := unix.TimerfdSettime(p.fd, 0, &spec, nil); err != nil {
			return fmt.Errorf("setting the timer that paces requests: %w", err)
		}
		var expirations [8]byte
		if _, err := p.timer.Read(expirations[:]); err != nil {
			return fmt.Errorf("waiting for the timer that paces requests: %w", err)
		}
		if time.Since(alarm) > p.lateness {
			p.lateness += latenessStep / 10
		} else {
			p.lateness -= latenessStep - latenessStep/10
		}
		p.lateness = min(max(p.lateness, 0), mostLateness)
	}
	for ctx.Err() == nil && time.Now().Before(t) { // at most lateness long
	}
	return ctx.Err()
}

func (p *pacer) close() { _ = p.timer.Close() } // closing a timer loses nothing

// cpuTime is what this process has used so far, user and system.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
