package stream

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func judged(change ...func(*Sample)) Sample {
	s := Sample{
		User: "u", X: []string{"Thief", "Ronin"}, Y: "Heat", Item: "Heat", Instance: Place{2, 71}, Base: 0.01,
		Prompt: SamplePrompt{System: "Be brief.", User: "What is Heat like?"}, PromptHash: "85a14d3e",
		Versions: SampleVersions{
			Policy: ModelVersion{Name: "smollm2+r8", Step: 50}, Recommender: SnapshotVersion{Name: "recommender", Epoch: 2, Step: 900},
			Encoder: "minilm", Knowledge: "movies/1",
		},
		Reward: RewardCatalogue, View: ViewCold, Temperature: 0.7, Time: noon,
		Candidates: []SampleCandidate{
			{Text: "A crime epic.", Tokens: []int32{5, 6, 2}, Behaviour: Vector{-1, -0.5, 0}, Reference: Vector{-1.25, -0.5, 1e-6}, Vector: Vector{1, 0}, PY: 0.02, Reward: -3.5},
			{Text: "Two men.", Tokens: []int32{7}, Behaviour: Vector{-2}, Reference: Vector{-2}, PY: 0.015, Reward: 1.25},
		},
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

func TestASampleRoundTrips(t *testing.T) {
	rec, err := NewRecord("samples", "Heat", "id-1", "test/source", noon.Add(456*time.Microsecond), judged())
	require.NoError(t, err)
	require.Equal(t, TypeSample, string(rec.Headers[1].Value))
	rec.Partition, rec.Offset = 3, 99
	got, err := DecodeSample(rec)
	require.NoError(t, err)
	require.Equal(t, Event[Sample]{ID: "id-1", Source: "test/source", Time: noon, Body: judged(), Partition: 3, Offset: 99}, got)
}

// What the topic holds is read by others, too: it must not change under them.
func TestASampleAsOthersReadIt(t *testing.T) {
	rec, err := NewRecord("samples", "Heat", "id", "source", noon, judged(func(s *Sample) { s.Candidates = s.Candidates[1:] }))
	require.NoError(t, err)
	require.JSONEq(t, `{"user":"u","x":["Thief","Ronin"],"y":"Heat","item":"Heat","instance":{"partition":2,"offset":71},"p_base":0.01,
		"prompt":{"system":"Be brief.","user":"What is Heat like?"},"prompt_hash":"85a14d3e",
		"versions":{"policy":{"name":"smollm2+r8","step":50},"recommender":{"name":"recommender","epoch":2,"step":900},"encoder":"minilm","knowledge":"movies/1"},
		"reward":"catalogue","view":"cold","temperature":0.7,
		"candidates":[{"text":"Two men.","tokens":[7],"logp_behaviour":"AAAAwA==","logp_ref":"AAAAwA==","p_y":0.015,"reward":1.25}],
		"time":"2026-11-23T12:00:00.123Z"}`, string(rec.Value))
}

func TestASampleThatCannotBeLearntFromIsRefusedByName(t *testing.T) {
	nan := float32(math.NaN())
	first := func(f func(*SampleCandidate)) func(*Sample) { return func(s *Sample) { f(&s.Candidates[0]) } }
	for name, tc := range map[string]struct {
		change func(*Sample)
		field  string
	}{
		"no history":                {func(s *Sample) { s.X = nil }, "x"},
		"a long history":            {func(s *Sample) { s.X = make([]string, MaxSampleHistory+1) }, "x"},
		"a history of nothing":      {func(s *Sample) { s.X[0] = "" }, "x"},
		"no next item":              {func(s *Sample) { s.Y = "" }, "y"},
		"an item of somewhere else": {func(s *Sample) { s.Item = "Alien" }, "item"},
		"an offset below 0":         {func(s *Sample) { s.Instance.Offset = -1 }, "instance"},
		"p(y|x) above 1":            {func(s *Sample) { s.Base = 1.5 }, "p_base"},
		"p(y|x) not a number":       {func(s *Sample) { s.Base = math.NaN() }, "p_base"},
		"no prompt":                 {func(s *Sample) { s.Prompt.User = "" }, "prompt.user"},
		"a long prompt":             {func(s *Sample) { s.Prompt.System = strings.Repeat("x", MaxSamplePrompt+1) }, "prompt.system"},
		"no prompt hash":            {func(s *Sample) { s.PromptHash = "" }, "prompt_hash"},
		"no policy":                 {func(s *Sample) { s.Versions.Policy.Name = "" }, "versions.policy"},
		"a policy before its start": {func(s *Sample) { s.Versions.Policy.Step = -1 }, "versions.policy"},
		"no recommender":            {func(s *Sample) { s.Versions.Recommender.Name = "" }, "versions.recommender"},
		"a negative epoch":          {func(s *Sample) { s.Versions.Recommender.Epoch = -1 }, "versions.recommender"},
		"no encoder":                {func(s *Sample) { s.Versions.Encoder = "" }, "versions.encoder"},
		"no template":               {func(s *Sample) { s.Versions.Knowledge = "" }, "versions.knowledge"},
		"an unknown reward":         {func(s *Sample) { s.Reward = "praise" }, "reward"},
		"an unknown view":           {func(s *Sample) { s.View = "tepid" }, "view"},
		"temperature 0":             {func(s *Sample) { s.Temperature = 0 }, "temperature"},
		"temperature not a number":  {func(s *Sample) { s.Temperature = math.NaN() }, "temperature"},
		"no candidate":              {func(s *Sample) { s.Candidates = nil }, "candidates"},
		"many candidates":           {func(s *Sample) { s.Candidates = make([]SampleCandidate, MaxSampleCandidates+1) }, "candidates"},
		"an empty text":             {first(func(c *SampleCandidate) { c.Text = "" }), "candidates.text"},
		"a blank text":              {first(func(c *SampleCandidate) { c.Text = " \n" }), "candidates.text"},
		"a text of 10 kB":           {first(func(c *SampleCandidate) { c.Text = strings.Repeat("x", 10<<10) }), "candidates.text"},
		"broken UTF-8":              {first(func(c *SampleCandidate) { c.Text = "\xff" }), "candidates.text"},
		"no token":                  {first(func(c *SampleCandidate) { c.Tokens = nil }), "candidates.tokens"},
		"many tokens":               {first(func(c *SampleCandidate) { c.Tokens = make([]int32, MaxSampleTokens+1) }), "candidates.tokens"},
		"a negative token":          {first(func(c *SampleCandidate) { c.Tokens[0] = -1 }), "candidates.tokens"},
		"a token without log p":     {first(func(c *SampleCandidate) { c.Behaviour = c.Behaviour[1:] }), "candidates.logp_behaviour"},
		"log p not a number":        {first(func(c *SampleCandidate) { c.Behaviour[0] = nan }), "candidates.logp_behaviour"},
		"log p above 0":             {first(func(c *SampleCandidate) { c.Behaviour[0] = 0.5 }), "candidates.logp_behaviour"},
		"log of 0":                  {first(func(c *SampleCandidate) { c.Reference[2] = float32(math.Inf(-1)) }), "candidates.logp_ref"},
		"one log p too many":        {first(func(c *SampleCandidate) { c.Reference = append(c.Reference, 0) }), "candidates.logp_ref"},
		"an empty vector":           {first(func(c *SampleCandidate) { c.Vector = Vector{} }), "candidates.vector"},
		"a vector not of numbers":   {first(func(c *SampleCandidate) { c.Vector[0] = nan }), "candidates.vector"},
		"p(y|x,s) of 0":             {first(func(c *SampleCandidate) { c.PY = 0 }), "candidates.p_y"},
		"p(y|x,s) not a number":     {first(func(c *SampleCandidate) { c.PY = math.NaN() }), "candidates.p_y"},
		"a reward not a number":     {first(func(c *SampleCandidate) { c.Reward = math.NaN() }), "candidates.reward"},
		"an infinite reward":        {first(func(c *SampleCandidate) { c.Reward = math.Inf(1) }), "candidates.reward"},
		"two rewards of one text":   {func(s *Sample) { s.Reward = RewardInstance }, "candidates.reward"},
		"another item's key":        {func(s *Sample) { s.Item = "Thief" }, "key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewRecord("samples", "Heat", "id", "source", noon, judged(tc.change))
			var invalid *InvalidError
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, tc.field, invalid.Field, invalid.Reason)
		})
	}
}

