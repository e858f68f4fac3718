package pregenerator

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/stream"
)

func (s *system) imports(text string) int {
	s.t.Helper()
	n, err := Import(s.t.Context(), s.cl, s.names(), hashes("v1"), strings.NewReader(text), func(int) {})
	require.NoError(s.t, err)
	return n
}

func TestReadyTextsAreImportedKeptAndExported(t *testing.T) {
	s := newSystem(t)
	s.announce(0, 4)
	texts := map[string]string{"i1": "A <crime> epic.\nTwo lines.", "i2": "ünïcode 千", "not announced": "later"}
	raw, err := json.Marshal(texts)
	require.NoError(t, err)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err = z.Write(raw)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	n, err := Import(t.Context(), s.cl, s.names(), hashes("v1"), &zipped, func(int) {})
	require.NoError(t, err)
	require.Equal(t, 3, n)

	m := &model{name: "fake"}
	s.finish(Options{Writer: m})
	require.ElementsMatch(t, []string{"Title 0", "Title 3"}, m.order(), "what the operator brought stays")

	var out bytes.Buffer
	n, err = Export(t.Context(), s.cfg.Kafka, &out)
	require.NoError(t, err)
	require.Equal(t, 5, n)
	again := map[string]string{}
	for line := range strings.Lines(out.String()) {
		var k stream.Knowledge
		require.NoError(t, json.Unmarshal([]byte(line), &k))
		require.NoError(t, k.Validate())
		require.Equal(t, hashes("v1").of(k.Text), k.Vector)
		if k.Origin == stream.OriginImport {
			again[k.Item] = k.Text
		}
	}
	require.Equal(t, texts, again)

	// Into an empty system, as it was exported.
	other := newSystem(t)
	require.Equal(t, 5, other.imports(out.String()))
	for item, k := range s.known() {
		require.Equal(t, k.Text, other.known()[item].Text)
	}
}

func TestImportingMoreThanABatch(t *testing.T) {
	s := newSystem(t)
	texts := map[string]string{}
	for n := range 3*vectorBatch + 1 {
		texts[strings.Repeat("x", n+1)] = "text"
	}
	raw, err := json.Marshal(texts)
	require.NoError(t, err)
	require.Equal(t, len(texts), s.imports(string(raw)))
	require.Len(t, s.known(), len(texts))
	require.Zero(t, s.imports(`{}`))
}

func TestAFileThatCannotBeImportedIsNamed(t *testing.T) {
	s := newSystem(t)
	for in, says := range map[string]string{
		``:      "ends too early",
		`["a"]`: "must be one JSON object",
		`{"item": "a", "encoder": "v", "text": " "}`:                         `item "a": its text is empty`,
		`{"item": "a", "encoder": "v", "text": "x"}` + "\n" + `{"item": "b"`: "at byte",
		`{"a": "x", "b": 5}`:   `item "b"`,
		`{"a": "x", "b": " "}`: `item "b": its text is empty`,
		`{"a": "x"`:            "ends too early",
		`{"a": "x", oops}`:     "at byte",
		`{"": "x"}`:            "invalid item: it is empty",
		`{"a": "` + strings.Repeat("x", stream.MaxKnowledgeText+1) + `"}`: "more than",
		"\x1f\x8bno gzip": "gzip",
	} {
		_, err := Import(t.Context(), s.cl, s.names(), hashes("v1"), strings.NewReader(in), func(int) {})
		require.ErrorContains(t, err, says, in[:min(len(in), 40)])
	}
}

func FuzzImport(f *testing.F) {
	for _, seed := range []string{`{"a":"b"}`, `{`, `{"a":null}`, "\x1f\x8b", `{"a":{"b":"c"}}`, `{"a":"b"}{`, `[]`, `{"item":"a","encoder":"v","text":"x"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for k, err := range readyTexts(bytes.NewReader(data)) {
			if err != nil {
				return
			}
			if k.Text == "" || k.Text != strings.TrimSpace(k.Text) || len(k.Text) > stream.MaxKnowledgeText {
				t.Fatalf("text %q", k.Text)
			}
		}
	})
}

func TestWhatIsKnownIsFoundAndCounted(t *testing.T) {
	s := newSystem(t)
	s.announce(0, 5)
	s.announce(5, 6, func(it *stream.Item) { it.Hidden = true })
	s.announce(6, 7, func(it *stream.Item) { it.Title, it.Categories = "", nil })
	s.imports(`{"i1": "brought"}`)
	s.finish(Options{Writer: &model{name: "fake", step: 3}})
	s.remove("i0")
	s.finish(Options{Writer: &model{name: "fake", step: 3}})

	k, err := Find(t.Context(), s.cfg.Kafka, "i2")
	require.NoError(t, err)
	require.Equal(t, "fake@3", k.Policy.String())
	for _, item := range []string{"i0", "i6", "never heard of"} {
		_, err = Find(t.Context(), s.cfg.Kafka, item)
		require.ErrorIs(t, err, ErrUnknown)
	}
	c, err := Count(t.Context(), s.cfg.Kafka)
	require.NoError(t, err)
	require.Equal(t, Counts{
		Items: 5, Without: 1, Texts: 3,
		Known: map[Kind]int{
			{stream.OriginLLM, stream.ModelVersion{Name: "fake", Step: 3}, "v1"}: 3,
			{stream.OriginImport, stream.ModelVersion{}, "v1"}:                   1,
		},
	}, c)
}
