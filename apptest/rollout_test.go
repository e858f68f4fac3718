package apptest

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Before anything was learnt, the commands about it say so.
func TestWithoutAPolicyThereIsNothingToRollOut(t *testing.T) {
	settings := slices.Concat([]string{"SERALM_DATA_DIR=" + t.TempDir(), "SERALM_ALIGNMENT_ENABLED=true"}, small, knowing)
	p := run(t, seralm, settings, "up").up()
	p.post("/v1/items", []map[string]any{{"item": "i1", "title": "Heat (1995)"}})
	out, errs, status := call(t, seralm, settings, "rollout", "status")
	require.Zero(t, status, errs)
	for _, says := range []string{"no roll-out has begun", "waits for the policy: 0 of the 50 iterations", "alignment.refresh"} {
		require.Contains(t, out, says)
	}
	out, errs, status = call(t, seralm, settings, "align", "status")
	require.Zero(t, status, errs)
	for _, says := range []string{"policy has published nothing yet", "0 of them not learnt", "recommender", "no roll-out has begun", "seralm_rollout_"} {
		require.Contains(t, out, says)
	}
	for _, action := range []string{"promote", "rollback"} {
		_, errs, status = call(t, seralm, settings, "rollout", action)
		require.NotZero(t, status)
		require.Contains(t, errs, "no roll-out has begun yet")
	}
	p.until("the item has knowledge", func() bool {
		out, errs, status = call(t, seralm, settings, "knowledge", "diff", "i1")
		return status == 0
	})
	require.Contains(t, out, "--- served")
	require.Contains(t, out, "no roll-out proposes another text")
	require.NoError(t, p.terminate())
}
