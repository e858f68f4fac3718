package serving

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"seralm/models/vocab"
	"seralm/serving/internal/specimen"
)

// world is one combination of what can be missing when a look-up comes.
type world struct {
	views   string // up, down, hanging
	model   string // there, absent, failing, overloaded
	popular bool   // popular items were read once
}

func worlds() (all []world) {
	for _, views := range []string{"up", "down", "hanging"} {
		for _, model := range []string{"there", "absent", "failing", "overloaded"} {
			all = append(all, world{views, model, true}, world{views, model, false})
		}
	}
	return all
}

// build makes a server in that world. Of the model's items i2 ... i39, i4 and i6
// are hidden, i9 is deleted; "hit", "gone" and "quiet" are popular and unknown to
// the model, "gone" is deleted and "quiet" hidden. Odd items are announced, every
// third of these as Drama.
func (w world) build(t *testing.T, change ...func(*Deps)) *rig {
	r := newRig(t, append(change, func(d *Deps) {
		d.Config.Serving.Concurrency = 1
	})...)
	for row := 3; row < 40; row += 2 {
		if row%3 == 0 {
			r.announce(specimen.ID(row), fmt.Sprint("Title ", row), "Drama")
		} else {
			r.announce(specimen.ID(row), fmt.Sprint("Title ", row))
		}
	}
	for _, id := range []string{"i4", "i6", "quiet"} {
		r.hide(id)
	}
	for _, id := range []string{"i9", "gone"} {
		r.forget(id)
	}
	for row := 2; row < 12; row++ {
		r.views.histories[fmt.Sprint("user", row)] = append(ids(row, row+1, row+2), "old")
	}
	if w.popular {
		r.liked("gone", "i9", "quiet", "i4", "i20", "hit", "i21", "i5", "old", "i3", "i33")
	}
	switch w.model {
	case "there":
		r.load(40, nil)
	case "failing":
		r.load(40, func(e *specimen.Engine) { e.Err = errDown })
	case "overloaded":
		r.load(40, nil)
		r.lookups.slots <- struct{}{} // another look-up is being scored, and does not end
	}
	switch w.views {
	case "down":
		r.views.err = errDown
	case "hanging":
		r.views.hang = true
	}
	return r
}

func TestTheSourceOfAnAnswerInEveryCombinationOfFailures(t *testing.T) {
	for _, w := range worlds() {
		t.Run(fmt.Sprintf("%+v", w), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := w.build(t)
				lesser := sourceNone
				if w.popular || w.model != "absent" { // a model knows what strangers like, too
					lesser = sourcePopular
				}
				stored, brought := lesser, lesser
				switch w.model {
				case "there":
					stored, brought = sourcePersonalised, sourceSession
				case "failing":
					stored, brought = sourceSimilar, sourceSimilar
				}
				if w.views != "up" {
					stored = lesser
				}
				for _, c := range []struct {
					query  query
					source string
				}{
					{query{User: "user7"}, stored},
					{query{User: "nobody"}, lesser},
					{query{}, lesser},
					{query{User: "nobody", Session: ids(12)}, brought},
					{query{History: ids(12)}, brought},
				} {
					c.query.N = 3
					require.Equal(t, c.source, r.lookups.look(t.Context(), &c.query).Source, "%+v", c.query)
				}
			})
		})
	}
}

// Time stands still in this test but for what waits for it.
func TestNoLookUpOutlivesItsDeadline(t *testing.T) {
	for _, w := range worlds() {
		t.Run(fmt.Sprintf("%+v", w), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := w.build(t)
				start := time.Now()
				r.lookups.look(t.Context(), &query{User: "user7", N: 3})
				want := time.Duration(0)
				switch {
				case w.views == "hanging":
					want = r.cfg.Serving.HistoryDeadline // nothing is left to be scored
				case w.views == "up" && w.model == "overloaded":
					want = r.cfg.Serving.Deadline
				}
				require.Equal(t, want, time.Since(start))

				start = time.Now()
				r.lookups.look(t.Context(), &query{User: "user7", Session: ids(12), N: 3})
				if w.model == "overloaded" {
					want = r.cfg.Serving.Deadline
				}
				require.Equal(t, want, time.Since(start), "with a session")
			})
		})
	}
}

// Whatever is missing and whatever is asked: at most n items, none twice, none
// that was excluded or seen, none hidden or deleted, and as many as there are.
func TestEveryAnswerKeepsTheRules(t *testing.T) {
	for i, w := range worlds() {
		for _, unannounced := range []bool{true, false} {
			t.Run(fmt.Sprintf("%+v unannounced %t", w, unannounced), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := w.build(t, func(d *Deps) { d.Config.Serving.Unannounced = unannounced })
					rng := rand.New(rand.NewPCG(uint64(i), 11))
					for range 100 {
						q := randomQuery(rng)
						requireRules(t, r, q, r.lookups.look(t.Context(), q))
					}
				})
			})
		}
	}
}

