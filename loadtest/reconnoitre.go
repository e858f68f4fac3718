package loadtest

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

const (
	scouts     = 50  // users asked for the items they are recommended
	scoutItems = 100 // items asked for each
	firstWord  = 5 * time.Second
)

// reconnoitre makes sure that somebody answers at t before a whole run is spent on
// a wrong port, and returns the items for the run's events: those given, or those
// that the server recommends to the run's first users.
func reconnoitre(ctx context.Context, t target, o Options) ([]string, error) {
	c := newConnection(t, o)
	defer c.close()
	known := map[string]bool{}
	var items []string
	for i, user := range o.Users[:min(len(o.Users), scouts)] {
		body, status, err := c.roundTrip(ctx, c.lookupRequest(user, max(o.N, scoutItems)), time.Now().Add(firstWord), true)
		if err != nil {
			return nil, fmt.Errorf("asking %s for a recommendation: %w (is the server up, and is this its address?)", o.Target, err)
		}
		if status != http.StatusOK {
			return nil, fmt.Errorf("asking %s for a recommendation: status %d: %.200s", o.Target, status, body)
		}
		if !o.usesItems() || len(o.Items) > 0 {
			return o.Items, nil
		}
		a, class := inspect(body)
		if class == "bad_answer" {
			return nil, fmt.Errorf("%s does not answer like SeRALM: %.200s", o.Target, body)
		}
		for _, item := range a.items {
			if !known[item] {
				known[item] = true
				items = append(items, item)
			}
		}
		if i == 0 && len(items) == 0 {
			return nil, fmt.Errorf("%s recommends nothing yet: send it events first, or name the items to click", o.Target)
		}
	}
	return items, nil
}
