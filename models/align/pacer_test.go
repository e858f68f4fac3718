package align

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func pacer(t *testing.T, eta, batch int) *Pacer {
	t.Helper()
	p, err := NewPacer(eta, batch)
	require.NoError(t, err)
	return p
}

// Whenever samples begin, fail and end, and whoever restarts: none is learnt more than
// eta steps after its sampling began, none is refused while they end in order, and the
// trainer never waits for ever.
func TestNoSampleIsLearntTooLate(t *testing.T) {
	const batch = 4
	for _, inOrder := range []bool{true, false} {
		for eta := range 4 {
			r := rand.New(rand.NewPCG(1, uint64(eta)))
			p := pacer(t, eta, batch)
			var running, waiting []int64 // the versions that sampling began at
			version, oldest, refused := int64(0), int64(0), 0
			for moves := 0; version < 2000; moves++ {
				require.Less(t, moves, 200_000)
				switch r.IntN(4) {
				case 0, 1:
					if p.Begin() {
						running = append(running, version)
					}
				case 2:
					if len(running) == 0 {
						continue
					}
					i := 0
					if !inOrder {
						i = r.IntN(len(running))
					}
					accepted := r.IntN(10) > 0
					p.End(accepted)
					if accepted {
						waiting = append(waiting, running[i])
					}
					running = append(running[:i], running[i+1:]...)
				case 3:
					before := len(waiting)
					waiting = slices.DeleteFunc(waiting, func(began int64) bool { return version-began > int64(eta) })
					p.Drop(before - len(waiting))
					refused += before - len(waiting)
					if len(waiting) < batch {
						continue
					}
					for _, began := range waiting[:batch] {
						oldest = max(oldest, version-began)
					}
					waiting = waiting[batch:]
					version++
					p.Step(version)
				}
				if r.IntN(500) == 0 { // either side restarts: what was running is gone
					running = nil
					p = pacer(t, eta, batch)
					p.Rebase(version, int64(len(waiting)))
				}
			}
			require.Equal(t, int64(eta), oldest, "the bound is reached")
			if inOrder {
				require.Zero(t, refused)
			}
		}
	}
}

// With eta 0 it is the synchronous algorithm: a step's samples, then the step.
func TestWithoutStalenessSamplingAndTrainingTakeTurns(t *testing.T) {
	p := pacer(t, 0, 2)
	for version := range int64(3) {
		require.Equal(t, 2, p.Free())
		require.True(t, p.Begin())
		require.True(t, p.Begin())
		require.False(t, p.Begin())
		p.End(false) // it failed: another takes its place
		require.True(t, p.Begin())
		p.End(true)
		p.End(true)
		require.False(t, p.Begin())
		p.Step(version + 1)
	}
}

func TestVersionsThatComeLateDoNotGoBack(t *testing.T) {
	p := pacer(t, 0, 1)
	p.Step(3)
	p.Step(2)
	require.Equal(t, 4, p.Free())
	p.Rebase(2, 1)
	require.Zero(t, p.Free())
	require.PanicsWithValue(t, "BUG: a sample ends that did not begin", func() { p.End(true) })
}

func TestAPacerThatCouldNotBeginIsRefused(t *testing.T) {
	for _, c := range [][2]int{{-1, 1}, {0, 0}} {
		_, err := NewPacer(c[0], c[1])
		require.Error(t, err)
	}
}