func randomQuery(rng *rand.Rand) *query {
	some := func(most int) (out []string) {
		if rng.IntN(2) == 0 {
			return nil
		}
		for range rng.IntN(most + 1) {
			out = append(out, []string{specimen.ID(2 + rng.IntN(40)), specimen.ID(2 + rng.IntN(12)), "hit", "gone", "quiet", "old", "new"}[rng.IntN(7)])
		}
		return out
	}
	q := &query{
		N:       1 + rng.IntN(50),
		History: some(20), Session: some(5), Exclude: some(20), Candidates: some(30),
		Explain: rng.IntN(2) == 0,
	}
	if rng.IntN(3) > 0 {
		q.User = fmt.Sprint("user", rng.IntN(14))
	}
	if rng.IntN(4) == 0 {
		q.Categories = []string{"drama", "Crime"}
	}
	if rng.IntN(3) == 0 {
		seen := rng.IntN(2) == 0
		q.ExcludeSeen = &seen
	}
	return q
}

func requireRules(t *testing.T, r *rig, q *query, a *answer) {
	t.Helper()
	about := fmt.Sprintf("%+v\n%+v", *q, *a)
	seen := slices.Concat(q.History, q.Session)
	if len(q.History) == 0 && r.views.err == nil && !r.views.hang {
		seen = append(seen, r.views.histories[q.User]...)
	}
	allowed := func(id string) bool {
		item, known := r.items.Get(id)
		switch {
		case slices.Contains(q.Exclude, id), q.excludeSeen() && slices.Contains(seen, id):
			return false
		case q.Candidates != nil && !slices.Contains(q.Candidates, id):
			return false
		case !known || item.Entry() == nil:
			return r.cfg.Serving.Unannounced && len(q.Categories) == 0
		}
		return item.Entry().Recommendable() && (len(q.Categories) == 0 || item.Entry().In(q.Categories))
	}

	require.LessOrEqual(t, len(a.Items), q.N, about)
	counted := map[string]bool{}
	for _, p := range r.popular.items() {
		counted[p.Item] = true
	}
	popular := slices.Index(sources, sourcePopular)
	source, score, ids := 0, float32(0), map[string]bool{}
	for i, item := range a.Items {
		require.True(t, allowed(item.Item), "%s\n%s", item.Item, about)
		require.False(t, ids[item.Item], "%s twice\n%s", item.Item, about)
		ids[item.Item] = true
		known, _ := r.items.Get(item.Item)
		require.Equal(t, title(known), item.Title)
		rank := slices.Index(sources, item.Source)
		if rank == popular && !counted[item.Item] {
			rank++ // popular with the model only: its score is a logit
		}
		require.GreaterOrEqual(t, rank, source, "better sources come first: %s", about)
		if i > 0 && rank == source {
			require.LessOrEqual(t, item.Score, score, about)
		}
		source, score = rank, item.Score
		if item.Because != nil {
			require.True(t, q.Explain)
			require.Contains(t, seen, item.Because.Item, about)
		}
	}
	if len(a.Items) == 0 {
		require.Equal(t, sourceNone, a.Source)
	} else {
		require.Equal(t, a.Items[0].Source, a.Source)
	}
	if len(a.Items) < q.N {
		for id := range counted {
			require.Equal(t, allowed(id), ids[id], "there was room for %s\n%s", id, about)
		}
		for row := vocab.FirstItem; row < 40 && a.Model != nil; row++ {
			id := specimen.ID(row)
			require.Equal(t, allowed(id), ids[id], "there was room for %s\n%s", id, about)
		}
	}
}

func TestAClientThatLeavesIsNoOutageOfTheHistories(t *testing.T) {
	r := newRig(t)
	r.views.hang = true
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r.lookups.look(ctx, &query{User: "user7", N: 1})
	require.Zero(t, testutil.ToFloat64(r.lookups.unread))
	require.False(t, r.lookups.blind.Load())
}

// Over HTTP, too, there is an answer in every world, while many ask at once.
func TestAStormOfLookUpsInEveryWorldGetsOnlyGoodAnswers(t *testing.T) {
	for _, w := range worlds() {
		r := w.build(t, func(d *Deps) {
			d.Config.Serving.Deadline, d.Config.Serving.HistoryDeadline = 4*time.Millisecond, 2*time.Millisecond
		})
		var all sync.WaitGroup
		for g := range 4 {
			all.Go(func() {
				for i := range 5 {
					got := r.ask("GET", fmt.Sprintf("/v1/recommendations/user%d?n=%d", g+i, 1+i), "")
					if got.Code != 200 || !strings.Contains(got.Body.String(), `"items":[`) {
						t.Errorf("%+v: %d %s", w, got.Code, got.Body)
					}
				}
			})
		}
		all.Wait()
	}
}
