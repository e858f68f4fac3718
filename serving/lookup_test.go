package serving

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"seralm/serving/internal/specimen"
)

// shown are the items of an answer, and each other source than the answer's as a
// suffix.
func shown(a *answer) []string {
	out := []string{}
	for _, i := range a.Items {
		if i.Source != a.Source {
			i.Item += " " + i.Source
		}
		out = append(out, i.Item)
	}
	return out
}

// The specimen model has the items i2 ... i19. It puts the successors of the
// history's items first, then low rows.
func TestLookUps(t *testing.T) {
	no := false
	for name, c := range map[string]struct {
		given  func(*rig)
		query  query
		source string
		items  []string
	}{
		"a known user gets what follows their items": {
			query: query{User: "ann"}, source: sourcePersonalised, items: ids(8, 15, 2, 3),
		},
		"what was seen is left out, as far as it is stored": {
			given: func(r *rig) { r.views.histories["ann"] = ids(2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14) },
			query: query{User: "ann"}, source: sourcePersonalised, items: ids(15, 16, 17, 18),
		},
		"unless it is asked for": {
			given: func(r *rig) { r.views.histories["ann"] = ids(7, 8) },
			query: query{User: "ann", ExcludeSeen: &no}, source: sourcePersonalised, items: ids(8, 9, 2, 3),
		},
		"an unknown user gets popular items": {
			query: query{User: "nobody"}, source: sourcePopular, items: ids(19, 18, 7, 14),
		},
		"nobody in particular gets popular items": {
			query: query{}, source: sourcePopular, items: ids(19, 18, 7, 14),
		},
		"an anonymous history is answered as a session": {
			query: query{History: ids(4)}, source: sourceSession, items: ids(5, 2, 3, 6),
		},
		"a given history replaces the stored one": {
			query: query{User: "ann", History: ids(4)}, source: sourceSession, items: ids(5, 2, 3, 6),
		},
		"a session goes on where the stored history ends": {
			query: query{User: "ann", Session: ids(10)}, source: sourcePersonalised, items: ids(8, 11, 15, 2),
		},
		"a session of an unknown user stands alone": {
			query: query{User: "nobody", Session: ids(10)}, source: sourceSession, items: ids(11, 2, 3, 4),
		},
		"a session whose events were stored already is not counted twice": {
			given: func(r *rig) { r.views.histories["ann"] = append(ids(10), repeat(specimen.ID(5), 9)...) },
			query: query{User: "ann", Session: ids(10)}, source: sourcePersonalised, items: ids(6, 11, 2, 3),
		},
		"an item the model does not know counts as the unknown item": {
			query: query{History: append(ids(4), "new")}, source: sourceSession, items: ids(5, 2, 3, 6),
		},
		"a history of unknown items says nothing": {
			query: query{History: []string{"new", "newer"}}, source: sourcePopular, items: ids(19, 18, 7, 14),
		},
		"nor does a known item that is older than what the model looks at": {
			query: query{History: append(ids(4), repeat("new", 10)...)}, source: sourcePopular, items: ids(19, 18, 7, 14),
		},
		"excluded items are left out": {
			query: query{User: "ann", Exclude: append(ids(8, 2), "new")}, source: sourcePersonalised, items: ids(15, 3, 4, 5),
		},
		"excluded items are left out of the popular ones too": {
			query: query{Exclude: ids(19, 7, 2)}, source: sourcePopular, items: ids(18, 14, 3, 4),
		},
		"only candidates are ranked, each once": {
			query: query{User: "ann", Candidates: append(ids(19, 15, 15, 3), "new")}, source: sourcePersonalised, items: ids(15, 3, 19),
		},
		"a candidate that was seen is left out": {
			query: query{User: "ann", Candidates: ids(7, 8)}, source: sourcePersonalised, items: ids(8),
		},
		"a candidate that only the popular list knows comes last": {
			given: func(r *rig) { r.liked("new") },
			query: query{User: "ann", Candidates: append(ids(3), "new")}, source: sourcePersonalised, items: []string{"i3", "new popular"},
		},
		"no candidates, no items": {
			query: query{User: "ann", Candidates: []string{}}, source: sourceNone, items: []string{},
		},
		"hidden and deleted items never appear": {
			given: func(r *rig) { r.hide("i8"); r.forget("i2") },
			query: query{User: "ann"}, source: sourcePersonalised, items: ids(15, 3, 4, 5),
		},
		"nor among the popular ones": {
			given: func(r *rig) { r.hide("i19"); r.forget("i7") },
			query: query{User: "nobody"}, source: sourcePopular, items: ids(18, 14, 3, 2),
		},
		"a category that no popular item has is filled from what the model recommends to a stranger": {
			given: func(r *rig) { r.announce("i12", "Twelve", "Noir"); r.announce("i3", "Three", "Noir") },
			query: query{User: "nobody", Categories: []string{"noir"}}, source: sourcePopular, items: ids(3, 12),
		},
		"categories narrow the answer": {
			given: func(r *rig) {
				r.announce("i5", "Five", "Drama")
				r.announce("i9", "Nine", "comedy", "Crime")
				r.announce("i15", "Fifteen", "Crime")
			},
			query: query{User: "ann", Categories: []string{"Comedy", "drama"}}, source: sourcePersonalised, items: ids(5, 9),
		},
		"what the model cannot fill is filled with popular items that it does not know": {
			given: func(r *rig) { r.liked("hit", "i3", "miss") },
			query: query{User: "ann", Exclude: ids(4, 5, 6, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19)}, source: sourcePersonalised,
			items: []string{"i2", "i3", "hit popular", "miss popular"},
		},
		"histories cannot be read: popular items": {
			given: func(r *rig) { r.views.err = errDown },
			query: query{User: "ann"}, source: sourcePopular, items: ids(19, 18, 7, 14),
		},
		"histories cannot be read, but the request brings a session": {
			given: func(r *rig) { r.views.err = errDown },
			query: query{User: "ann", Session: ids(4)}, source: sourceSession, items: ids(5, 2, 3, 6),
		},
		"histories are not read in time": {
			given: func(r *rig) { r.views.hang = true },
			query: query{User: "ann"}, source: sourcePopular, items: ids(19, 18, 7, 14),
		},
		"the model fails: items like the last known one": {
			given: func(r *rig) { r.engine.Err = errDown },
			query: query{User: "ann", Session: append(ids(3), "new")}, source: sourceSimilar, items: ids(4, 5, 2, 6),
		},
		"no popular items were ever read: what the model recommends to a stranger": {
			given: func(r *rig) { r.popular.last.Store(nil) },
			query: query{User: "nobody", Exclude: ids(3)}, source: sourcePopular, items: ids(2, 4, 5, 6),
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.load(20, nil)
			r.views.histories["ann"] = ids(7, 14)
			r.liked("i19", "i18", "i7", "i14", "i3")
			r.views.popular = nil
			if c.given != nil {
				c.given(r)
			}
			c.query.N = 4
			a := r.lookups.look(t.Context(), &c.query)
			require.Equal(t, c.source, a.Source)
			require.Equal(t, c.items, shown(a))
			require.Equal(t, 1.0, testutil.ToFloat64(r.lookups.answered.WithLabelValues(c.source)))
			require.NotNil(t, a.Model)
			require.Len(t, a.ID, 26)
		})
	}
}

