package tensor

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	lib "github.com/sugarme/gotch/libtch"
)

// Options of a Thread.
type Options struct {
	Threads int    // libtorch's intra-op threads; 0 leaves its default. Process-wide in libtorch.
	Device  string // "cpu" or "cuda:N"; "" is cpu
}

// Thread owns the OS thread that a job's tensors live on.
type Thread struct {
	work   chan func()
	done   chan struct{}
	once   sync.Once
	device int32 // libtorch's index: -1 is the CPU
	live   atomic.Int64
}

// ErrClosed says that the Thread was closed.
var ErrClosed = errors.New("tensor thread is closed")

// Start begins a thread.
func Start(o Options) (*Thread, error) {
	device, err := parseDevice(o.Device)
	if err != nil {
		return nil, err
	}
	t := &Thread{work: make(chan func()), done: make(chan struct{}), device: device}
	ready := make(chan error, 1)
	go func() {
		// Never unlocked: the OS thread, with whatever libtorch keeps in it, ends
		// with the goroutine.
		runtime.LockOSThread()
		defer close(t.done)
		if o.Threads > 0 {
			setThreads(o.Threads)
		}
		if device >= 0 {
			if err := openCUDA(); err != nil {
				ready <- err
				return
			}
		}
		ready <- nil
		for f := range t.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		<-t.done
		return nil, err
	}
	return t, nil
}

func parseDevice(s string) (int32, error) {
	if s == "" || s == "cpu" {
		return -1, nil
	}
	if n, ok := strings.CutPrefix(s, "cuda:"); ok {
		if i, err := strconv.ParseInt(n, 10, 16); err == nil && i >= 0 {
			return int32(i), nil
		}
	}
	return 0, fmt.Errorf("no such device %q: it is cpu or cuda:N", s)
}

// Do runs f on the thread with a scope of its own and waits for it. Gradients are
// off unless f asks for them with Scope.Grad.
func (t *Thread) Do(f func(s *Scope)) error {
	var err error
	finished := make(chan struct{})
	job := func() {
		defer close(finished)
		lib.AtGradSetEnabled(0)
		s := &Scope{thread: t}
		defer s.free()
		defer func() {
			switch p := recover().(type) {
			case nil:
			case *OpError:
				err = p
			default:
				panic(p)
			}
		}()
		f(s)
	}
	defer func() {
		if r := recover(); r != nil { // a send on the closed channel
			err = ErrClosed
		}
	}()
	t.work <- job
	<-finished
	return err
}

// Close ends the thread after the work that is under way.
func (t *Thread) Close() {
	t.once.Do(func() { close(t.work) })
	<-t.done
}

// Live is the number of tensors that exist: those of open scopes and parameters.
func (t *Thread) Live() int64 { return t.live.Load() }

// OpError is a failed operation.
type OpError struct {
	Op       string
	Operands []string // shapes
	Message  string
}

func (e *OpError) Error() string {
	msg, _, _ := strings.Cut(e.Message, "\nException raised")
	return fmt.Sprintf("%s(%s): %s", e.Op, strings.Join(e.Operands, ", "), strings.TrimSpace(msg))
}
