//go:build weights

package encoder

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// minilm is the real model's folder; `native.py setup minilm` fetches it and
// `native.py env` exports its path.
func minilm(t testing.TB, o Options) *Encoder {
	t.Helper()
	dir := os.Getenv("SERALM_MINILM")
	require.NotEmpty(t, dir, `set SERALM_MINILM: python3 ops/setup/native.py setup minilm && eval "$(python3 ops/setup/native.py env)"`)
	return open(t, dir, o)
}

func TestMiniLMAgreesWithSentenceTransformers(t *testing.T) {
	agrees(t, minilm(t, Options{}), readReferences(t, "minilm.json"), 0.9999)
	agrees(t, minilm(t, Options{Type: "bf16"}), readReferences(t, "minilm.json"), 0.999)
}

// Texts of 64 tokens, an operation is 100 of them.
func BenchmarkMiniLM(b *testing.B) {
	for _, kind := range []string{"float32", "bf16"} {
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s, %d threads", kind, threads), func(b *testing.B) {
				e := minilm(b, Options{Type: kind, Threads: threads})
				texts := make([]string, 100)
				for i := range texts {
					for range 31 {
						texts[i] += "film noir "
					}
				}
				for b.Loop() {
					_, err := e.Encode(b.Context(), texts)
					require.NoError(b, err)
				}
				b.ReportMetric(float64(len(texts)*b.N)/b.Elapsed().Seconds(), "texts/s")
			})
		}
	}
}

// A step from 64 titles.
func BenchmarkMiniLMLearns(b *testing.B) {
	for _, train := range []string{last, full} {
		for _, kind := range []string{"float32", "bf16"} {
			b.Run(train+", "+kind, func(b *testing.B) {
				e := minilm(b, Options{Type: kind, Threads: 1, Train: train, LearningRate: 1e-5, ClipNorm: 1})
				var texts []string
				for i := range 64 {
					texts = append(texts, fmt.Sprintf("The Film Noir of Amélie, Part %d (%d)", i, 1940+i))
				}
				gradients := random(1, len(texts), e.Dim())
				for b.Loop() {
					_, err := e.Learn(b.Context(), texts, gradients)
					require.NoError(b, err)
				}
			})
		}
	}
}
