package feature

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/config"
)

// record is the knowledge of an item at an offset; its text and time tell the offset.
func record(offset int64, item string) KnowledgeRecord {
	return KnowledgeRecord{Offset: offset, Knowledge: Knowledge{
		Item: item, Text: fmt.Sprintf("%s at %d", item, offset), Vector: []float32{float32(offset), -0.5},
		PromptHash: "85a14d3e", Policy: "smollm2", PolicyStep: offset, Encoder: "minilm", Origin: "llm",
		Time: epoch.Add(time.Duration(offset) * time.Second),
	}}
}

func removal(offset int64, item string) KnowledgeRecord {
	r := record(offset, item)
	return KnowledgeRecord{Offset: offset, Removed: true, Knowledge: Knowledge{Item: item, Time: r.Time}}
}

func knowledgeRun(partition int32, records ...KnowledgeRecord) KnowledgeRun {
	return KnowledgeRun{Partition: partition, From: records[0].Offset, To: records[len(records)-1].Offset + 1, Records: records}
}

func beginKnowledge(t testing.TB, s *Store, partitions ...int32) {
	t.Helper()
	start := map[int32]int64{}
	for _, p := range partitions {
		start[p] = 0
	}
	_, err := s.StartKnowledge(t.Context(), "topic-1", start)
	require.NoError(t, err)
}

func put(t testing.TB, s *Store, runs ...KnowledgeRun) string {
	t.Helper()
	var verdicts strings.Builder
	for _, out := range s.PutKnowledge(t.Context(), runs...) {
		require.NoError(t, out.Err)
		for _, v := range out.Verdicts {
			verdicts.WriteByte(byte(v))
		}
	}
	return verdicts.String()
}

// known is the text of each item of which something is known.
func known(t testing.TB, s *Store, items ...string) map[string]string {
	t.Helper()
	all, err := s.Knowledge(t.Context(), items)
	require.NoError(t, err)
	texts := map[string]string{}
	for item, k := range all {
		require.Equal(t, item, k.Item)
		texts[item] = k.Text
	}
	return texts
}

func knowledgeOffsets(t testing.TB, s *Store) map[int32]int64 {
	t.Helper()
	next, err := s.KnowledgeOffsets(t.Context())
	require.NoError(t, err)
	return next
}

func TestKnowledgeIsReadAsItWasPut(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		beginKnowledge(t, s, 0)
		whole := record(0, "whole")
		whole.Text = "two\nlines\x00 of ünïcode 千"
		whole.Vector = []float32{0, float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32, -math.MaxFloat32, 0.1, math.Float32frombits(0x0a0d0a00)}
		imported := KnowledgeRecord{Offset: 1, Knowledge: Knowledge{Item: "imported", Vector: []float32{1}, Encoder: "e", Origin: "import", Time: epoch}}
		largest := record(2, "largest")
		largest.Text, largest.Vector = strings.Repeat("x", maxKnowledgeText), make([]float32, maxKnowledgeVector)
		require.Equal(t, "aaa", put(t, s, knowledgeRun(0, whole, imported, largest)))

		got, err := s.Knowledge(t.Context(), []string{"largest", "nobody", "whole", "imported", "whole"})
		require.NoError(t, err)
		require.Equal(t, map[string]Knowledge{"whole": whole.Knowledge, "imported": imported.Knowledge, "largest": largest.Knowledge}, got)
		require.True(t, math.Signbit(float64(got["whole"].Vector[1])), "bit for bit")

		got, err = s.Knowledge(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, got)
	})
}

func TestALaterRecordReplacesAndARemovalRemoves(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		beginKnowledge(t, s, 0)
		require.Equal(t, "aaaa", put(t, s, knowledgeRun(0, record(0, "a"), record(1, "b"), record(2, "a"), removal(3, "b"))))
		require.Equal(t, map[string]string{"a": "a at 2"}, known(t, s, "a", "b"))
		require.Equal(t, "aa", put(t, s, knowledgeRun(0, record(4, "b"), removal(5, "nobody"))))
		require.Equal(t, map[string]string{"a": "a at 2", "b": "b at 4"}, known(t, s, "a", "b", "nobody"))
	})
}

