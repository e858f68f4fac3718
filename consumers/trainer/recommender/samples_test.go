package recommender

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/stream"
)

func client(t *testing.T, cfg config.Config) *kgo.Client {
	t.Helper()
	opts, err := stream.ClientOptions(cfg.Kafka)
	require.NoError(t, err)
	c, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// sample number i, about items that produce makes interactions with.
func sample(i int, change ...func(*stream.Sample)) stream.Sample {
	r := rand.New(rand.NewPCG(7, uint64(i)))
	item := func() string { return fmt.Sprint("i", r.IntN(60)) }
	s := stream.Sample{
		X: []string{item(), item(), item()}, Y: item(), Prompt: stream.SamplePrompt{User: "?"}, PromptHash: "h",
		Versions: stream.SampleVersions{
			Policy: stream.ModelVersion{Name: "llm", Step: int64(i / 4)}, Recommender: stream.SnapshotVersion{Name: "recommender"},
			Encoder: fmt.Sprint("encoder", knowledgeDim), Knowledge: "k",
		},
		Reward: stream.RewardCatalogue, View: stream.ViewCold, Temperature: 1,
	}
	s.Item = []string{s.Y, s.X[1]}[i%2]
	for c := range 3 {
		s.Candidates = append(s.Candidates, stream.SampleCandidate{
			Text: "a text", Tokens: []int32{1}, Behaviour: stream.Vector{-1}, Reference: stream.Vector{-1}, PY: 0.1, Vector: vectorOf(8, knowledgeDim, 10*i+c),
		})
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

// sampleRecords are samples with numbers [from, to).
func sampleRecords(t *testing.T, cfg config.Config, from, to int, change ...func(*stream.Sample)) (records []*kgo.Record) {
	t.Helper()
	for i := from; i < to; i++ {
		s := sample(i, change...)
		rec, err := stream.NewRecord(stream.NamesOf(cfg.Kafka.TopicPrefix).Samples(), s.Item, fmt.Sprint("policy/", i), "test", time.UnixMilli(1e12+int64(i)), s)
		require.NoError(t, err)
		records = append(records, rec)
	}
	return records
}

func writeSamples(t *testing.T, cfg config.Config, from, to int, change ...func(*stream.Sample)) {
	t.Helper()
	require.NoError(t, client(t, cfg).ProduceSync(t.Context(), sampleRecords(t, cfg, from, to, change...)...).FirstErr())
}

// aligned is a cluster whose trainer learns from samples, too.
func aligned(t *testing.T) config.Config {
	t.Helper()
	cfg := cluster(t)
	cfg.Recommender.KnowledgeDim, cfg.Alignment.Enabled, cfg.Alignment.MaxStaleness = knowledgeDim, true, 100
	return cfg
}

func counted(reg *prometheus.Registry, result string) (n float64) {
	families, _ := reg.Gather()
	for _, f := range families {
		if f.GetName() != "seralm_trainer_samples_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == result {
				n = m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// As without samples: those that are in the log are learnt by the same steps in every run.
func TestKillingATrainerOfSamplesChangesNothing(t *testing.T) {
	cfg := aligned(t)
	produce(t, cfg, 0, events)
	write(t, cfg, 1, knowledgeDim, 0, 50)
	writeSamples(t, cfg, 0, 200)
	writeSamples(t, cfg, 200, 203, func(s *stream.Sample) { s.Item, s.Y = "nobody's", "nobody's" })
	writeSamples(t, cfg, 203, 300)
	killing(t, cfg, 6)

	plain := cfg
	plain.Recommender.Name, plain.Alignment.Enabled, plain.DataDir = "plain", false, t.TempDir()
	learnUntilKilled(t, plain, 0)
	with := cfg
	with.Recommender.Name = "straight"
	was, _ := state(t, with)
	is, _ := state(t, plain)
	require.NotEqual(t, was, is, "samples teach something")
}

// Samples come when they come, in the middle of the stream and after its end; which ones a
// step learnt is in the journal, also for a trainer that takes no more.
func TestTheJournalKnowsWhichSamplesEachStepLearnt(t *testing.T) {
	cfg := aligned(t)
	cfg.Trainer.SnapshotStep, cfg.Trainer.MaxItems = 1, 100
	produce(t, cfg, 0, 300)
	write(t, cfg, 1, knowledgeDim, 0, 20)
	wrote, idle := 0, int64(0)
	reg := prometheus.NewRegistry()
	after := func(p Progress) bool {
		switch {
		case wrote == 0 && p.Events > 100:
			writeSamples(t, cfg, 0, 30)
			wrote = 30
		case wrote == 30 && p.Events == distinct(300):
			// Fewer than alignment.batch wait for more.
			writeSamples(t, cfg, 30, 33)
			time.AfterFunc(1500*time.Millisecond, func() { writeSamples(t, cfg, 33, 35) })
			wrote, idle = 35, p.Step
		case wrote == 35 && p.Step > idle:
			return true
		}
		return false
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, run(ctx, cfg, reg, after))
	require.NoError(t, ctx.Err())
	require.EqualValues(t, 35, counted(reg, sampleLearnt)+counted(reg, sampleUnknown))
	require.Greater(t, counted(reg, sampleLearnt), 25.)
	model, sequencer := state(t, cfg)
	last := published(t, cfg)
	require.Greater(t, len(last), 2)
	was, is := last[len(last)-2], last[len(last)-1]
	require.Equal(t, was.Offsets, is.Offsets, "the last step learnt samples alone")
	require.NotEqual(t, was.Tensors["item_tower.knowledge.weight"], is.Tensors["item_tower.knowledge.weight"])

	// The group's offsets went with the transactions.
	committed, err := kadm.NewClient(client(t, cfg)).FetchOffsets(t.Context(), Group(cfg.Recommender.Name))
	require.NoError(t, err)
	var at int64
	committed.Each(func(o kadm.OffsetResponse) {
		if o.Topic == stream.NamesOf(cfg.Kafka.TopicPrefix).Samples() {
			at += o.At
		}
	})
	require.EqualValues(t, 35, at)

	require.NoError(t, os.RemoveAll(filepath.Join(cfg.DataDir, "checkpoints")))
	cfg.Alignment.Enabled = false
	require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), func(p Progress) bool {
		require.True(t, p.Replayed)
		return p.Step == idle+1
	}))
	m, s := state(t, cfg)
	require.True(t, model == m && sequencer == s, "learnt again from the journal, the model differs")

	// Switched on again, it goes on behind what it learnt.
	cfg.Alignment.Enabled = true
	writeSamples(t, cfg, 35, 40)
	reg = prometheus.NewRegistry()
	require.NoError(t, run(t.Context(), cfg, reg, func(Progress) bool { return true }))
	require.EqualValues(t, 5, counted(reg, sampleLearnt)+counted(reg, sampleUnknown))
}

func TestWithoutSamplesATrainerIsWhatItWas(t *testing.T) {
	cfg := aligned(t)
	produce(t, cfg, 0, 200)
	write(t, cfg, 1, knowledgeDim, 0, 20)
	var models []string
	for _, on := range []bool{true, false} {
		c := cfg
		c.Alignment.Enabled, c.Recommender.Name, c.DataDir = on, fmt.Sprint("aligned-", on), t.TempDir()
		require.NoError(t, run(t.Context(), c, prometheus.NewRegistry(), func(p Progress) bool { return p.Events >= distinct(200) }))
		m, s := state(t, c)
		models = append(models, m+s)
	}
	require.Equal(t, models[0], models[1])
}

func TestSamplesThatDoNotFitAreCountedAndLeftOut(t *testing.T) {
	cfg := aligned(t)
	names := stream.NamesOf(cfg.Kafka.TopicPrefix)
	produce(t, cfg, 0, 300)
	write(t, cfg, 1, knowledgeDim, 0, 20)
	c := client(t, cfg)
	slots := stream.NewSlots(cfg.Alignment.Name, 2)
	policy, err := stream.PolicySnapshot{Policy: stream.ModelVersion{Name: "llm", Step: 105}, Epoch: 1, Adapter: []byte("x")}.Records(slots, names.Snapshots())
	require.NoError(t, err)
	require.NoError(t, c.ProduceSync(t.Context(), policy...).FirstErr())
	require.NoError(t, c.ProduceSync(t.Context(), &kgo.Record{Topic: names.Samples(), Value: []byte("{no sample")}).FirstErr())
	at := func(step int64, more ...func(*stream.Sample)) func(*stream.Sample) {
		return func(s *stream.Sample) {
			s.Versions.Policy.Step = step
			for _, f := range more {
				f(s)
			}
		}
	}
	writeSamples(t, cfg, 0, 2, at(4))
	writeSamples(t, cfg, 2, 5, at(5, func(s *stream.Sample) { s.Versions.Encoder = "another" }))
	writeSamples(t, cfg, 5, 9, at(6, func(s *stream.Sample) {
		for i := range s.Candidates {
			s.Candidates[i].Vector = stream.Vector{1}
		}
	}))
	writeSamples(t, cfg, 9, 14, at(7, func(s *stream.Sample) { s.Y, s.Item = "nobody's", "nobody's" }))
	writeSamples(t, cfg, 14, 20, at(8, func(s *stream.Sample) { s.Candidates[0].Vector = nil })) // one text fewer
	reg := prometheus.NewRegistry()
	enough := func(p Progress) bool { return p.Events >= distinct(300) }
	require.NoError(t, run(t.Context(), cfg, reg, enough))
	require.EqualValues(t, 1, counted(reg, sampleInvalid))
	require.EqualValues(t, 2, counted(reg, sampleStale))
	require.EqualValues(t, 3, counted(reg, sampleEncoder))
	require.EqualValues(t, 4, counted(reg, sampleDimension))
	// The vocabulary of the first steps has not all items.
	require.GreaterOrEqual(t, counted(reg, sampleUnknown), 5.)
	require.EqualValues(t, 11, counted(reg, sampleUnknown)+counted(reg, sampleLearnt))
	n, err := testutil.GatherAndCount(reg, "seralm_trainer_samples_lag_records")
	require.NoError(t, err)
	require.Equal(t, 1, n)

	// What decided is in the journal: the same are left out again, though nothing else says
	// yet which version the policy has and which vectors the model reads.
	model, sequencer := state(t, cfg)
	require.NoError(t, os.RemoveAll(filepath.Join(cfg.DataDir, "checkpoints")))
	reg = prometheus.NewRegistry()
	require.NoError(t, run(t.Context(), cfg, reg, func(p Progress) bool {
		require.True(t, p.Replayed)
		return enough(p)
	}))
	require.EqualValues(t, 2, counted(reg, sampleStale))
	require.EqualValues(t, 3, counted(reg, sampleEncoder))
	m, q := state(t, cfg)
	require.True(t, model == m && sequencer == q, "learnt again from the journal, the model differs")
}

// journalled is the whole journal, in order.
func journalled(t *testing.T, cfg config.Config) (steps []stream.Step) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := stream.Follow(ctx, cfg.Kafka, stream.NamesOf(cfg.Kafka.TopicPrefix).Steps(), func(rec *kgo.Record) error {
		ev, err := stream.DecodeStep(rec)
		steps = append(steps, ev.Body)
		return err
	}, cancel)
	require.ErrorIs(t, err, context.Canceled)
	return steps
}

// All samples are in the log before the first step. None is learnt before the interaction
// that it is drawn from, each as soon as that is; one whose interaction there is not is
// left out, and those behind it are learnt.
func TestASampleIsNotLearntBeforeItsInteraction(t *testing.T) {
	cfg := aligned(t)
	names := stream.NamesOf(cfg.Kafka.TopicPrefix)
	produce(t, cfg, 0, 300)
	merge, err := stream.NewMerge(t.Context(), cfg.Kafka, names.Interactions(), nil)
	require.NoError(t, err)
	defer merge.Close()
	events, err := merge.Batch(t.Context(), 300, 0)
	require.NoError(t, err)
	require.Len(t, events, 300)
	const each, bogus = 5, 40 // a sample of every so many interactions; that many samples, then one of none
	var places []stream.Place
	for i := each - 1; i < len(events); i += each {
		places = append(places, stream.Place{Partition: events[i].Partition, Offset: events[i].Offset})
	}
	n := 0
	next := func(s *stream.Sample) { s.Instance = places[n]; n++ }
	writeSamples(t, cfg, 0, bogus, next)
	writeSamples(t, cfg, bogus, bogus+1, func(s *stream.Sample) { s.Instance = stream.Place{Partition: places[0].Partition, Offset: 1 << 40} })
	writeSamples(t, cfg, bogus+1, len(places)+1, next)

	reg := prometheus.NewRegistry()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, run(ctx, cfg, reg, func(Progress) bool {
		return counted(reg, sampleLearnt)+counted(reg, sampleUnknown) == float64(len(places))
	}))
	require.NoError(t, ctx.Err())
	require.EqualValues(t, 1, counted(reg, sampleAhead))

	taken, learnt, before := 0, 0, 0
	for _, s := range journalled(t, cfg) {
		learnt += s.Events
		if s.Samples != nil {
			taken += s.Samples.Count
		}
		if s.Events == 0 {
			require.Equal(t, min(len(places)+1, before+cfg.Trainer.BatchEvents), taken, "steps after the end take the rest")
		} else {
			require.Equal(t, min(bogus, learnt/each), taken, "after %d interactions", learnt)
		}
		before = taken
	}
	require.Equal(t, 300, learnt)
	require.Equal(t, len(places)+1, taken)

	model, sequencer := state(t, cfg)
	require.NoError(t, os.RemoveAll(filepath.Join(cfg.DataDir, "checkpoints")))
	reg = prometheus.NewRegistry()
	steps := int64(len(journalled(t, cfg)))
	require.NoError(t, run(t.Context(), cfg, reg, func(p Progress) bool { return p.Step == steps }))
	require.EqualValues(t, 1, counted(reg, sampleAhead))
	m, q := state(t, cfg)
	require.True(t, model == m && sequencer == q, "learnt again from the journal, the model differs")
}

// The log forgets samples that nobody waits for: no reason to stop.
func TestDeletedSamplesAreCountedAndTheRestIsLearnt(t *testing.T) {
	cfg := aligned(t)
	produce(t, cfg, 0, 200)
	writeSamples(t, cfg, 0, 8)
	require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), func(p Progress) bool { return p.Events >= distinct(200) }))
	writeSamples(t, cfg, 8, 20)
	admin := kadm.NewClient(client(t, cfg))
	ends, err := admin.ListEndOffsets(t.Context(), stream.NamesOf(cfg.Kafka.TopicPrefix).Samples())
	require.NoError(t, err)
	_, err = admin.DeleteRecords(t.Context(), ends.Offsets())
	require.NoError(t, err)
	writeSamples(t, cfg, 20, 25)
	produce(t, cfg, 200, 220)
	reg := prometheus.NewRegistry()
	more := func(p Progress) bool { return p.Events >= distinct(220) }
	require.NoError(t, run(t.Context(), cfg, reg, more))
	require.EqualValues(t, 12, counted(reg, sampleLost))
	require.EqualValues(t, 5, counted(reg, sampleLearnt)+counted(reg, sampleUnknown))
}
