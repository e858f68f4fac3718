package policy_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/consumers/generator"
	"seralm/consumers/internal/toy"
	"seralm/consumers/trainer/policy"
	"seralm/models/snapshot"
	"seralm/stream"
)

// loop is alignment in one process without a log: the same parts, taking turns. It
// returns the adapter after each iteration.
func loop(t *testing.T, c config.Config, interactions []stream.Event[stream.Interaction], iterations int) (adapters [][]byte) {
	t.Helper()
	return loopOf(t, c, toy.Snapshot(c.Recommender.Name, 1, 10, toy.Good), func(string) bool { return true }, interactions, iterations)
}

// loopOf is loop with a recommender, and with texts about those items alone that are usable.
func loopOf(t *testing.T, c config.Config, snap *snapshot.Snapshot, usable func(item string) bool, interactions []stream.Event[stream.Interaction], iterations int) (adapters [][]byte) {
	t.Helper()
	o := toy.GeneratorOptions(c, nil)
	sampler, err := generator.NewSampler(c, o)
	require.NoError(t, err)
	defer sampler.Close()
	require.NoError(t, sampler.Judge(snap))
	model := toy.NewPolicy(c)
	learner := policy.NewLearner(c.Alignment, model)
	for range iterations {
		var batch []*stream.Sample
		for len(batch) < c.Alignment.Batch {
			var group []generator.Chosen
			for len(group) < min(c.Alignment.Group, c.Alignment.Batch-len(batch)) {
				ev := interactions[0]
				interactions = interactions[1:]
				in, ok := sampler.Observe(ev)
				if !ok {
					continue
				}
				if item, ok := sampler.Choose(in, usable); ok {
					group = append(group, generator.Chosen{Instance: in, Item: stream.Item{Item: item, Title: "Title " + item[1:], Categories: []string{"Crime"}}})
				}
			}
			samples, err := sampler.Sample(t.Context(), group)
			require.NoError(t, err)
			for i := range samples {
				batch = append(batch, &samples[i])
			}
		}
		r, err := learner.Learn(t.Context(), batch)
		require.NoError(t, err)
		require.Empty(t, r.Bad)
		require.Len(t, r.Learnt, c.Alignment.Batch)
		adapter, err := model.Adapter()
		require.NoError(t, err)
		adapters = append(adapters, adapter)
		require.NoError(t, o.Policy.Load(stream.PolicySnapshot{Policy: stream.ModelVersion{Name: model.Name(), Step: r.Step}, Adapter: adapter}))
	}
	return adapters
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
