package online

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/models/seqrec"
)

// processor is the time that this process has computed for: what a step costs, also on a
// machine that does other things.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The step of a default recommender with knowledge on a catalogue of 10,000 items, 256
// events a step, without samples and with them.
func BenchmarkStep(b *testing.B) {
	const items, dim, users = 10_000, 384, 500
	for _, n := range []int{0, 4, 256} {
		b.Run(fmt.Sprintf("samples=%d", n), func(b *testing.B) {
			m, err := seqrec.New(seqrec.Hyper{Name: "sasrec", Dim: 64, Layers: 2, Heads: 2, Inner: 256, MaxLen: 50}, 2,
				seqrec.Options{Seed: 1, LearningRate: 1e-3, Dropout: 0.2, ClipNorm: 5, Threads: 1, Knowledge: dim, IDDropout: 0.3})
			require.NoError(b, err)
			defer m.Close()
			l := NewLearner(NewSequencer(SequencerOptions{MaxLen: 50, MaxUsers: users, DedupWindow: 1000, AdmitAfter: 1, Replay: 4, Seed: 1}), m)
			r := rand.New(rand.NewPCG(1, 1))
			vector := func() []float32 {
				v := make([]float32, dim)
				for i := range v {
					v[i] = float32(r.NormFloat64())
				}
				return v
			}
			item := func() string { return fmt.Sprint("i", r.IntN(items)) }
			var known []Known
			for i := range items {
				l.vocab.Observe(fmt.Sprint("i", i))
				known = append(known, Known{fmt.Sprint("i", i), vector()})
			}
			require.NoError(b, m.Resize(l.vocab.Rows()))
			require.NoError(b, l.tell(known))
			key := uint64(0)
			step := func() {
				var events []Event
				for range 256 {
					key++
					events = append(events, Event{Key: key, User: fmt.Sprint("u", r.IntN(users)), Item: item()})
				}
				var samples []Sample
				for range n {
					key++
					a := Sample{Key: key, Y: item(), Texts: [][]float32{vector(), vector(), vector(), vector()}}
					for range 50 {
						a.X = append(a.X, item())
					}
					a.Item = a.Y
					samples = append(samples, a)
				}
				batch := l.Next(events, l.StepNumber()+1)
				batch.Sampled = l.Sample(samples, l.StepNumber()+1)
				_, err := l.Learn(b.Context(), batch, events, nil)
				require.NoError(b, err)
			}
			for range 20 { // until there are histories to replay
				step()
			}
			began := processor(b)
			for b.Loop() {
				step()
			}
			b.ReportMetric(float64((processor(b)-began).Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

// resident is the memory of this process.
func resident(b *testing.B) int {
	debug.FreeOSMemory()
	raw, err := os.ReadFile("/proc/self/statm")
	require.NoError(b, err)
	var size, pages int
	_, err = fmt.Sscan(string(raw), &size, &pages)
	require.NoError(b, err)
	return pages * os.Getpagesize()
}

// What an item of a default recommender costs the trainer, once a step has made the
// gradients: 100,000 of them, with ids of 12 bytes, without knowledge and with vectors
// of 384 numbers.
func BenchmarkMemoryOfAnItem(b *testing.B) {
	const items = 100_000
	for _, dim := range []int{0, 384} {
		b.Run(fmt.Sprintf("knowledge=%d", dim), func(b *testing.B) {
			for b.Loop() {
				m, err := seqrec.New(seqrec.Hyper{Name: "sasrec", Dim: 64, Layers: 2, Heads: 2, Inner: 256, MaxLen: 50}, 2,
					seqrec.Options{Seed: 1, LearningRate: 1e-3, Threads: 1, Knowledge: dim})
				require.NoError(b, err)
				before := resident(b)
				l := NewLearner(NewSequencer(SequencerOptions{MaxLen: 50, MaxUsers: 10, DedupWindow: 10, AdmitAfter: 1, MaxItems: items, Seed: 1}), m)
				var known []Known
				for i := range items {
					id := fmt.Sprintf("item-%07d", i)
					l.vocab.Observe(id)
					if dim > 0 {
						known = append(known, Known{id, make([]float32, dim)})
					}
				}
				require.NoError(b, m.Resize(l.vocab.Rows()))
				require.NoError(b, l.tell(known))
				known = nil
				_, err = l.Step(b.Context(), []Event{{Key: 1, User: "u", Item: "item-0000001"}, {Key: 2, User: "u", Item: "item-0000002"}}, nil)
				require.NoError(b, err)
				b.ReportMetric(float64(resident(b)-before)/items, "B/item")
				m.Close()
			}
		})
	}
}
