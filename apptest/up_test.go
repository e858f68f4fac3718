package apptest

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// walk posts n events of users who go through the items in a circle.
func walk(p *program, from, n int) {
	p.t.Helper()
	var events []map[string]any
	for i := from; i < from+n; i++ {
		user := i % 7
		events = append(events, map[string]any{
			"id": fmt.Sprint("e", i), "user": fmt.Sprint("u", user), "item": fmt.Sprint("i", (i/7+3*user)%200), "type": "click",
		})
	}
	p.post("/v1/interactions", map[string]any{"events": events})
}

func TestAnEventChangesWhatIsRecommended(t *testing.T) {
	p := run(t, seralm, append([]string{"SERALM_DATA_DIR=" + t.TempDir()}, small...), "up").up()
	p.post("/v1/items", []map[string]any{{"item": "i1", "title": "The First"}, {"item": "i2", "title": "The Second"}})
	walk(p, 0, 700)
	p.ready()
	p.knows("u1")

	var first map[string]any
	p.until("look-ups are personalised", func() bool { // on a slow machine a look-up may miss its deadline at first
		first = p.get("/v1/recommendations/u1?n=5")
		return len(items(first)) == 5
	})
	clicked := items(first)[0]
	p.post("/v1/interactions", map[string]any{"user": "u1", "item": clicked, "recommendation_id": first["recommendation_id"]})
	p.until("the clicked item is not recommended again", func() bool {
		return !slices.Contains(items(p.get("/v1/recommendations/u1?n=5")), clicked)
	})
	history := p.get("/v1/users/u1/history?n=1")
	require.Equal(t, []string{clicked}, items(history))

	p.until("the item's title is known", func() bool {
		status, answer, err := p.do("GET", "/v1/items/i1", nil)
		return err == nil && status == 200 && answer["title"] == "The First"
	})
	require.NoError(t, p.terminate(), "SIGTERM is a clean end")
}

// What the log acknowledged is there after the power came back: histories, model,
// catalogue.
func TestAfterAKillEverythingIsAsItWas(t *testing.T) {
	settings := append([]string{"SERALM_DATA_DIR=" + t.TempDir()}, small...)
	p := run(t, seralm, settings, "up").up()
	walk(p, 0, 350)
	p.ready()
	p.knows("u6")
	walk(p, 350, 350)
	p.kill()

	q := run(t, seralm, settings, "up").ready()
	q.until("the last event is in its user's history", func() bool {
		h := items(q.get("/v1/users/u6/history"))
		return len(h) == 100
	})
	for user := range 7 {
		h := items(q.get(fmt.Sprintf("/v1/users/u%d/history", user)))
		for i, item := range h {
			require.Equal(t, fmt.Sprint("i", (i+3*user)%200), item, "user %d, event %d", user, i)
		}
	}
	q.knows("u6")
	q.until("a new writer has published", func() bool {
		return q.get("/v1/status")["model"].(map[string]any)["epoch"].(float64) >= 2
	})
	require.NoError(t, q.terminate())
}

// Every metric that dashboards and alerts may use is there from the start.
func TestTheListedMetricsExist(t *testing.T) {
	p := run(t, seralm, slices.Concat([]string{"SERALM_DATA_DIR=" + t.TempDir()}, small, knowing, []string{"SERALM_ALIGNMENT_ENABLED=true"}), "up").up()
	walk(p, 0, 70)
	p.ready()
	p.get("/v1/recommendations/u1")
	f, err := os.Open("../ops/metrics.txt")
	require.NoError(t, err)
	defer f.Close()
	var names []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if words := strings.Fields(s.Text()); len(words) > 0 && strings.HasPrefix(words[0], "seralm_") {
			names = append(names, words[0])
		}
	}
	require.NotEmpty(t, names)
	// A vector without a value yet shows nothing: these need something to happen first.
	unseen := map[string]bool{"seralm_stream_dead_letters_total": true, "seralm_evaluator_quality": true, "seralm_generator_refused_total": true}
	for _, name := range names {
		if !unseen[name] {
			p.until("metric "+name+" is there", func() bool {
				return strings.Contains(p.get("/metrics")["text"].(string), "\n"+name)
			})
		}
	}
}

func TestReplayFindsTheBrokerThatRunsBesideIt(t *testing.T) {
	dir := "SERALM_DATA_DIR=" + t.TempDir()
	p := run(t, seralm, append([]string{dir}, small...), "up").up()
	out, errs, status := call(t, seralm, []string{dir}, "replay", "--dataset", "../testdata/ml-latest-small", "--limit", "500")
	require.Zero(t, status, errs)
	require.Contains(t, out, "500")
	p.ready()
	out, errs, status = call(t, seralm, []string{dir}, "snapshot", "inspect")
	require.Zero(t, status, errs)
	require.Contains(t, out, "tensor item_embedding.weight")
	version := regexp.MustCompile(`epoch (\d+)  step (\d+)`).FindStringSubmatch(out)
	out, errs, status = call(t, seralm, []string{dir}, "snapshot", "publish", version[1], version[2])
	require.Zero(t, status, errs)
	require.Contains(t, out, "published again")
	_, errs, status = call(t, seralm, []string{dir}, "snapshot", "publish", version[1], "999999")
	require.NotZero(t, status)
	require.Contains(t, errs, "no snapshot of recommender of epoch "+version[1]+" and step 999999")
	out, errs, status = call(t, seralm, []string{dir}, "snapshot", "list")
	require.Zero(t, status, errs)
	require.Regexp(t, `(?s)`+version[2]+` .*`+version[2]+` `, out, "it is there twice")
	// The oldest that is kept is written into the place where it is.
	oldest := regexp.MustCompile(`recommender +│ +(\d+) │ +(\d+) `).FindStringSubmatch(out)
	p.until("the oldest snapshot is the newest", func() bool { // the trainer may publish one besides
		_, errs, status = call(t, seralm, []string{dir}, "snapshot", "publish", oldest[1], oldest[2])
		require.Zero(t, status, errs)
		out, errs, status = call(t, seralm, []string{dir}, "snapshot", "inspect")
		require.Zero(t, status, errs)
		return strings.Contains(out, "epoch "+oldest[1]+"  step "+oldest[2])
	})
	out, errs, status = call(t, seralm, []string{dir}, "topics", "list")
	require.Zero(t, status, errs)
	require.Contains(t, out, "interactions")
}
