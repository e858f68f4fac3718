package policy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/consumers/generator"
	"seralm/consumers/internal/toy"
	"seralm/consumers/trainer/policy"
	"seralm/stream"
)

// written are samples of a policy that has learnt nothing.
func written(t *testing.T, c config.Config, n int) (samples []stream.Sample) {
	t.Helper()
	sampler, err := generator.NewSampler(c, toy.GeneratorOptions(c, nil))
	require.NoError(t, err)
	defer sampler.Close()
	require.NoError(t, sampler.Judge(toy.Snapshot(c.Recommender.Name, 1, 10, toy.Good)))
	for _, ev := range toy.Interactions(0, 10*n) {
		in, ok := sampler.Observe(ev)
		if !ok || len(samples) == n {
			continue
		}
		item, ok := sampler.Choose(in, func(string) bool { return true })
		require.True(t, ok)
		out, err := sampler.Sample(t.Context(), []generator.Chosen{{Instance: in, Item: stream.Item{Item: item, Title: "Title"}}})
		require.NoError(t, err)
		samples = append(samples, out...)
	}
	require.Len(t, samples, n)
	return samples
}

// logged writes samples to the log, each a millisecond after the one before; change
// may make of the values of some what no writer of ours writes.
func logged(s *toy.System, from int, samples []stream.Sample, change map[int]func(value []byte) []byte) {
	s.Helper()
	for i, sample := range samples {
		rec := s.Record(s.Names().Samples(), sample.Item, fmt.Sprint("sample-", from+i), from+i, sample)
		if c := change[i]; c != nil {
			rec.Value = c(rec.Value)
		}
		s.Produce(rec)
	}
}

// taught runs a trainer until so many iterations, and returns its metrics.
func taught(s *toy.System, model *toy.Policy, iterations int64) *prometheus.Registry {
	s.Helper()
	reg := prometheus.NewRegistry()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	require.NoError(s, policy.New(s.Config, policy.Options{
		Model: model, Registry: reg, Logger: slog.New(slog.DiscardHandler), AfterStep: func(p policy.Progress) bool { return p.Step == iterations },
	}).Run(ctx))
	require.NoError(s, ctx.Err(), "it came to its end")
	return reg
}

func counted(t testing.TB, reg *prometheus.Registry, learnt, stale, bad, lost int) {
	t.Helper()
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(fmt.Sprintf(`
# HELP seralm_policy_samples_total Samples by what became of them: learnt, stale (of a policy older than alignment.max_staleness), bad (dead-lettered), or lost to retention.
# TYPE seralm_policy_samples_total counter
seralm_policy_samples_total{result="bad"} %d
seralm_policy_samples_total{result="learnt"} %d
seralm_policy_samples_total{result="lost"} %d
seralm_policy_samples_total{result="stale"} %d
`, bad, learnt, lost, stale)), "seralm_policy_samples_total"))
}

// deadLetters are the reasons of those there are, by the id of the sample.
func deadLetters(s *toy.System) map[string]string {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	out := map[string]string{}
	err := stream.Follow(ctx, s.Config.Kafka, s.Names().DeadLetters(), func(rec *kgo.Record) error {
		header := map[string]string{}
		for _, h := range rec.Headers {
			header[h.Key] = string(h.Value)
		}
		require.NotContains(s, out, header[stream.HeaderID], "set aside once")
		require.Equal(s, "policy", header[stream.HeaderDeadRole])
		out[header[stream.HeaderID]] = header[stream.HeaderDeadReason] + ": " + header[stream.HeaderDeadError]
		return nil
	}, cancel)
	require.ErrorIs(s, err, context.Canceled)
	return out
}

// with returns what makes another sample of a record's value.
func with(change func(*stream.Sample)) func([]byte) []byte {
	return func(raw []byte) []byte {
		var sample stream.Sample
		if err := json.Unmarshal(raw, &sample); err != nil {
			panic(err)
		}
		change(&sample)
		out, err := json.Marshal(sample)
		if err != nil {
			panic(err)
		}
		return out
	}
}