// A crash came between the view and the reader's own offset, or a member that was
// thrown out of the group writes beside the one that took over.
func TestOlderKnowledgeIsRefused(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		beginKnowledge(t, s, 0)
		first := knowledgeRun(0, record(0, "a"), record(1, "b"))
		put(t, s, first)
		put(t, s, knowledgeRun(0, record(2, "a"), removal(3, "b")))
		require.Equal(t, "oo", put(t, s, first), "what was replaced and what was removed does not come back")
		require.Equal(t, map[string]string{"a": "a at 2"}, known(t, s, "a", "b"))
		require.Equal(t, "ooa", put(t, s, knowledgeRun(0, record(2, "a"), removal(3, "b"), record(4, "c"))), "runs may overlap")
		require.Equal(t, map[int32]int64{0: 5}, knowledgeOffsets(t, s))
	})
}

// A model was rolled back, or the clock of a generator is late: the log has spoken.
func TestWhatIsOlderIsDecidedByTheLogAndNotByClocksOrSteps(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		beginKnowledge(t, s, 0)
		rolledBack := record(1, "a")
		rolledBack.PolicyStep, rolledBack.Time = -1, epoch.Add(-time.Hour)
		require.Equal(t, "aa", put(t, s, knowledgeRun(0, record(0, "a"), rolledBack)))
		got, err := s.Knowledge(t.Context(), []string{"a"})
		require.NoError(t, err)
		require.Equal(t, rolledBack.Knowledge, got["a"])
	})
}

// The topic was given a partition, and an item's new records go there, while its
// last old one stays where it was. A rebuild may read either first.
func TestOfAnItemInTwoPartitionsTheLaterTimeStays(t *testing.T) {
	at := func(r KnowledgeRecord, after time.Duration) KnowledgeRecord { r.Time = epoch.Add(after); return r }
	for name, c := range map[string]struct {
		one, two KnowledgeRecord // in partitions 1 and 2
		want     map[string]string
	}{
		"the later":               {at(record(900, "a"), time.Hour), at(record(5, "a"), 2*time.Hour), map[string]string{"a": "a at 5"}},
		"late by the clock":       {at(record(900, "a"), 2*time.Hour), at(record(5, "a"), time.Hour), map[string]string{"a": "a at 900"}},
		"the partition in a draw": {at(record(900, "a"), 0), at(record(5, "a"), 0), map[string]string{"a": "a at 5"}},
		"before 1970":             {at(record(900, "a"), -100*365*24*time.Hour), at(record(5, "a"), 0), map[string]string{"a": "a at 5"}},
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, s *Store) {
				one := KnowledgeRun{Partition: 1, To: 901, Records: []KnowledgeRecord{c.one}}
				two := KnowledgeRun{Partition: 2, To: 6, Records: []KnowledgeRecord{c.two}}
				for _, order := range [][]KnowledgeRun{{one, two}, {two, one}} {
					beginKnowledge(t, s, 1, 2)
					put(t, s, order...)
					require.Equal(t, c.want, known(t, s, "a"))
					require.Equal(t, map[int32]int64{1: 901, 2: 6}, knowledgeOffsets(t, s))
					_, err := s.WipeKnowledge(t.Context())
					require.NoError(t, err)
				}
			})
		})
	}
	everywhere(t, func(t *testing.T, s *Store) {
		beginKnowledge(t, s, 1, 2)
		require.Equal(t, "ao", put(t, s,
			KnowledgeRun{Partition: 2, To: 6, Records: []KnowledgeRecord{at(record(5, "a"), time.Hour)}},
			KnowledgeRun{Partition: 1, To: 901, Records: []KnowledgeRecord{at(removal(900, "a"), 0)}}), "an old removal removes nothing newer")
		require.Equal(t, map[string]string{"a": "a at 5"}, known(t, s, "a"))
	})
}

func TestKnowledgeResumesWhereItIsAndRefusesGaps(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		next, err := s.StartKnowledge(t.Context(), "topic-1", map[int32]int64{0: 0, 1: 40})
		require.NoError(t, err)
		require.Equal(t, map[int32]int64{0: 0, 1: 40}, next)
		put(t, s, knowledgeRun(0, record(0, "a")), KnowledgeRun{Partition: 1, From: 40, To: 44})
		next, err = s.StartKnowledge(t.Context(), "topic-1", map[int32]int64{0: 0, 1: 41, 2: 7})
		require.NoError(t, err)
		require.Equal(t, map[int32]int64{0: 1, 1: 44, 2: 7}, next)

		out := s.PutKnowledge(t.Context(), knowledgeRun(0, record(5, "a")), knowledgeRun(3, record(0, "a")))
		var behind *BehindError
		require.ErrorAs(t, out[0].Err, &behind)
		require.Equal(t, BehindError{Partition: 0, Next: 1}, *behind)
		require.ErrorAs(t, out[1].Err, &behind)
		require.Equal(t, BehindError{Partition: 3, Next: -1}, *behind)
		require.Equal(t, map[string]string{"a": "a at 0"}, known(t, s, "a"))

		_, err = s.StartKnowledge(t.Context(), "topic-2", map[int32]int64{0: 0})
		var other *OtherLogError
		require.ErrorAs(t, err, &other)
		require.ErrorContains(t, err, "the view of the knowledge")
	})
}

