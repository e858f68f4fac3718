package tensor

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start begins a thread that must be without tensors again when the test ends.
func start(t *testing.T) *Thread {
	t.Helper()
	thread, err := Start(Options{Threads: 1})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.Zero(t, thread.Live(), "tensors were left")
		thread.Close()
	})
	return thread
}

// do runs f on a thread of its own.
func do(t *testing.T, f func(s *Scope)) {
	t.Helper()
	require.NoError(t, start(t).Do(f))
}

// normal draws n values, the same for the same seed.
func normal(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, seed))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64())
	}
	return out
}
