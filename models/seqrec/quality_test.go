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

// readRatings returns each user's films rated 3 and more, oldest first, as rows; of the
// films, those with as many ratings of all kinds.
func readRatings(t *testing.T, minRatings int) (histories [][]int32, rows int) {
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
	ratings := map[string]int{}
	for _, line := range lines[1:] {
		ratings[line[1]]++
	}
	users, films := map[string][]rating{}, map[string]int32{}
	var order []string // of users
	for _, line := range lines[1:] {
		user, film := line[0], line[1]
		value, err := strconv.ParseFloat(line[2], 64)
		require.NoError(t, err)
		time, err := strconv.ParseInt(line[3], 10, 64)
		require.NoError(t, err)
		if value < 3 || ratings[film] < minRatings {
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

// Leave-one-out on the films that are rated often: all but each user's last is learnt, the
// last is ranked among all that the user has not rated. A model that learns only what is
// popular ranks as popularity does.
func TestEachModelRanksAsWellAsItDid(t *testing.T) {
	const (
		tolerance = 0.01
		popular   = 0.0223 // popularity's NDCG@10
	)
	histories, rows := readRatings(t, 20)
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
	popularity := NewPopularity()
	require.NoError(t, popularity.Resize(rows))
	for _, items := range before {
		_, err := popularity.Learn(t.Context(), []Sequence{{Items: items}}, 0)
		require.NoError(t, err)
	}
	require.InDelta(t, popular, ndcg(popularity), 1e-4)

	for _, c := range []struct {
		hyper        Hyper
		rate         float64
		steps, batch int
		want         float64 // NDCG@10
	}{
		{Hyper{Name: "sasrec", Dim: 32, Layers: 2, Heads: 2, Inner: 64, MaxLen: 50}, 4e-3, 120, 64, 0.058},
		{Hyper{Name: "gru4rec", Dim: 32, Layers: 1, Inner: 64, MaxLen: 20}, 1e-2, 250, 64, 0.047},
		{Hyper{Name: "lightsans", Dim: 32, Layers: 1, Heads: 2, Inner: 64, MaxLen: 20, Interests: 4}, 4e-3, 220, 256, 0.044},
		{Hyper{Name: "paup", Dim: 32, Layers: 1, Heads: 2, Inner: 64, MaxLen: 20, Segments: 4, Kernel: 4}, 4e-3, 220, 256, 0.044},
		{Hyper{Name: "caser", Dim: 32, MaxLen: 10, Vertical: 4, Horizontal: 8}, 1e-2, 300, 256, 0.041},
	} {
		t.Run(c.hyper.Name, func(t *testing.T) {
			o := Options{Seed: 1, LearningRate: c.rate, Dropout: 0.2, ClipNorm: 5, Threads: 1}
			m, err := New(c.hyper, rows, o)
			require.NoError(t, err)
			defer m.Close()
			r := rand.New(rand.NewPCG(1, 1))
			for step := range uint64(c.steps) {
				_, err = m.Learn(t.Context(), pieces(r, before, c.batch), step)
				require.NoError(t, err)
			}
			got := ndcg(m)
			require.InDelta(t, c.want, got, tolerance)
			require.Greater(t, got, 1.5*popular)

			state, err := m.State()
			require.NoError(t, err)
			saved, err := snapshot.EncodeTensors(state)
			require.NoError(t, err)
			state, err = snapshot.DecodeTensors(saved)
			require.NoError(t, err)
			again, err := New(c.hyper, vocab.FirstItem, o)
			require.NoError(t, err)
			defer again.Close()
			require.NoError(t, again.Restore(state, rows))
			want, err := m.Scores(t.Context(), before[:50])
			require.NoError(t, err)
			same, err := again.Scores(t.Context(), before[:50])
			require.NoError(t, err)
			require.Equal(t, want, same)
		})
	}
}

// pieces draws n beginnings of histories, all of whose items are new.
func pieces(r *rand.Rand, histories [][]int32, n int) (batch []Sequence) {
	for len(batch) < n {
		items := histories[r.IntN(len(histories))]
		if len(items) >= 2 {
			batch = append(batch, Sequence{Items: items[:2+r.IntN(len(items)-1)]})
		}
	}
	return batch
}