// What cannot be learnt from is set aside, each by its own reason, and costs the others
// nothing: the policy is as if they had not been there.
func TestSamplesThatCannotBeLearntFromAreSetAside(t *testing.T) {
	kinds := []struct {
		letter string // begins with
		change func([]byte) []byte
	}{
		{"invalid sample: ", func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"reward":`), []byte(`"reward":NaN,"was":`), 1)
		}},
		{"invalid sample: invalid candidates.p_y", with(func(s *stream.Sample) { s.Candidates[0].PY = 0 })},
		{"invalid sample: invalid candidates.text", with(func(s *stream.Sample) { s.Candidates[0].Text = "" })},
		{"invalid sample: invalid candidates.text", with(func(s *stream.Sample) { s.Candidates[0].Text = strings.Repeat("x", 10<<10) })},
		{"unknown version: its policy had learnt 99 iterations", with(func(s *stream.Sample) { s.Versions.Policy.Step = 99 })},
		{"another policy: its texts are of \"toy+r2\", this policy is \"toy+r8\"", with(func(s *stream.Sample) { s.Versions.Policy.Name = "toy+r2" })},
		{"another policy: its texts are of \"llama\"", with(func(s *stream.Sample) { s.Versions.Policy.Name = "llama" })},
		{"another reward: its rewards are of kind instance", with(func(s *stream.Sample) {
			s.Reward = stream.RewardInstance
			for i := range s.Candidates {
				s.Candidates[i].Reward = s.Candidates[i].PY
			}
		})},
		{"another temperature: it was sampled at 0.5", with(func(s *stream.Sample) { s.Temperature = 0.5 })},
		{"unknown tokens: candidate 0: token 77", with(func(s *stream.Sample) { s.Candidates[0].Tokens[0] = 77 })},
		{"invalid sample: ", func([]byte) []byte { return []byte(`{"x":`) }},
	}
	s := toy.NewSystem(t)
	s.Config.Alignment.Reward = "catalogue"
	batch := s.Config.Alignment.Batch
	samples := written(t, s.Config, 3*batch)
	change := map[int]func([]byte) []byte{}
	for i, k := range kinds {
		change[batch+i] = k.change
	}
	logged(s, 0, samples, change)
	model := toy.NewPolicy(s.Config)
	reg := taught(s, model, 3)
	counted(t, reg, len(samples)-len(kinds), 0, len(kinds), 0)
	letters := deadLetters(s)
	require.Len(t, letters, len(kinds))
	for i, k := range kinds {
		letter := letters[fmt.Sprint("sample-", batch+i)]
		require.True(t, strings.HasPrefix(letter, k.letter), "%s: %s", k.letter, letter)
	}

	// The second iteration is of bad ones alone, the third of what good ones are left.
	alone := toy.NewPolicy(s.Config)
	learner := policy.NewLearner(s.Config.Alignment, alone)
	var good []*stream.Sample
	for i := range samples {
		samples[i].Time = time.UnixMilli(1e12 + int64(i))
		good = append(good, &samples[i])
	}
	_, err := learner.Learn(t.Context(), good[:batch])
	require.NoError(t, err)
	learner.Step = 2
	_, err = learner.Learn(t.Context(), good[batch+len(kinds):])
	require.NoError(t, err)
	want, err := alone.Save()
	require.NoError(t, err)
	got, err := model.Save()
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

// A policy that begins anew under another name has nothing to do with what its
// predecessors wrote: it is no iteration, and no dead letter. Nor has it when its first
// iterations are learnt again from the journal alone.
func TestAPolicyBeginsBehindItsPredecessors(t *testing.T) {
	s := toy.NewSystem(t)
	batch := s.Config.Alignment.Batch
	samples := written(t, s.Config, 4*batch)
	change := map[int]func([]byte) []byte{}
	for i := range 2 * batch {
		change[i] = with(func(s *stream.Sample) { s.Versions.Policy.Name = "toy+r2" })
	}
	logged(s, 0, samples[:3*batch], change)
	model := toy.NewPolicy(s.Config)
	counted(t, taught(s, model, 1), batch, 0, 0, 0)
	first, err := model.Save()
	require.NoError(t, err)

	require.NoError(t, os.RemoveAll(filepath.Join(s.Config.DataDir, "checkpoints")))
	again := toy.NewPolicy(s.Config)
	counted(t, taught(s, again, 1), batch, 0, 0, 0)
	second, err := again.Save()
	require.NoError(t, err)
	require.Equal(t, string(first), string(second))
	logged(s, 3*batch, samples[3*batch:], nil)
	counted(t, taught(s, again, 2), batch, 0, 0, 0)
	require.Empty(t, deadLetters(s))
}

// What retention took while the policy stood still is counted and passed over: among it
// may be nothing but the mark of the last transaction.
func TestAPolicyGoesOnBehindWhatRetentionTook(t *testing.T) {
	s := toy.NewSystem(t)
	batch := s.Config.Alignment.Batch
	samples := written(t, s.Config, 3*batch)
	logged(s, 0, samples[:batch], nil)
	model := toy.NewPolicy(s.Config)
	counted(t, taught(s, model, 1), batch, 0, 0, 0)
	logged(s, batch, samples[batch:2*batch], nil)
	adm := kadm.NewClient(s.Client)
	ends, err := adm.ListEndOffsets(t.Context(), s.Names().Samples())
	require.NoError(t, err)
	_, err = adm.DeleteRecords(t.Context(), ends.Offsets())
	require.NoError(t, err)
	logged(s, 2*batch, samples[2*batch:], nil)
	counted(t, taught(s, toy.NewPolicy(s.Config), 2), batch, 0, 0, batch)
}

// Samples of a policy that is too old are dropped and counted; their iterations pass.
func TestSamplesThatAreTooOldAreDropped(t *testing.T) {
	s := toy.NewSystem(t)
	s.Config.Alignment.MaxStaleness = 2
	batch := s.Config.Alignment.Batch
	logged(s, 0, written(t, s.Config, 6*batch), nil)
	model := toy.NewPolicy(s.Config)
	var third []byte
	reg := prometheus.NewRegistry()
	require.NoError(t, policy.New(s.Config, policy.Options{
		Model: model, Registry: reg, Logger: slog.New(slog.DiscardHandler), AfterStep: func(p policy.Progress) bool {
			if p.Step == 3 {
				var err error
				third, err = model.Save()
				require.NoError(t, err)
			}
			return p.Step == 6
		},
	}).Run(t.Context()))
	counted(t, reg, 3*batch, 3*batch, 0, 0)
	last, err := model.Save()
	require.NoError(t, err)
	require.Equal(t, string(third), string(last))
	require.Empty(t, deadLetters(s))
}

// Iterations that are not finite are skipped; after too many in a row adapter and optimiser
// are those of the last checkpoint, and the count goes on.
func TestAPolicyThatIsNotFiniteGoesBackToItsCheckpoint(t *testing.T) {
	s := toy.NewSystem(t)
	a := &s.Config.Alignment
	a.CheckpointN, a.MaxBadSteps, a.MaxStaleness = 3, 2, 100
	logged(s, 0, written(t, s.Config, 7*a.Batch), nil)
	model := toy.NewPolicy(s.Config)
	trained, broken := 0, map[int]bool{3: true, 5: true, 6: true}
	model.Break = func(int64) bool { trained++; return broken[trained] }
	states := map[int64]string{}
	require.NoError(t, policy.New(s.Config, policy.Options{
		Model: model, Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler), AfterStep: func(p policy.Progress) bool {
			saved, err := model.Adapter()
			require.NoError(t, err)
			states[p.Step] = string(saved)
			return p.Step == 7
		},
	}).Run(t.Context()))
	require.Equal(t, states[2], states[3], "a step that is not finite is not taken")
	require.NotEqual(t, states[3], states[4])
	require.Equal(t, states[4], states[5], "one is no reason to go back")
	require.Equal(t, states[3], states[6], "two are: to the checkpoint of iteration 3")
	require.NotEqual(t, states[6], states[7], "and on from there")
	policies := s.Policies()
	for i, p := range policies {
		require.EqualValues(t, i+1, p.Policy.Step)
		require.Equal(t, states[p.Policy.Step], string(p.Adapter))
	}

	t.Run("without a checkpoint it ends and says what to do", func(t *testing.T) {
		s := toy.NewSystem(t)
		s.Config.Alignment.MaxBadSteps, s.Config.Alignment.CheckpointN = 2, 100
		logged(s, 0, written(t, s.Config, 2*s.Config.Alignment.Batch), nil)
		model := toy.NewPolicy(s.Config)
		model.Break = func(int64) bool { return true }
		err := toy.Train(t.Context(), s.Config, model, nil)
		require.ErrorContains(t, err, "there is no checkpoint to go back to: lower alignment.learning_rate")
	})
}

// With alignment.refresh above 0 the jobs work at the same time: texts are of older
// versions, none older than that, and none is thrown away.
func TestTheGeneratorsPaceBoundsHowOldTextsAre(t *testing.T) {
	const refresh, iterations, interactions = 3, 20, 800
	s := toy.NewSystem(t)
	s.Config.Alignment.Refresh, s.Config.Alignment.MaxStaleness = refresh, refresh
	s.Interactions(0, interactions)
	s.Publish(toy.Snapshot(s.Config.Recommender.Name, 1, 10, toy.Good))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	generated := make(chan error, 1)
	go func() { generated <- toy.Generate(ctx, s.Config, nil) }()
	reg := taught(s, toy.NewPolicy(s.Config), iterations)
	cancel()
	require.NoError(t, <-generated)
	batch := s.Config.Alignment.Batch
	counted(t, reg, iterations*batch, 0, 0, 0)
	oldest := int64(0)
	for i, ev := range s.Samples() {
		version := ev.Body.Versions.Policy.Step
		require.Zero(t, version%refresh, "snapshots are taken when they are due")
		age := int64(i/batch) - version
		require.GreaterOrEqual(t, age, int64(0))
		oldest = max(oldest, age)
	}
	// Version 3 is not there before 24 samples are, the last of which are then 2 iterations old.
	require.GreaterOrEqual(t, oldest, int64(refresh-1), "it does not wait for each iteration")
	require.LessOrEqual(t, oldest, int64(refresh), "and runs no further ahead than it may")
}

// A second job of the same policy takes over; the first ends and says so.
func TestASecondJobFencesTheFirst(t *testing.T) {
	s := toy.NewSystem(t)
	s.Config.Alignment.Refresh, s.Config.Alignment.MaxStaleness = 1, 1
	s.Publish(toy.Snapshot(s.Config.Recommender.Name, 1, 10, toy.Good))
	second := s.Config
	second.DataDir = t.TempDir()
	for name, run := range map[string]func(ctx context.Context, c config.Config, committed chan<- struct{}) error{
		"generator": func(ctx context.Context, c config.Config, committed chan<- struct{}) error {
			return toy.Generate(ctx, c, func(generator.Progress) bool { committed <- struct{}{}; return false })
		},
		"policy": func(ctx context.Context, c config.Config, committed chan<- struct{}) error {
			return toy.Train(ctx, c, toy.NewPolicy(c), func(policy.Progress) bool { committed <- struct{}{}; return false })
		},
	} {
		t.Run(name, func(t *testing.T) {
			more := func(n int) { s.Interactions(n*100, (n+1)*100) }
			if name == "policy" {
				samples := written(t, s.Config, 2*s.Config.Alignment.Batch)
				more = func(n int) { logged(s, n*100, samples[n*len(samples)/2:(n+1)*len(samples)/2], nil) }
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			first, took := make(chan error, 1), make(chan struct{}, 1000)
			more(0)
			go func() { first <- run(ctx, s.Config, took) }()
			<-took
			ended, over := make(chan error, 1), make(chan struct{}, 1000)
			later, stop := context.WithCancel(ctx)
			go func() { ended <- run(later, second, over) }()
			if name == "policy" {
				<-over // it has learnt the journal again, or the next
			}
			more(1)
			require.ErrorIs(t, <-first, stream.ErrFenced)
			stop()
			if err := <-ended; !errors.Is(err, context.Canceled) { // it may be stopped while it still reads what there is
				require.NoError(t, err)
			}
		})
	}
}
