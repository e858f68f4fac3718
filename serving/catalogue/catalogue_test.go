package catalogue

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/stream"
)

func described(id, title string, categories ...string) stream.Event[stream.Item] {
	return stream.Event[stream.Item]{Time: time.UnixMilli(1), Body: stream.Item{Item: id, Title: title, Categories: categories}}
}

func hidden(id, title string) stream.Event[stream.Item] {
	ev := described(id, title)
	ev.Body.Hidden = true
	return ev
}

func deleted(id string) stream.Event[stream.Item] {
	return stream.Event[stream.Item]{Deleted: true, Body: stream.Item{Item: id}}
}

func TestABoundItemSeesEveryLaterEvent(t *testing.T) {
	c := New(10)
	item := c.Bind([]string{"m1"})[0]
	require.Nil(t, item.Entry(), "no event has described it yet")
	require.Empty(t, item.Title())
	require.Zero(t, c.Size().Items)

	require.True(t, c.Apply(described("m1", "Heat", "Crime")))
	require.Equal(t, "Heat", item.Title())
	require.True(t, item.Entry().Recommendable())

	require.True(t, c.Apply(hidden("m1", "Heat")))
	require.False(t, item.Entry().Recommendable())

	require.True(t, c.Apply(deleted("m1")))
	require.True(t, item.Entry().Deleted)
	require.Empty(t, item.Title())
	require.Zero(t, c.Size().Items)

	require.True(t, c.Apply(described("m1", "Heat (1995)")))
	require.Equal(t, "Heat (1995)", item.Title())
	require.Equal(t, 1, c.Size().Items)
}

func TestADeletionIsRememberedForAModelThatIsLoadedLater(t *testing.T) {
	c := New(10)
	c.Apply(deleted("gone"))
	require.False(t, c.Bind([]string{"gone"})[0].Entry().Recommendable())
}

func TestAFullCatalogueRefusesNewItemsAndKeepsChangingOldOnes(t *testing.T) {
	c := New(2)
	require.True(t, c.Apply(described("a", "A")))
	require.True(t, c.Apply(described("b", "B")))
	require.False(t, c.Apply(described("c", "C")))
	require.True(t, c.Apply(described("a", "A2")))
	require.Equal(t, Size{Items: 2, Limit: 2, Refused: 1}, c.Size())
	_, ok := c.Get("c")
	require.False(t, ok)
}

func TestWhatIsKeptOfOneItemIsBounded(t *testing.T) {
	c := New(1)
	c.Apply(described("a", strings.Repeat("é", MaxTitle), make([]string, 200)...))
	a, _ := c.Get("a")
	require.LessOrEqual(t, len(a.Title()), MaxTitle)
	require.True(t, strings.HasSuffix(a.Title(), "é"), "no character is cut in two")
	require.Len(t, a.Entry().Categories, MaxCategories)
}

func TestCategoriesIgnoreCase(t *testing.T) {
	c := New(1)
	c.Apply(described("a", "A", "Film-Noir", "Crime"))
	a, _ := c.Get("a")
	require.True(t, a.Entry().In([]string{"comedy", "film-noir"}))
	require.False(t, a.Entry().In([]string{"comedy", "noir"}))
	require.False(t, a.Entry().In(nil))
}

func TestSearchRanksTheBeginningOfTitleThenOfWordThenTheRest(t *testing.T) {
	c := New(100)
	for i, title := range []string{"The Thing", "Something Wild", "Things to Come", "Wild Things", "Heat"} {
		c.Apply(described(fmt.Sprint(i), title))
	}
	c.Apply(hidden("h", "Thing hidden"))
	c.Apply(described("d", "Thing deleted"))
	c.Apply(deleted("d"))
	c.Bind([]string{"thing-undescribed"})

	titles := func(query string, n int) (out []string) {
		for _, i := range c.Search(context.Background(), query, n) {
			out = append(out, i.Title())
		}
		return out
	}
	require.Equal(t, []string{"Things to Come", "The Thing", "Wild Things", "Something Wild"}, titles(" THING ", 10))
	require.Equal(t, []string{"Things to Come", "The Thing"}, titles("thing", 2))
	require.Equal(t, []string{"Heat"}, titles("4", 10), "an id is found too")
	require.Equal(t, []string{"The Thing", "Something Wild"}, titles("", 2))
	require.Empty(t, titles("nothing like it", 10))
	require.Empty(t, titles("thing", 0))
}

func TestSearchStopsWhenItsContextEnds(t *testing.T) {
	c := New(10)
	c.Apply(described("a", "A"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.Empty(t, c.Search(ctx, "a", 10))
}

func TestReadersNeverSeeHalfAnEntry(t *testing.T) {
	c := New(100)
	item := c.Bind([]string{"a"})[0]
	var writers sync.WaitGroup
	writers.Go(func() {
		for i := range 2000 {
			text := fmt.Sprint(i)
			c.Apply(described("a", text, text))
			c.Bind([]string{text})
		}
	})
	for range 2000 {
		if e := item.Entry(); e != nil {
			require.Equal(t, e.Title, e.Categories[0])
		}
		c.Search(context.Background(), "1", 3)
	}
	writers.Wait()
}

func TestWhereAnItemIsInTheLogAndHowFarTheLogWasRead(t *testing.T) {
	c := New(1)
	require.True(t, c.Reached(nil))
	require.False(t, c.Reached(map[int32]int64{2: 0}))
	at := func(ev stream.Event[stream.Item], partition int32, offset int64) stream.Event[stream.Item] {
		ev.Partition, ev.Offset = partition, offset
		return ev
	}
	c.Apply(at(described("a", "A"), 2, 5))
	c.Apply(at(described("no room", "B"), 0, 7))
	a, _ := c.Get("a")
	require.EqualValues(t, 2, a.Entry().Partition)
	require.EqualValues(t, 5, a.Entry().Offset)
	require.True(t, c.Reached(map[int32]int64{2: 5, 0: 7}), "what was refused was read too")
	require.False(t, c.Reached(map[int32]int64{2: 6}))
	c.Apply(at(deleted("a"), 2, 9))
	require.EqualValues(t, 9, a.Entry().Offset)
}
