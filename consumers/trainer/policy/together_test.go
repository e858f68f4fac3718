package policy_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"seralm/config"
	"seralm/consumers/generator"
	"seralm/consumers/internal/toy"
	"seralm/consumers/trainer/policy"
	"seralm/stream"
)

// loop is what toy.Loop makes of a toy's configuration.
func loop(t *testing.T, c config.Config, interactions []stream.Event[stream.Interaction], iterations int) (adapters [][]byte) {
	t.Helper()
	l := toy.Loop{
		Config: c, Generator: toy.GeneratorOptions(c, nil), Model: toy.NewPolicy(c),
		Recommender: toy.Snapshot(c.Recommender.Name, 1, 10, toy.Good), Interactions: interactions,
	}
	return l.Run(t, iterations)
}

// inTheLog is the interactions with the places that the log gave them, in its order.
func inTheLog(s *toy.System, n int) (out []stream.Event[stream.Interaction]) {
	merge, err := stream.NewMerge(s.Context(), s.Config.Kafka, s.Names().Interactions(), nil)
	require.NoError(s, err)
	defer merge.Close()
	for len(out) < n {
		rec, err := merge.Next(s.Context())
		require.NoError(s, err)
		ev, err := stream.DecodeInteraction(rec)
		require.NoError(s, err)
		out = append(out, ev)
	}
	return out
}

// With alignment.refresh 0 the two jobs over a log are the loop of Algorithm 1, to the
// bit, after each of 20 iterations.
func TestTwoJobsThatTakeTurnsAreTheLoop(t *testing.T) {
	const iterations, interactions = 20, 400
	for _, reward := range []string{"instance", "catalogue"} {
		t.Run(reward, func(t *testing.T) {
			s := toy.NewSystem(t)
			s.Config.Alignment.Reward = reward
			s.Interactions(0, interactions)
			s.Publish(toy.Snapshot(s.Config.Recommender.Name, 1, 10, toy.Good))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			generated := make(chan error, 1)
			go func() { generated <- toy.Generate(ctx, s.Config, nil) }()
			model := toy.NewPolicy(s.Config)
			var adapters [][]byte
			require.NoError(t, toy.Train(ctx, s.Config, model, func(p policy.Progress) bool {
				adapter, err := model.Adapter()
				require.NoError(t, err)
				adapters = append(adapters, adapter)
				return p.Step == iterations
			}))
			cancel()
			require.NoError(t, <-generated)
			want := loop(t, s.Config, inTheLog(s, interactions), iterations)
			for i := range want {
				require.Equal(t, string(want[i]), string(adapters[i]), "iteration %d", i+1)
			}
		})
	}
}

// A trainer that is stopped between two of its snapshots publishes where it is. A
// generator that begins there must take the next one, though it is fewer than
// alignment.refresh iterations further, or each waits for the other for ever.
func TestTwoJobsGoOnFromBetweenTwoSnapshots(t *testing.T) {
	s := toy.NewSystem(t)
	s.Config.Alignment.Refresh, s.Config.Alignment.MaxStaleness = 3, 100
	s.Interactions(0, 1000)
	s.Publish(toy.Snapshot(s.Config.Recommender.Name, 1, 10, toy.Good))
	for _, until := range []int64{1, 5, 12} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		generated := make(chan error, 1)
		go func() { generated <- toy.Generate(ctx, s.Config, nil) }()
		require.NoError(t, toy.Train(ctx, s.Config, toy.NewPolicy(s.Config), func(p policy.Progress) bool { return p.Step == until }))
		require.NoError(t, ctx.Err(), "iteration %d came", until)
		cancel()
		require.NoError(t, <-generated)
	}
}

// A generator that was further than the log now goes says so, rather than to wait for
// what it had read already, or to take new interactions for old ones.
func TestAGeneratorWithAnotherLogSaysSo(t *testing.T) {
	s := toy.NewSystem(t)
	s.Interactions(0, 200)
	s.Publish(toy.Snapshot(s.Config.Recommender.Name, 1, 10, toy.Good))
	require.NoError(t, toy.Generate(t.Context(), s.Config, func(p generator.Progress) bool { return p.Samples > 0 }))
	adm, topic := kadm.NewClient(s.Client), s.Names().Interactions()
	_, err := adm.DeleteTopic(t.Context(), topic)
	require.NoError(t, err)
	require.Eventually(t, func() bool { // which a real broker says before it is
		topics, err := adm.ListTopics(t.Context(), topic)
		return err == nil && !topics.Has(topic)
	}, time.Minute, 10*time.Millisecond)
	require.Eventually(t, func() bool { return stream.Ensure(t.Context(), adm, s.Config.Kafka) == nil }, time.Minute, 100*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var lost *stream.LostError
	require.ErrorAs(t, toy.Generate(ctx, s.Config, nil), &lost)
}