func TestASampleThatFitsIntoNoRecordIsRefused(t *testing.T) {
	_, err := NewRecord("samples", "Heat", "id", "source", noon, judged(func(s *Sample) {
		c := s.Candidates[0]
		c.Text = strings.Repeat("\x00", MaxSampleText) // "\u0000" each
		s.Candidates = nil
		for range MaxSampleCandidates {
			s.Candidates = append(s.Candidates, c)
		}
	}))
	require.ErrorContains(t, err, "invalid value: it has ")
	require.True(t, IsInvalid(err))
}

func TestASampleOfAVersionToComeIsInvalid(t *testing.T) {
	rec, err := NewRecord("samples", "Heat", "id", "source", noon, judged())
	require.NoError(t, err)
	rec.Headers = interactionHeaders(HeaderType, "seralm.sample.v2")
	_, err = DecodeSample(rec)
	require.ErrorContains(t, err, `invalid ce_type: "seralm.sample.v2" is not seralm.sample.v1`)
	require.True(t, IsInvalid(err))
}

// FuzzDecodeSample: whatever is in the log, decoding ends in a sample that could be
// written again and is then read as the same, or in an *InvalidError.
func FuzzDecodeSample(f *testing.F) {
	for _, s := range []Sample{judged(), judged(func(s *Sample) { s.Base, s.User = 0, "" })} {
		rec, err := NewRecord("samples", "Heat", "id", "source", noon, s)
		require.NoError(f, err)
		f.Add("id", rec.Key, rec.Value)
	}
	f.Add("", []byte("i"), []byte(nil))
	f.Add("id", []byte("i"), []byte(`{"x":["i"],"y":"i","item":"i","prompt":{"user":"p"},"candidates":[{"text":"t","tokens":[1],"logp_behaviour":"AADAfw=="}]}`))
	f.Fuzz(func(t *testing.T, id string, key, value []byte) {
		rec := &kgo.Record{Key: key, Value: value, Timestamp: noon, Headers: interactionHeaders(HeaderType, TypeSample, HeaderID, id)}
		ev, err := DecodeSample(rec)
		var invalid *InvalidError
		switch {
		case err != nil && !errors.As(err, &invalid):
			t.Fatalf("neither a sample nor invalid: %v", err)
		case err != nil:
			return
		}
		again, err := NewRecord("samples", string(key), ev.ID, ev.Source, ev.Time, ev.Body)
		if err != nil {
			t.Fatalf("read but not to be written: %v", err)
		}
		same, err := DecodeSample(again)
		require.NoError(t, err)
		ev.Time = ev.Time.Truncate(time.Millisecond)
		ev.Body.Time = ev.Time
		require.Equal(t, ev, same)
	})
}
