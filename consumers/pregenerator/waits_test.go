package pregenerator

import (
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/stream"
)

// What people are told agrees with what is decided.
func TestWaitsSaysWhatIsInTheWay(t *testing.T) {
	of := func(texts, titles, without int) Counts {
		return Counts{Texts: texts, Titles: titles, Without: without, Items: texts + titles + without}
	}
	before := stream.Rollout{ID: 3, Phase: stream.RolloutHeld, Alignment: "policy", Policy: stream.ModelVersion{Name: "lm", Step: 100}}
	for name, c := range map[string]struct {
		change    func(a *config.Alignment)
		st        stream.Rollout
		published int64
		counts    Counts
		want      []string // a part of each line
	}{
		"alignment is off":         {change: func(a *config.Alignment) { a.Enabled = false }, want: []string{"alignment.enabled to be true"}},
		"nothing is there":         {want: []string{"0 of the 50 iterations", "it takes 1 "}},
		"the policy is young":      {published: 30, counts: of(20, 0, 0), want: []string{"30 of the 50 iterations that it takes (alignment.rollout_steps); it publishes every 10 of"}},
		"as far as the last one":   {st: before, published: 100, counts: of(20, 0, 0), want: []string{"0 of the 50"}},
		"a policy of another name": {st: stream.Rollout{ID: 1, Alignment: "other", Policy: before.Policy}, published: 50, counts: of(20, 0, 0), want: []string{"pregenerator"}},
		"texts are few":            {published: 50, counts: of(3, 40, 58), want: []string{"3 items have one, 98 wait for theirs; it takes 20 "}},
		"of a small catalogue":     {published: 50, counts: of(3, 4, 0), want: []string{"it takes 4 "}},
		"half have a text":         {st: before, published: 150, counts: of(4, 2, 2), want: []string{"all else is there"}},
		"as many as it takes have": {published: 50, counts: of(20, 500, 0), want: []string{"all else is there"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := config.Default().Alignment
			a.Enabled, a.RolloutSteps, a.Refresh, a.RolloutItems = true, 50, 10, 20
			if c.change != nil {
				c.change(&a)
			}
			got := Waits(a, c.st, c.published, c.counts)
			require.Len(t, got, len(c.want), "%q", got)
			for i, part := range c.want {
				require.Contains(t, got[i], part)
			}
		})
	}
}
