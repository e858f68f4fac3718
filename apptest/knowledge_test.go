package apptest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// knowing makes a process write knowledge, with models of random weights.
var knowing = []string{
	"SERALM_KNOWLEDGE_ENABLED=true", "SERALM_KNOWLEDGE_MODEL=../models/llm/testdata/tiny.gguf",
	"SERALM_KNOWLEDGE_ENCODER=../models/encoder/testdata/tiny", "SERALM_RECOMMENDER_KNOWLEDGE_DIM=32", "SERALM_KNOWLEDGE_MAX_TOKENS=8",
}

func TestKnowledgeIsWrittenShownImportedAndExported(t *testing.T) {
	dir := t.TempDir()
	settings := slices.Concat([]string{"SERALM_DATA_DIR=" + dir}, small, knowing)
	p := run(t, seralm, settings, "up").up()
	p.post("/v1/items", []map[string]any{{"item": "i1", "title": "Heat (1995)", "categories": []string{"Crime"}}, {"item": "i2", "title": "Dune"}})
	knowledge := func(args ...string) (out string, fine bool) {
		out, errs, status := call(t, seralm, settings, append([]string{"knowledge"}, args...)...)
		if status != 0 {
			out += errs
		}
		return out, status == 0
	}
	p.until("something is known of the item", func() bool {
		_, fine := knowledge("show", "i1")
		return fine
	})
	out, fine := knowledge("show", "nobody")
	require.False(t, fine)
	require.Contains(t, out, "nothing is known of the item")

	file := filepath.Join(dir, "texts.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"i1": "A crime epic of obsession."}`), 0o600))
	out, fine = knowledge("import", file)
	require.True(t, fine, out)
	require.Equal(t, "1 texts imported\n", out)
	out, fine = knowledge("show", "i1")
	require.True(t, fine, out)
	require.Contains(t, out, "origin   import")
	require.Contains(t, out, "A crime epic of obsession.")
	p.kill()

	q := run(t, seralm, settings, "up").up()
	q.until("all is known", func() bool {
		out, fine := knowledge("stats")
		return fine && strings.Contains(out, "2 items are announced and shown") && strings.Contains(out, "0 have nothing")
	})
	out, fine = knowledge("export", "-")
	require.True(t, fine, out)
	require.Equal(t, 2, strings.Count(out, "\n"))
	require.Contains(t, out, `"text":"A crime epic of obsession."`)
	require.NoError(t, q.terminate())
}
