package experiments

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTextsOfAFileWithTitlesForTheRest(t *testing.T) {
	d := open(t, taken("abc", "abd"), map[string]string{"a": "A western", "b": "B", "c": "C"})
	e := encoder{[]string{"western", "horses"}}
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "texts.json")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	for name, text := range map[string]string{
		"an object": `{"b": "About horses.", "c": " ", "zz": "of no use"}`,
		"an export": `{"item":"b","text":"About horses.","encoder":"e","origin":"llm"}` + "\n" + `{"item":"a","text":"A","encoder":"e","origin":"title"}`,
	} {
		k, err := ReadKnowledge(t.Context(), d, file(text), e)
		require.NoError(t, err, name)
		require.Equal(t, Source{Name: "texts.json", Hash: k.Source.Hash, Encoder: "words", Texts: 1, Titles: 2, Without: 1}, k.Source)
		require.Equal(t, map[string][]float32{"a": {1, 0}, "b": {0, 1}, "c": {0, 0}}, k.vectors)
	}
	for text, want := range map[string]string{
		`{"zz": "x"}`:     "texts of 1 items, none of which the data set has",
		`{"a": 7}`:        `item "a": a text is needed`,
		`["a"]`:           "must be one JSON object",
		`{"a": "x`:        "must be one JSON object",
		``:                "no texts",
		"\x1f\x8b broken": "reading texts",
	} {
		_, err := ReadKnowledge(t.Context(), d, file(text), e)
		require.ErrorContains(t, err, want)
	}
	_, err := ReadKnowledge(t.Context(), open(t, taken("abc"), nil), Titles, e)
	require.ErrorContains(t, err, "no titles")
}

func FuzzTexts(f *testing.F) {
	for _, s := range []string{`{"a": "x"}`, `{"item":"b","text":"t","encoder":"e","origin":"llm"}`, `{"item":1,"encoder":2}`, `{"a":null}`, `{}{}`, `[`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		texts, err := parseTexts(raw)
		if err == nil {
			require.NotEmpty(t, texts)
		}
		for _, text := range texts {
			require.NotEmpty(t, text)
		}
	})
}

func FuzzNumbers(f *testing.F) {
	for _, s := range []string{`"1 2.5"`, `""`, `"NaN"`, `7`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var n Numbers
		if n.UnmarshalJSON(raw) != nil {
			return
		}
		text, err := n.MarshalJSON()
		require.NoError(t, err)
		var again Numbers
		require.NoError(t, again.UnmarshalJSON(text))
		require.Equal(t, n, again)
	})
}
