package serving

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/stream"
)

func TestAnItemIsReadWholeFromTheLogAsItWasJustWritten(t *testing.T) {
	p := newPlant(t, func(d *Deps) { d.Config.Serving.Catalogue = 2 })
	put := func(id string, item *stream.Item) map[int32]int64 {
		rec := p.item(id, item)
		p.write(rec)
		return map[int32]int64{rec.Partition: rec.Offset}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	for _, text := range []string{"A heist.", "A heist, and a coffee."} {
		after := put("m1", &stream.Item{Title: "Heat", Text: text, Categories: []string{"Crime"}})
		item, ok, err := p.Current(ctx, "m1", after)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, text, item.Text, "who has just written it sees it")
		require.Equal(t, []string{"Crime"}, item.Categories)
	}

	_, ok, err := p.Current(ctx, "unknown", nil)
	require.NoError(t, err)
	require.False(t, ok)
	_, ok, err = p.Current(ctx, "m1", put("m1", nil))
	require.NoError(t, err)
	require.False(t, ok, "deleted")

	put("m2", &stream.Item{Title: "Ronin"})
	_, _, err = p.Current(ctx, "m3", put("m3", &stream.Item{Title: "no room"}))
	require.ErrorContains(t, err, "the catalogue had no room for (serving.catalogue is 2)")

	_, ok, err = p.Current(ctx, "m2", nil)
	require.NoError(t, err)
	require.True(t, ok)
}

func TestAnItemIsNotToldBeforeTheLogWasReadSoFar(t *testing.T) {
	r := newRig(t)
	r.announce("m1", "Heat")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	_, _, err := r.Current(ctx, "m1", nil)
	require.ErrorContains(t, err, "the items topic has not been read far enough")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
