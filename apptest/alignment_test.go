package apptest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// aligning makes a process align its language model, of random weights, in small steps
// that take turns.
var aligning = slices.Concat(knowing, []string{
	"SERALM_ALIGNMENT_ENABLED=true", "SERALM_ALIGNMENT_BATCH=2", "SERALM_ALIGNMENT_GROUP=2", "SERALM_ALIGNMENT_CANDIDATES=3",
	"SERALM_ALIGNMENT_MAX_TOKENS=8", "SERALM_ALIGNMENT_TEMPERATURE=5", "SERALM_ALIGNMENT_REFRESH=0", "SERALM_ALIGNMENT_RESERVOIR=64",
})

var policyStep = regexp.MustCompile(`(?m)^seralm_policy_step (\d+)$`)

// The whole system in one process: texts are sampled and judged, the policy learns from
// them, and after a kill -9 goes on from where it was.
func TestTheLanguageModelIsAlignedWithTheStream(t *testing.T) {
	settings := slices.Concat([]string{"SERALM_DATA_DIR=" + t.TempDir()}, small, aligning)
	learnt := func(p *program) int {
		found := policyStep.FindStringSubmatch(p.get("/metrics")["text"].(string))
		if found == nil {
			return 0
		}
		n, err := strconv.Atoi(found[1])
		require.NoError(t, err)
		return n
	}
	p := run(t, seralm, settings, "up").up()
	var described []map[string]any
	for n := range 200 {
		described = append(described, map[string]any{"item": fmt.Sprint("i", n), "title": fmt.Sprint("Title ", n)})
	}
	p.post("/v1/items", described)
	walk(p, 0, 350)
	p.until("the policy learns", func() bool { return learnt(p) >= 3 })
	p.kill()

	q := run(t, seralm, settings, "up").up()
	q.until("the policy has not forgotten, and goes on", func() bool { return learnt(q) >= 6 })
	out, errs, status := call(t, seralm, settings, "snapshot", "list")
	require.Zero(t, status, errs)
	require.Empty(t, errs, "a policy's snapshot is no damaged one")
	require.Regexp(t, `policy +│ +2 │ +\d+ │`, out)
	out, errs, status = call(t, seralm, settings, "snapshot", "inspect", "policy")
	require.Zero(t, status, errs)
	require.Contains(t, out, "of tiny-")
	require.Contains(t, out, "lora_B.weight [32 8]")
	require.NoError(t, q.terminate())
}

// The same without a broker, and its texts as an arm.
func TestAlignmentOnADataSet(t *testing.T) {
	dir := t.TempDir()
	settings := slices.Concat([]string{"SERALM_DATA_DIR=" + dir}, small, aligning, []string{"SERALM_ALIGNMENT_RESERVOIR=2000"})
	eval := func(args ...string) (out, errs string) {
		out, errs, status := call(t, seralm, settings, append([]string{"eval"}, args...)...)
		require.Zero(t, status, errs)
		return out, errs
	}
	data := []string{"--dataset", "../testdata/ml-latest-small", "--limit", "1500", "--epochs", "1"}
	align := slices.Concat([]string{"align", "--dir", dir + "/align"}, data)
	eval(append(align, "--iterations", "2")...)
	_, errs := eval(append(align, "--iterations", "3", "--texts", dir+"/aligned.json", "--items", "7")...)
	require.Contains(t, errs, "going on after iteration 2")
	eval(append(align, "--best-of", "3", "--texts", dir+"/best.json", "--items", "7")...)
	for _, arm := range []string{"aligned", "best", "best.first"} {
		out, _ := eval(slices.Concat([]string{"leaveoneout", "--knowledge", dir + "/" + arm + ".json", "--json", dir + "/loo.json", "--arm", arm}, data)...)
		require.Contains(t, out, arm)
	}
	out, _ := eval(slices.Concat([]string{"rewards", "--dir", dir + "/align", "--items", "5", "--json", dir + "/rewards.json"}, data)...)
	require.Regexp(t, `catalogue reward +│ +5 │`, out)
	require.FileExists(t, dir+"/rewards.json")
	_, errs, status := call(t, seralm, settings, append([]string{"eval"}, append(align, "--adapter", "none", "--iterations", "1")...)...)
	require.NotZero(t, status)
	require.Contains(t, errs, "leave --iterations out")
}
