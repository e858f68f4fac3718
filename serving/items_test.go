package serving

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/serving/problem"
	"seralm/stream"
)

func TestAnItemIsToldAsItIsKnown(t *testing.T) {
	r := newRig(t)
	r.load(20, nil)
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	require.True(t, r.items.Apply(stream.Event[stream.Item]{Time: at, Body: stream.Item{Item: "i3", Title: "Heat", Categories: []string{"Crime"}, Hidden: true}}))
	r.announce("new", "Not learnt yet")
	r.forget("i4")

	get := func(id string) itemAnswer { return decode[itemAnswer](t, r.ask("GET", "/v1/items/"+id, "")) }
	require.Equal(t, itemAnswer{Item: "i3", Title: "Heat", Categories: []string{"Crime"}, Hidden: true, Time: at, Modelled: true}, get("i3"))
	require.Equal(t, itemAnswer{Item: "new", Title: "Not learnt yet", Categories: []string{}}, get("new"))
	require.Equal(t, itemAnswer{Item: "i5", Categories: []string{}, Modelled: true}, get("i5"), "only the model knows it")
	require.Equal(t, 404, r.ask("GET", "/v1/items/i4", "").Code, "deleted, although the model knows it")
}

func TestASearchFindsWhatMayBeShown(t *testing.T) {
	r := newRig(t)
	r.load(20, nil)
	r.announce("i3", "The Heat")
	r.announce("m1", "Heat")
	r.announce("m2", "Ronin")
	r.hide("i5")
	find := func(parameters string) (out []string) {
		for _, i := range decode[itemsAnswer](t, r.ask("GET", "/v1/items"+parameters, "")).Items {
			out = append(out, i.Item)
		}
		return out
	}
	require.Equal(t, []string{"m1", "i3"}, find("?query=heat"))
	require.Equal(t, []string{"m1"}, find("?query=heat&n=1"))
	require.Empty(t, find("?query=nothing"))
	require.ElementsMatch(t, []string{"i3", "m1", "m2"}, find(""))
	require.Contains(t, r.ask("GET", "/v1/items?query=nothing", "").Body.String(), `"items":[]`)
}

func TestOneSearchAtATimeAndTheNextWaitsForItsDeadlineOnly(t *testing.T) {
	r := newRig(t)
	r.searches <- struct{}{}
	w := r.ask("GET", "/v1/items?query=heat", "")
	require.Equal(t, 503, w.Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	<-r.searches
	require.Equal(t, 200, r.ask("GET", "/v1/items?query=heat", "").Code)
	require.Equal(t, 200, r.ask("GET", "/v1/items?query=heat", "").Code, "a search leaves its turn to the next")
}

func TestAHistoryIsToldWithTitlesOldestFirst(t *testing.T) {
	r := newRig(t)
	r.announce("i3", "Heat")
	r.views.histories["a/b"] = []string{"i2", "i3", "i4"}
	get := func(target string) historyAnswer { return decode[historyAnswer](t, r.ask("GET", target, "")) }
	require.Equal(t, historyAnswer{User: "a/b", Items: []historyItem{{"i2", ""}, {"i3", "Heat"}, {"i4", ""}}}, get("/v1/users/a%2Fb/history"))
	require.Equal(t, historyAnswer{User: "a/b", Items: []historyItem{{"i4", ""}}}, get("/v1/users/a%2Fb/history?n=1"))
	require.Contains(t, r.ask("GET", "/v1/users/nobody/history", "").Body.String(), `"items":[]`)

	r.views.err = errDown
	w := r.ask("GET", "/v1/users/a%2Fb/history", "")
	require.Equal(t, 503, w.Code)
	require.Equal(t, "try again; recommendations are answered meanwhile", decode[problem.Problem](t, w).Remedy)
}

func TestAHangingHistoryIsGivenUp(t *testing.T) {
	r := newRig(t, func(d *Deps) { d.Config.Redis.Timeout = time.Millisecond })
	r.views.hang = true
	require.Equal(t, 503, r.ask("GET", "/v1/users/ann/history", "").Code)
}