func repeat(id string, n int) []string { return strings.Split(strings.Repeat(id+" ", n-1)+id, " ") }

func TestLookUpsWithoutAModel(t *testing.T) {
	r := newRig(t)
	r.views.histories["ann"] = ids(7)
	a := r.lookups.look(t.Context(), &query{User: "ann", N: 3})
	require.Equal(t, sourceNone, a.Source)
	require.NotNil(t, a.Items, "an empty list, not null")
	require.Nil(t, a.Model)

	r.liked("i7", "i3", "i5")
	a = r.lookups.look(t.Context(), &query{User: "ann", N: 3})
	require.Equal(t, sourcePopular, a.Source)
	require.Equal(t, ids(3, 5), shown(a), "what was seen is known without a model")
}

func TestOnlyAnnouncedItemsWhereThatIsAskedFor(t *testing.T) {
	r := newRig(t, func(d *Deps) { d.Config.Serving.Unannounced = false })
	r.load(20, nil)
	r.liked("i9", "i4")
	r.announce("i4", "Four")
	r.announce("i6", "Six")
	require.Equal(t, ids(4, 6), shown(r.lookups.look(t.Context(), &query{History: ids(3), N: 5})))
	require.Equal(t, ids(4, 6), shown(r.lookups.look(t.Context(), &query{N: 5})))
}

func TestAnAnswerCarriesTitlesScoresAndReasons(t *testing.T) {
	r := newRig(t)
	r.load(20, nil)
	r.announce("i8", "Heat")
	r.announce("i7", "Ronin")
	r.announce("i5", "Casino")
	a := r.lookups.look(t.Context(), &query{History: ids(2, 7), N: 2, Explain: true})
	require.Equal(t, answerItem{Item: "i3", Score: 997, Source: sourceSession, Because: &because{Item: "i2"}}, a.Items[0])
	require.Equal(t, answerItem{Item: "i8", Title: "Heat", Score: 992, Source: sourceSession, Because: &because{"i7", "Ronin"}}, a.Items[1])

	a = r.lookups.look(t.Context(), &query{History: ids(2, 7), N: 2})
	require.Nil(t, a.Items[0].Because, "only when asked for")
}

