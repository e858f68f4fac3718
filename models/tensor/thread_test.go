package tensor

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOptionsThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Device: "gpu"}, `no such device "gpu": it is cpu or cuda:N`},
		{Options{Device: "cuda:"}, `no such device "cuda:"`},
		{Options{Device: "cuda:-1"}, `no such device "cuda:-1"`},
		{Options{Device: "cuda:99999"}, `no such device "cuda:99999"`},
		{Options{Threads: -1}, "-1 threads"},
	} {
		_, err := Start(c.o)
		require.ErrorContains(t, err, c.want)
	}
}

func TestManyGoroutinesTakeTurns(t *testing.T) {
	thread := start(t)
	inside := 0 // the thread is the lock
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 50 {
				var got float64
				err := thread.Do(func(s *Scope) {
					inside++
					// Gradients on, then an answer: another job's must not turn them off.
					x := s.Leaf(s.F32([]float32{float32(g), float32(i)}, 2))
					s.Grad(func() { s.Backward(s.Sum(s.Square(x))) })
					got = s.Value(s.Sum(s.Gradient(x)))
					require.Equal(t, 1, inside)
					inside--
				})
				require.NoError(t, err)
				require.Equal(t, float64(2*g+2*i), got)
			}
		})
	}
	wg.Wait()
}

func TestEachThreadHasItsOwnNumberOfThreads(t *testing.T) {
	one := start(t)
	three, err := Start(Options{Threads: 3})
	require.NoError(t, err)
	defer three.Close()
	for range 3 {
		require.NoError(t, one.Do(func(*Scope) { require.Equal(t, 1, threads()) }))
		require.NoError(t, three.Do(func(*Scope) { require.Equal(t, 3, threads()) }))
	}
}

func TestCloseWaitsForTheWorkUnderWay(t *testing.T) {
	thread, err := Start(Options{Threads: 1})
	require.NoError(t, err)
	begun, goOn, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var got float64
	var wg sync.WaitGroup
	wg.Go(func() {
		require.NoError(t, thread.Do(func(s *Scope) {
			close(begun)
			<-goOn
			got = s.Value(s.Full(3, Float32))
		}))
	})
	<-begun
	for range 4 { // those who wait for their turn: it does not come
		wg.Go(func() {
			if err := thread.Do(func(*Scope) {}); err != nil {
				require.ErrorIs(t, err, ErrClosed)
			}
		})
	}
	go func() { thread.Close(); close(closed) }()
	<-thread.quit
	select {
	case <-closed:
		require.Fail(t, "closed while a function ran")
	default:
	}
	close(goOn)
	<-closed
	wg.Wait()
	require.Equal(t, 3.0, got)
	require.ErrorIs(t, thread.Do(func(*Scope) {}), ErrClosed)
	thread.Close() // twice is once
	require.Zero(t, thread.Live())
}

// A step over numbers that are nearly 0 would cost several times as much.
func TestNumbersThatAreNearlyZeroAreZero(t *testing.T) {
	thread, err := Start(Options{Threads: 1})
	require.NoError(t, err)
	defer thread.Close()
	require.NoError(t, thread.Do(func(s *Scope) {
		tiny := s.F32([]float32{1e-30}, 1)
		require.NotZero(t, s.Value(tiny))
		require.Zero(t, s.Value(s.MulScalar(tiny, 1e-10)))
	}))
}
