package policy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/consumers/internal/toy"
	"seralm/consumers/trainer/policy"
	"seralm/stream"
)

// A letter that makes a text worth more on its own instance is learnt. (This says nothing
// of catalogue rewards: an item that is louder for everybody may be worth less to all.)
func TestThePolicyLearnsWhatAnInstanceRewards(t *testing.T) {
	for seed := range uint64(5) {
		c := toy.Config([]string{"unused:1"}, "")
		c.Alignment.Reward, c.Alignment.Seed = "instance", seed
		before := toy.NewPolicy(c).Share(toy.GoodLetter, 1000)
		adapters := loop(t, c, toy.Interactions(0, 4000), 300)
		after := toy.NewPolicy(c)
		require.NoError(t, after.Load(snapshotOf(after, adapters)))
		share := after.Share(toy.GoodLetter, 1000)
		t.Logf("seed %d: %.2f of the texts have the letter at first, %.2f in the end", seed, before, share)
		require.Less(t, before, 0.6)
		require.GreaterOrEqual(t, share, 0.9)
	}
}

// Where a letter says truly who takes an item, both rewards teach it: from chance to nearly
// always within 300 iterations. Texts are about even items, the letter says "even".
func TestThePolicyLearnsToSayWhatIsTrue(t *testing.T) {
	for _, reward := range []string{"instance", "catalogue"} {
		for seed := range uint64(5) {
			c := toy.Config([]string{"unused:1"}, "")
			c.Alignment.Reward, c.Alignment.Seed = reward, seed
			before := toy.NewPolicy(c).Share(toy.GoodLetter, 1000)
			adapters := toy.Loop{
				Config: c, Generator: toy.GeneratorOptions(c, nil), Model: toy.NewPolicy(c),
				Recommender: toy.Groups(c.Recommender.Name, 10, toy.Good), Usable: toy.Even, Interactions: toy.GroupInteractions(0, 8000),
			}.Run(t, 300)
			after := toy.NewPolicy(c)
			require.NoError(t, after.Load(snapshotOf(after, adapters)))
			share := after.Share(toy.GoodLetter, 1000)
			t.Logf("%s, seed %d: %.2f of the texts have the letter at first, %.2f in the end", reward, seed, before, share)
			require.Less(t, before, 0.6)
			require.GreaterOrEqual(t, share, 0.9)
		}
	}
}

var _ policy.Model = (*toy.Policy)(nil)

func snapshotOf(p *toy.Policy, adapters [][]byte) stream.PolicySnapshot {
	return stream.PolicySnapshot{Policy: stream.ModelVersion{Name: p.Name(), Step: int64(len(adapters))}, Adapter: adapters[len(adapters)-1]}
}
