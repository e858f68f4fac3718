package experiments

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/models/seqrec"
	"seralm/producers/dataset"
)

// open reads a data set of interactions, given as a table, and of titles.
func open(t *testing.T, interactions string, titles map[string]string) *dataset.Dataset {
	t.Helper()
	dir := t.TempDir()
	var items strings.Builder
	items.WriteString("item_id,title\n")
	for id, title := range titles {
		fmt.Fprintf(&items, "%s,%s\n", id, title)
	}
	files := map[string]string{"interactions.csv": interactions}
	if titles != nil {
		files["items.csv"] = items.String()
	}
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	d, err := dataset.Open(t.Context(), dataset.Options{Path: dir, Name: "planted"})
	require.NoError(t, err)
	return d
}

// taken writes each user's items, one letter each, as a table; times are the positions.
func taken(users ...string) string {
	var b strings.Builder
	b.WriteString("user_id,item_id,timestamp\n")
	for u, items := range users {
		for i, item := range items {
			fmt.Fprintf(&b, "u%d,%c,%d\n", u, item, 1000*u+i)
		}
	}
	return b.String()
}

// ring is a data set in which everyone goes around the letters a to l.
func ring() []string {
	const letters = "abcdefghijkl"
	var users []string
	for u := range 36 {
		var b strings.Builder
		for i := range 7 {
			b.WriteByte(letters[(u*5+i)%len(letters)])
		}
		users = append(users, b.String())
	}
	return users
}

func training() Training {
	return Training{Epochs: 2, Batch: 8, Patience: 2, Stop: "masked_ndcg@10", Schedule: "constant"}
}

// reference is an arm that learns in one pass.
func reference(name string) Arm {
	return Arm{Name: name, Training: training(), Knowledge: Knowledge{Source: Source{Name: NoKnowledge}}, New: func(config.Recommender) (seqrec.Recommender, error) {
		if name == "popularity" {
			return seqrec.NewPopularity(), nil
		}
		return seqrec.NewTransitions(), nil
	}}
}

// sasrec is an arm of a small one.
func sasrec(name string) Arm {
	return Arm{
		Name: name, Training: training(), Knowledge: Knowledge{Source: Source{Name: NoKnowledge}},
		Recommender: config.Recommender{Architecture: "sasrec", Dim: 16, Layers: 1, Heads: 2, Inner: 32, MaxLen: 5, LearningRate: 1e-2, Threads: 1},
		New: func(c config.Recommender) (seqrec.Recommender, error) {
			h := seqrec.Hyper{Name: "sasrec", Dim: c.Dim, Layers: c.Layers, Heads: c.Heads, Inner: c.Inner, MaxLen: c.MaxLen}
			return seqrec.New(h, 0, seqrec.Options{Seed: c.Seed, LearningRate: c.LearningRate, Threads: c.Threads, Knowledge: c.KnowledgeDim, IDDropout: c.IDDropout})
		},
	}
}

// encoder makes a vector of a text: which of the words it holds.
type encoder struct{ words []string }

func (e encoder) Encode(_ context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i, text := range texts {
		for _, w := range e.words {
			x := float32(0)
			if strings.Contains(text, w) {
				x = 1
			}
			out[i] = append(out[i], x)
		}
	}
	return out, nil
}

func (e encoder) Version() string { return "words" }
