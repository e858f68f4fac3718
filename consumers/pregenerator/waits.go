package pregenerator

import (
	"fmt"

	"seralm/config"
	"seralm/stream"
)

// Waits says what the next roll-out waits for, one line each, given the newest one (ID 0:
// there never was one), the iterations that the policy has published (0: nothing yet) and
// what items have. It tells by the log what due decides.
func Waits(a config.Alignment, st stream.Rollout, published int64, c Counts) (lines []string) {
	if !a.Enabled {
		return []string{"alignment.enabled to be true"}
	}
	last := int64(0)
	if st.Alignment == a.Name {
		last = st.Policy.Step
	}
	if made := published - last; made < a.RolloutSteps {
		line := fmt.Sprintf("the policy: %d of the %d iterations that it takes (alignment.rollout_steps)", max(0, made), a.RolloutSteps)
		if a.Refresh > 1 {
			line += fmt.Sprintf("; it publishes every %d of them (alignment.refresh)", a.Refresh)
		}
		lines = append(lines, line)
	}
	if without := c.Titles + c.Without; !enough(c.Texts, without, a.RolloutItems) {
		takes := max(1, (c.Texts+without+1)/2)
		if a.RolloutItems > 0 {
			takes = min(takes, a.RolloutItems)
		}
		lines = append(lines, fmt.Sprintf("texts: %d items have one, %d wait for theirs; it takes %d (half of the items, or alignment.rollout_items)", c.Texts, without, takes))
	}
	if len(lines) == 0 {
		lines = append(lines, "the pregenerator: all else is there, it begins when the present batch of texts is written")
	}
	return lines
}
