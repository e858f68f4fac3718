//go:build weights

package llm

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// smollm2 is the real model file; `native.py setup smollm2` fetches it and
// `native.py env` exports its path.
func smollm2(t testing.TB, o Options) *Model {
	t.Helper()
	path := os.Getenv("SERALM_SMOLLM2")
	require.NotEmpty(t, path, `set SERALM_SMOLLM2: python3 ops/setup/native.py setup smollm2 && eval "$(python3 ops/setup/native.py env)"`)
	return load(t, path, o)
}

// Every 64th logit, 8 greedy texts and their scores. With SERALM_LOGITS set to a
// path, all logits are written there for `testdata/make.py compare`.
func TestSmolLM2AgreesWithTransformers(t *testing.T) {
	m, cases := smollm2(t, Options{}), readReferences(t, "smollm2.json")
	agrees(t, m, cases, 64, 48)
	if path := os.Getenv("SERALM_LOGITS"); path != "" {
		var prompts []Prompt
		for _, c := range cases {
			prompts = append(prompts, c.IDs)
		}
		var raw []byte
		for _, logits := range lastLogits(t, m, prompts) {
			for _, v := range logits {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
			}
		}
		require.NoError(t, os.WriteFile(path, raw, 0o600))
	}
}

func TestSmolLM2SampledAndScoredLogProbabilitiesAreEqual(t *testing.T) {
	var prompts []Prompt
	for _, c := range readReferences(t, "smollm2.json") {
		prompts = append(prompts, c.IDs)
	}
	o := Sampling{Temperature: 0.8, MaxTokens: 32, Seed: 1}
	sampledEqualsScored(t, smollm2(t, Options{}), prompts, o, 1e-4)
	sampledEqualsScored(t, smollm2(t, Options{Type: "bf16"}), prompts, o, 0.3)
}

// adapter is one that the experiments could use: 2.4 million numbers.
func adapter() LoRA {
	return LoRA{Rank: 8, Alpha: 16, Targets: Targets(), Seed: 1, LearningRate: 1e-3, ClipNorm: 1}
}

// Texts of its own that it is told to follow become likelier, in both types, and the
// reference stays what it was.
func TestSmolLM2LearnsTexts(t *testing.T) {
	for _, kind := range []string{"float32", "bf16"} {
		m := smollm2(t, Options{Type: kind, Threads: 1})
		prompts, completions := smolTexts(t, m, 4, 24)
		before, err := m.LogProbs(t.Context(), prompts, completions, 0.8)
		require.NoError(t, err)
		p := adapt(t, m, adapter())
		var batch []Example
		for i, c := range completions {
			batch = append(batch, Example{prompts[i], c, slices.Repeat([]float32{1. / 4}, len(c))})
		}
		var objectives []float64
		for range 5 {
			u, err := p.Train(t.Context(), batch, 0.8)
			require.NoError(t, err)
			objectives = append(objectives, u.Objective)
		}
		t.Logf("%s: log pi of a text %.1f", kind, objectives)
		require.Greater(t, objectives[4], objectives[0]+5)
		policy, reference, err := p.LogProbs(t.Context(), prompts, completions, 0.8)
		require.NoError(t, err)
		require.Equal(t, before, reference)
		require.NotEqual(t, before, policy)
	}
}

// What is computed side by side, or in another batch, differs by rounding only.
func TestSmolLM2TextsOfAPromptAreScoredTogether(t *testing.T) {
	for kind, tolerance := range map[string]float64{"float32": 1e-3, "bf16": 0.3} {
		m := smollm2(t, Options{Type: kind, Threads: 1})
		prompts, completions := smolTexts(t, m, 8, 24)
		together, err := m.LogProbs(t.Context(), prompts, completions, 0.8)
		require.NoError(t, err)
		worst, square := 0.0, 0.0
		for i := range prompts {
			alone, err := m.LogProbs(t.Context(), prompts[i:i+1], completions[i:i+1], 0.8)
			require.NoError(t, err)
			for j, v := range alone[0] {
				off := math.Abs(float64(v - together[i][j]))
				worst, square = max(worst, off), square+off*off/float64(len(prompts)*len(alone[0]))
			}
		}
		t.Logf("%s: off by at most %.2g, %.2g in the root mean square", kind, worst, math.Sqrt(square))
		require.LessOrEqual(t, worst, tolerance)
	}
}

