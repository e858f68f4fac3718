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
	Threads int    // libtorch's intra-op threads for this Thread; 0 = all cores
	Device  string // "cpu" or "cuda:N"; "" is cpu
}

// Thread owns the OS thread that a job's tensors live on.
type Thread struct {
	work    chan func()
	quit    chan struct{} // closed by Close
	done    chan struct{} // closed when the OS thread has ended
	once    sync.Once
	device  int32 // libtorch's index: -1 is the CPU
	live    atomic.Int64
	scratch []float32 // of Dropout; used on the OS thread only
}

// ErrClosed says that the Thread was closed.
var ErrClosed = errors.New("tensor thread is closed")

// Start begins a thread.
func Start(o Options) (*Thread, error) {
	device, err := parseDevice(o.Device)
	if err != nil {
		return nil, err
	}
	if o.Threads < 0 {
		return nil, fmt.Errorf("%d threads: it is a positive number, or 0 for all cores", o.Threads)
	}
	if o.Threads == 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	keepMemory()
	t := &Thread{work: make(chan func()), quit: make(chan struct{}), done: make(chan struct{}), device: device}
	ready := make(chan error, 1)
	go func() {
		// Never unlocked: the OS thread, with whatever libtorch keeps in it, ends
		// with the goroutine.
		runtime.LockOSThread()
		defer close(t.done)
		flushDenormals()
		setThreads(o.Threads)
		if device >= 0 {
			if err := openCUDA(device); err != nil {
				ready <- err
				return
			}
		}
		ready <- nil
		for {
			select {
			case f := <-t.work:
				f()
			case <-t.quit:
				return
			}
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
		if i, err := strconv.ParseUint(n, 10, 15); err == nil {
			return int32(i), nil
		}
	}
	return 0, fmt.Errorf("no such device %q: it is cpu or cuda:N", s)
}

// Do runs f on the thread with a scope of its own and waits for it; calls from
// several goroutines take turns. An operation that fails ends f and is returned
// as an *OpError. Gradients are off unless f asks for them with Scope.Grad.
//
// f must not call Do of the same thread, which would wait for itself.
func (t *Thread) Do(f func(s *Scope)) error {
	var err error
	finished := make(chan struct{})
	job := func() {
		defer close(finished)
		lib.AtGradSetEnabled(0)
		s := &Scope{thread: t, random: &random{}}
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
	select {
	case t.work <- job:
		<-finished
		return err
	case <-t.quit:
		return ErrClosed
	case <-t.done:
		return ErrClosed
	}
}

// Close ends the thread after the work that is under way. Tensors that were kept
// should be freed before.
func (t *Thread) Close() {
	t.once.Do(func() { close(t.quit) })
	<-t.done
}

// Live is the number of tensors that exist: those of open scopes, and those kept.
func (t *Thread) Live() int64 { return t.live.Load() }

// OpError is a failed operation.
type OpError struct {
	Op       string
	Operands []string // kinds and shapes
	Message  string
}

func (e *OpError) Error() string {
	msg, _, _ := strings.Cut(e.Message, "\nException raised")
	return fmt.Sprintf("%s(%s): %s", e.Op, strings.Join(e.Operands, ", "), strings.TrimSpace(msg))
}