// Texts took hours of a model's time and histories are made again in seconds: one is
// rebuilt without the other.
func TestHistoriesAndKnowledgeAreWipedApart(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		w := s.Writer(bounds)
		fill := func() {
			begin(t, w, 0)
			apply(t, w, run(event(0, "k", "a")))
			beginKnowledge(t, s, 0)
			put(t, s, knowledgeRun(0, record(0, "h"), record(1, "a")))
		}
		fill()
		removed, err := s.Wipe(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2, removed)
		require.Empty(t, history(t, s, "k", 10))
		require.Len(t, known(t, s, "h", "a"), 2)
		require.Equal(t, map[int32]int64{0: 2}, knowledgeOffsets(t, s))

		fill()
		removed, err = s.WipeKnowledge(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2, removed)
		require.Empty(t, known(t, s, "h", "a"))
		require.Empty(t, knowledgeOffsets(t, s))
		require.Equal(t, []string{"a"}, history(t, s, "k", 10))
		require.Equal(t, map[int32]int64{0: 1}, offsets(t, s))

		out := s.PutKnowledge(t.Context(), knowledgeRun(0, record(2, "a")))
		var behind *BehindError
		require.ErrorAs(t, out[0].Err, &behind)
		require.EqualValues(t, -1, behind.Next, "the reader is told to begin again")

		require.NoError(t, s.client.Set(t.Context(), s.knowledge().wiping, "dead", 0).Err())
		require.ErrorIs(t, s.PutKnowledge(t.Context(), knowledgeRun(0, record(0, "a")))[0].Err, ErrWiping)
		_, err = s.StartKnowledge(t.Context(), "topic-1", map[int32]int64{0: 0})
		require.ErrorIs(t, err, ErrWiping)
		require.Equal(t, "a", apply(t, w, run(event(1, "k", "b"))), "histories go on while knowledge is wiped")
		_, err = s.WipeKnowledge(t.Context())
		require.NoError(t, err)
	})
}

