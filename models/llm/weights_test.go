//go:build weights

package llm

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
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
