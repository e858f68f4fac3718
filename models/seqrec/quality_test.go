package seqrec

import (
	"compress/gzip"
	"encoding/csv"
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/models/metrics"
	"seralm/models/snapshot"
	"seralm/models/vocab"
)

// readRatings returns each user's films rated 3 and more, oldest first, as rows.
func readRatings(t *testing.T) (histories [][]int32, rows int) {
	t.Helper()
	file, err := os.Open("../../testdata/ml-latest-small/ratings.csv.gz")
	require.NoError(t, err)
	defer file.Close()
	plain, err := gzip.NewReader(file)
	require.NoError(t, err)
	lines, err := csv.NewReader(plain).ReadAll()
	require.NoError(t, err)

	type rating struct {
		row  int32
		time int64
	}
	users, films := map[string][]rating{}, map[string]int32{}
	var order []string // of users
	for _, line := range lines[1:] {
		user, film := line[0], line[1]
		value, err := strconv.ParseFloat(line[2], 64)
		require.NoError(t, err)
		time, err := strconv.ParseInt(line[3], 10, 64)
		require.NoError(t, err)
		if value < 3 {
			continue
		}
		if _, ok := films[film]; !ok {
			films[film] = int32(vocab.FirstItem + len(films))
		}
		if users[user] == nil {
			order = append(order, user)
		}
		users[user] = append(users[user], rating{films[film], time})
	}
	for _, user := range order {
		rated := users[user]
		sort.SliceStable(rated, func(i, j int) bool { return rated[i].time < rated[j].time })
		var items []int32
		for _, r := range rated {
			items = append(items, r.row)
		}
		histories = append(histories, items)
	}
	return histories, vocab.FirstItem + len(films)
}

// Leave-one-out: all but each user's last film is learnt, the last is ranked among
// all films that the user has not rated.
func TestSASRecRanksAsWellAsItDid(t *testing.T) {
	const (
		want, tolerance = 0.0385, 0.01 // NDCG@10; popularity's is 0.0175
		epochs, batch   = 6, 64
	)
	histories, rows := readRatings(t)
	hyper := Hyper{Name: "sasrec", Dim: 32, Layers: 2, Heads: 2, Inner: 64, MaxLen: 50}
	o := Options{Seed: 1, LearningRate: 4e-3, Dropout: 0.2, ClipNorm: 5, Threads: 1}
	m, err := New(hyper, rows, o)
	require.NoError(t, err)
	defer m.Close()
	popularity := NewPopularity()
	require.NoError(t, popularity.Resize(rows))

	var windows []Sequence
	for _, items := range histories {
		items = items[:len(items)-1]
		_, err := popularity.Learn(t.Context(), []Sequence{{Items: items}}, 0)
		require.NoError(t, err)
		for ; len(items) >= 2; items = items[min(hyper.MaxLen, len(items)):] {
			windows = append(windows, Sequence{Items: items[:min(hyper.MaxLen+1, len(items))]})
		}
	}
	r, step := rand.New(rand.NewPCG(1, 1)), uint64(0)
	for range epochs {
		r.Shuffle(len(windows), func(i, j int) { windows[i], windows[j] = windows[j], windows[i] })
		for from := 0; from < len(windows); from += batch {
			_, err := m.Learn(t.Context(), windows[from:min(from+batch, len(windows))], step)
			require.NoError(t, err)
			step++
		}
	}

	before := make([][]int32, len(histories))
	for i, items := range histories {
		before[i] = items[:len(items)-1]
	}
	ndcg := func(m Recommender) (mean float64) {
		scores, err := m.Scores(t.Context(), before)
		require.NoError(t, err)
		for i, items := range histories {
			rank := metrics.Rank(scores[i], items[len(items)-1], before[i])
			mean += metrics.NDCG(rank, 10) / float64(len(histories))
		}
		return mean
	}
	got := ndcg(m)
	require.InDelta(t, want, got, tolerance)
	require.Greater(t, got, 1.5*ndcg(popularity))

	state, err := m.State()
	require.NoError(t, err)
	saved, err := snapshot.EncodeTensors(state)
	require.NoError(t, err)
	state, err = snapshot.DecodeTensors(saved)
	require.NoError(t, err)
	again, err := New(hyper, vocab.FirstItem, o)
	require.NoError(t, err)
	defer again.Close()
	require.NoError(t, again.Restore(state, rows))
	want50, err := m.Scores(t.Context(), before[:50])
	require.NoError(t, err)
	got50, err := again.Scores(t.Context(), before[:50])
	require.NoError(t, err)
	require.Equal(t, want50, got50)
}
