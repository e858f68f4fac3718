package toy

import (
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/consumers/generator"
	"seralm/consumers/trainer/policy"
	"seralm/models/snapshot"
	"seralm/stream"
)

// Loop is alignment in one process without a log: the parts of the two jobs, taking
// turns.
type Loop struct {
	Config       config.Config
	Generator    generator.Options
	Model        policy.Model
	Recommender  *snapshot.Snapshot
	Usable       func(item string) bool // items that texts may be about; nil = all
	Interactions []stream.Event[stream.Interaction]
}

// Run makes so many iterations and returns the adapter after each.
func (l Loop) Run(t testing.TB, iterations int) (adapters [][]byte) {
	t.Helper()
	a := l.Config.Alignment
	if l.Usable == nil {
		l.Usable = func(string) bool { return true }
	}
	sampler, err := generator.NewSampler(l.Config, l.Generator)
	require.NoError(t, err)
	defer sampler.Close()
	require.NoError(t, sampler.Judge(l.Recommender))
	learner := policy.NewLearner(a, l.Model)
	left := l.Interactions
	for range iterations {
		var batch []*stream.Sample
		for len(batch) < a.Batch {
			var group []generator.Chosen
			for len(group) < min(a.Group, a.Batch-len(batch)) {
				require.NotEmpty(t, left, "there are too few interactions for iteration %d", learner.Step+1)
				ev := left[0]
				left = left[1:]
				in, ok := sampler.Observe(ev)
				if !ok {
					continue
				}
				if item, ok := sampler.Choose(in, l.Usable); ok {
					group = append(group, generator.Chosen{Instance: in, Item: Described(item)})
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
		require.NoError(t, r.Numeric)
		require.Len(t, r.Learnt, a.Batch)
		adapter, err := l.Model.Adapter()
		require.NoError(t, err)
		adapters = append(adapters, adapter)
		require.NoError(t, l.Generator.Policy.Load(stream.PolicySnapshot{Policy: stream.ModelVersion{Name: l.Model.Name(), Step: r.Step}, Adapter: adapter}))
	}
	return adapters
}

// Described is what is said of an item i0, i1, ...
func Described(item string) stream.Item {
	return stream.Item{Item: item, Title: "Title " + item[1:], Categories: []string{"Crime"}}
}