// smolTexts are n texts of so many tokens, four to each of the references' prompts.
func smolTexts(t testing.TB, m *Model, n, tokens int) (prompts []Prompt, completions [][]int32) {
	t.Helper()
	m.stop = nil
	cases := readReferences(t, "smollm2.json")
	for i := range n {
		prompts = append(prompts, cases[i/4%len(cases)].IDs)
	}
	got, err := m.Generate(t.Context(), prompts, Sampling{Temperature: 0.8, MaxTokens: tokens, Seed: 1})
	require.NoError(t, err)
	for _, c := range got {
		completions = append(completions, c.Tokens)
	}
	return prompts, completions
}

// A step on 16 texts of 96 tokens, what it takes to score them under policy and
// reference, and what the adapter adds to sampling them.
func BenchmarkSmolLM2Train(b *testing.B) {
	for _, kind := range []string{"bf16", "float32"} {
		m := smollm2(b, Options{Type: kind, Threads: 1})
		prompts, completions := smolTexts(b, m, 16, 96)
		generate := func(b *testing.B) {
			defer reportCPU(b)()
			for b.Loop() {
				_, err := m.Generate(b.Context(), prompts, Sampling{Temperature: 0.8, MaxTokens: 33})
				require.NoError(b, err)
			}
		}
		b.Run(kind+", sampling 33 tokens, no adapter", generate)
		p := adapt(b, m, adapter())
		b.Run(kind+", sampling 33 tokens", generate)
		b.Run(kind+", scoring", func(b *testing.B) {
			defer reportCPU(b)()
			for b.Loop() {
				_, _, err := p.LogProbs(b.Context(), prompts, completions, 0.8)
				require.NoError(b, err)
			}
		})
		var batch []Example
		tokens := 0
		for i, c := range completions {
			tokens += len(prompts[i]) + len(c)
			batch = append(batch, Example{prompts[i], c, slices.Repeat([]float32{1. / 16}, len(c))})
		}
		b.Run(fmt.Sprintf("%s, step of %d tokens with prompts", kind, tokens), func(b *testing.B) {
			defer reportCPU(b)()
			for b.Loop() {
				_, err := p.Train(b.Context(), batch, 0.8)
				require.NoError(b, err)
			}
		})
	}
}

// reportCPU says what the benchmark takes of a processor until it is called back, which
// a busy machine does not change, and the most memory that the process has had.
func reportCPU(b *testing.B) (end func()) {
	usage := func() (u syscall.Rusage) {
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return u
	}
	before := usage().Utime
	return func() {
		after := usage()
		b.ReportMetric(float64(after.Utime.Nano()-before.Nano())/1e9/float64(b.N), "cpu-s/op")
		b.ReportMetric(float64(after.Maxrss)/1024, "MiB-peak")
	}
}

// 16 texts: what the prompts cost (one token each), and with 33 tokens each what the
// 32 others add.
func BenchmarkSmolLM2Generate(b *testing.B) {
	var prompts []Prompt
	for i, c := range slices.Repeat(readReferences(b, "smollm2.json"), 2) {
		prompts = append(prompts, append(slices.Clone(c.IDs), int32(100+i))) // distinct
	}
	for _, kind := range []string{"float32", "bf16"} {
		for _, threads := range []int{1, 2} {
			for _, tokens := range []int{1, 33} {
				b.Run(fmt.Sprintf("%s, %d threads, %d tokens", kind, threads, tokens), func(b *testing.B) {
					m := smollm2(b, Options{Type: kind, Threads: threads})
					m.stop = nil
					for b.Loop() {
						_, err := m.Generate(b.Context(), prompts, Sampling{Temperature: 0.8, MaxTokens: tokens})
						require.NoError(b, err)
					}
				})
			}
		}
	}
}