// What an app may call an item must not reach another key or the script.
func TestKnowledgeOfAnyIdIsItsOwn(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		beginKnowledge(t, s, 0)
		ids := []string{"}", "{", "{}", "a}:k", "a", "*", "[x]", "ü ñ 漢", "-1", "1e400", `"'\`, strings.Repeat("x", 512), "%d"}
		want := map[string]string{}
		for i, id := range ids {
			r := record(int64(i), id)
			put(t, s, knowledgeRun(0, r))
			want[id] = r.Text
		}
		require.Equal(t, want, known(t, s, ids...))
		removed, err := s.WipeKnowledge(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, len(ids), removed)
	})
}

// Any batching and any crash leave what the log says last.
func TestKnowledgeDoesNotDependOnBatchesAndCrashes(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		for seed := range uint64(5) {
			rng := rand.New(rand.NewPCG(seed, 2))
			beginKnowledge(t, s, 0)
			want := map[string]string{}
			var items []string
			var records []KnowledgeRecord
			for i := range int64(500) { // offsets have gaps: the topic is compacted
				item := fmt.Sprint("i", rng.IntN(60))
				r := record(3*i, item)
				if want[item] = r.Text; rng.IntN(4) == 0 {
					r = removal(3*i, item)
					delete(want, item)
				}
				records, items = append(records, r), append(items, item)
			}
			for from, next := 0, int64(0); from < len(records); {
				to := min(len(records), from+1+rng.IntN(200))
				r := KnowledgeRun{From: next, To: records[to-1].Offset + 1, Records: records[from:to]}
				put(t, s, r)
				if from, next = to, r.To; rng.IntN(3) == 0 && from < len(records) {
					from -= rng.IntN(from) // crashed before the commit
					next = records[from].Offset
				}
			}
			require.Equal(t, want, known(t, s, items...), "seed %d", seed)
			_, err := s.WipeKnowledge(t.Context())
			require.NoError(t, err)
		}
	})
}

func TestWhatIsReadAndWrittenAtOnceIsBounded(t *testing.T) {
	s := open(t, config.Redis{KeyPrefix: "test", Timeout: 5 * time.Second})
	_, err := s.Knowledge(t.Context(), make([]string, MaxKnowledgeItems+1))
	require.ErrorContains(t, err, "ask for at most 1000 at once")

	beginKnowledge(t, s, 0)
	long := record(1, "b")
	long.Text = strings.Repeat("x", maxKnowledgeText+1)
	out := s.PutKnowledge(t.Context(), knowledgeRun(0, record(0, "a"), long))
	require.ErrorContains(t, out[0].Err, "BUG: knowledge with a text of 16385 bytes")
	require.Empty(t, known(t, s, "a", "b"), "nothing of the run was put")

	small, large := record(0, "a"), record(0, "a")
	large.Vector = make([]float32, maxKnowledgeVector)
	many := func(r KnowledgeRecord, n int) (out []KnowledgeRecord) {
		for range n {
			out = append(out, r)
		}
		return out
	}
	require.Equal(t, 0, piece(nil))
	require.Equal(t, 3, piece(many(small, 3)))
	require.Equal(t, recordsPerScript, piece(many(small, recordsPerScript)))
	require.Equal(t, recordsPerScript, piece(many(small, 10*recordsPerScript)))
	require.Equal(t, bytesPerScript/(4*maxKnowledgeVector)-1, piece(many(large, 50)), "the text counts, too")
}

func TestDamagedKnowledgeIsNamed(t *testing.T) {
	s := open(t, config.Redis{KeyPrefix: "test", Timeout: 5 * time.Second})
	beginKnowledge(t, s, 0)
	key := s.keys.knowledge("a")
	next := int64(0)
	for field, value := range map[string]string{"time": "noon", "policy_step": "", "vector": "abc"} {
		put(t, s, knowledgeRun(0, record(next, "a")))
		next++
		require.NoError(t, s.client.HSet(t.Context(), key, field, value).Err())
		_, err := s.Knowledge(t.Context(), []string{"a"})
		require.ErrorContains(t, err, key+" holds no knowledge: the field "+field)
	}
	require.NoError(t, s.client.HDel(t.Context(), key, "origin").Err())
	_, err := s.Knowledge(t.Context(), []string{"a"})
	require.ErrorContains(t, err, "the field origin is missing")
}

// FuzzKnowledgeFields: whatever an item's hash holds, reading it ends in knowledge
// that is written as it was read, or in an error.
func FuzzKnowledgeFields(f *testing.F) {
	f.Add("1767225600000", "text", "\x00\x00\x80\x3f", "p", "smollm2", "50", "minilm", "llm")
	f.Add("-1", "", "", "", "", "0", "", "")
	f.Add("9223372036854775807", "\xff", "abc", "", "", "-9223372036854775808", "", "")
	f.Add("noon", "", "\x00\x00\xc0\x7f", "", "", "1e3", "", "")
	f.Fuzz(func(t *testing.T, at, text, vector, prompt, policy, step, encoder, origin string) {
		k, err := parse("a", []any{at, text, vector, prompt, policy, step, encoder, origin})
		if err != nil {
			return
		}
		var values []any
		for _, v := range k.fields() {
			if raw, ok := v.([]byte); ok {
				v = string(raw)
			}
			values = append(values, fmt.Sprint(v))
		}
		require.Equal(t, []any{text, prompt, policy, encoder, origin}, []any{values[1], values[3], values[4], values[6], values[7]})
		again, err := parse("a", values)
		require.NoError(t, err)
		require.Equal(t, k.fields(), again.fields()) // bytes: not a number equals nothing
	})
}

func TestRoundTripsOfKnowledge(t *testing.T) {
	everywhere(t, func(t *testing.T, s *Store) {
		beginKnowledge(t, s, 0, 1)
		require.NoError(t, s.client.ScriptFlush(t.Context()).Err())
		require.Equal(t, "a", put(t, s, knowledgeRun(0, record(0, "a"))), "a restarted Redis knows no script")
		count := &trips{}
		s.client.AddHook(count)

		put(t, s, knowledgeRun(0, record(1, "a"), record(2, "b")), knowledgeRun(1, record(0, "c")))
		require.Equal(t, 1, count.n)
		*count = trips{}
		require.Len(t, known(t, s, "a", "b", "c", "d"), 3)
		require.Equal(t, 1, count.n)
	})
}
