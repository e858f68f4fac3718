package prompts

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheWordsOfATitleVector(t *testing.T) {
	long := strings.Repeat("Größe ", 1000)
	for want, it := range map[string]Item{
		"Heat (1995). Action, Crime": {Title: " Heat\n(1995) ", Categories: []string{"Action", " ", "Crime"}, Text: "ignored"},
		"Heat":                       {Title: "Heat"},
		"Action, Crime":              {Categories: []string{"Action", "Crime"}, Text: "ignored"},
		"A heist.":                   {Text: "A\theist."},
		"":                           {ID: "4711", Title: " \n", Text: "\u00a0"},
	} {
		require.Equal(t, want, Words(it))
	}
	for _, it := range []Item{{Title: long}, {Text: long}, {Title: "t", Categories: []string{long}}} {
		words := Words(it)
		require.LessOrEqual(t, len(words), maxWords)
		require.Greater(t, len(words), maxWords-20)
		require.True(t, strings.HasPrefix(long, strings.TrimPrefix(words, "t. ")), "cut after a whole rune: %q", words)
	}
}