func TestTheModelSeesOnlyTheNewestItemsButAllStoredOnesAreSeen(t *testing.T) {
	r := newRig(t)
	r.load(40, nil)
	r.views.histories["ann"] = ids(5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20) // the model looks at 10
	a := r.lookups.look(t.Context(), &query{User: "ann", N: 3})
	require.Equal(t, ids(21, 2, 3), shown(a))
	require.Equal(t, r.cfg.Histories.Length, r.views.asked[0])
}

func TestALookUpThatWaitsTooLongForItsTurnIsAnsweredFromMemory(t *testing.T) {
	r := newRig(t, func(d *Deps) {
		d.Config.Serving.Concurrency = 1
		d.Config.Serving.Deadline = 30 * time.Millisecond
	})
	r.liked("i4")
	r.load(20, func(e *specimen.Engine) { e.Block = make(chan struct{}) })
	var stuck sync.WaitGroup
	stuck.Go(func() { r.lookups.look(t.Context(), &query{History: ids(3), N: 1}) })
	require.Eventually(t, func() bool { return len(r.lookups.slots) == 1 }, time.Second, time.Millisecond)

	start := time.Now()
	a := r.lookups.look(t.Context(), &query{History: ids(3), N: 1})
	require.Equal(t, sourcePopular, a.Source)
	require.Less(t, time.Since(start), 500*time.Millisecond)
	require.Equal(t, 1.0, testutil.ToFloat64(r.lookups.overtaken))
	close(r.engine.Block)
	stuck.Wait()
	require.Empty(t, r.lookups.slots)
}

func TestAHistoryHasItsOwnDeadline(t *testing.T) {
	r := newRig(t)
	r.lookups.look(t.Context(), &query{User: "ann", N: 1})
	require.Greater(t, r.views.deadlines, time.Duration(0))
	require.LessOrEqual(t, r.views.deadlines, r.cfg.Serving.HistoryDeadline)
}

func TestAnOutageOfTheHistoriesIsLoggedOnceAndItsEndToo(t *testing.T) {
	var logs bytes.Buffer
	r := newRig(t, func(d *Deps) { d.Log = slog.New(slog.NewTextHandler(&logs, nil)) })
	for _, err := range []error{nil, errDown, errDown, errDown, nil, nil} {
		r.views.err = err
		r.lookups.look(t.Context(), &query{User: "secret-user", N: 1})
	}
	require.Equal(t, 1, strings.Count(logs.String(), "cannot be read"))
	require.Equal(t, 1, strings.Count(logs.String(), "can be read again"))
	require.NotContains(t, logs.String(), "secret-user")
	require.Equal(t, 3.0, testutil.ToFloat64(r.lookups.unread))
}

func TestPopularItemsOutliveTheirView(t *testing.T) {
	r := newRig(t)
	r.liked("a", "b")
	r.views.err = errDown
	require.Error(t, r.popular.refresh(t.Context()))
	require.Len(t, r.popular.items(), 2, "the view is away")
	r.views.err, r.views.popular = nil, nil
	require.NoError(t, r.popular.refresh(t.Context()))
	require.Len(t, r.popular.items(), 2, "the view was wiped and is being rebuilt")
	r.liked("c")
	require.Equal(t, "c", r.popular.items()[0].Item)
}

// Many look-ups at once share memory through a pool: no answer may change later.
func TestAnswersDoNotShareMemory(t *testing.T) {
	r := newRig(t, func(d *Deps) { d.Config.Serving.Deadline = patience })
	r.load(20, nil)
	r.liked("i19", "x", "y")
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 200 {
				row := 2 + (g+i)%16
				a := r.lookups.look(t.Context(), &query{History: ids(row), N: 3, Explain: true, Candidates: nil})
				b := r.lookups.look(t.Context(), &query{N: 2, Exclude: ids(19)})
				if a.Items[0].Item != specimen.ID(row+1) || a.Items[0].Because.Item != specimen.ID(row) {
					t.Errorf("history %d: %+v", row, a.Items[0])
				}
				if b.Items[0].Item != "x" || len(b.Items) != 2 {
					t.Errorf("popular: %+v", b.Items)
				}
			}
		})
	}
	all.Wait()
}
