package policy_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/consumers/internal/toy"
	"seralm/models/snapshot"
	"seralm/stream"
)

// start runs a job as a process of its own. lines gets what it prints.
func start(t *testing.T, spec childSpec) (cmd *exec.Cmd, lines *bufio.Scanner, end func() error) {
	t.Helper()
	raw, err := json.Marshal(spec)
	require.NoError(t, err)
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(raw))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, bufio.NewScanner(out), func() error {
		_, _ = io.Copy(io.Discard, out)
		err := cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() >= 0 {
			require.NoError(t, err, stderr.String()) // it failed; it was not killed
		}
		return err
	}
}

// kill starts a job again and again, and kills it (SIGKILL) a moment after some commits,
// or when it has waited for the other job for a while, which may be down for good.
func kill(t *testing.T, spec childSpec, times int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 26))
	for range times {
		cmd, lines, end := start(t, spec)
		waited := time.AfterFunc(time.Second, func() { _ = cmd.Process.Kill() })
		for range r.IntN(4) {
			lines.Scan()
		}
		moment := time.AfterFunc(time.Duration(r.IntN(60))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		err := end()
		moment.Stop()
		waited.Stop()
		require.ErrorContains(t, err, "killed")
	}
}

// Both jobs are killed at random moments, 20 times each, while they take turns: the
// samples and the policy are those of the loop, to the bit, and versions never go back.
func TestKilledAtAnyMomentTheTwoJobsAreTheLoop(t *testing.T) {
	const kills, iterations, interactions = 20, 100, 1000
	s := toy.NewSystem(t)
	s.Interactions(0, interactions)
	s.Publish(toy.Snapshot(s.Config.Recommender.Name, 1, 10, toy.Good))
	generators := childSpec{Role: "generator", Config: s.Config}
	trainers := childSpec{Role: "policy", Until: iterations, Config: s.Config}

	var both sync.WaitGroup
	both.Go(func() { kill(t, generators, kills, 1) })
	both.Go(func() { kill(t, trainers, kills, 2) })
	both.Wait()
	survivor, _, ended := start(t, generators)
	_, _, end := start(t, trainers)
	require.NoError(t, end(), "the trainer comes to its end")
	require.NoError(t, survivor.Process.Kill())
	require.ErrorContains(t, ended(), "killed")

	parts, step, rejected, err := snapshot.Restore(s.Config.DataDir + "/checkpoints/" + s.Config.Alignment.Name)
	require.NoError(t, err)
	require.Empty(t, rejected)
	require.EqualValues(t, iterations, step)
	model := toy.NewPolicy(s.Config)
	require.NoError(t, model.Restore(parts["adapter.safetensors"]))
	adapter, err := model.Adapter()
	require.NoError(t, err)
	want := loop(t, s.Config, inTheLog(s, interactions), iterations)
	require.Equal(t, string(want[iterations-1]), string(adapter))

	samples := s.Samples()
	require.GreaterOrEqual(t, len(samples), iterations*s.Config.Alignment.Batch)
	ids, taken := map[string]bool{}, map[stream.Place]stream.Interaction{}
	for _, ev := range inTheLog(s, interactions) {
		taken[stream.Place{Partition: ev.Partition, Offset: ev.Offset}] = ev.Body
	}
	for i, ev := range samples {
		at := taken[ev.Body.Instance]
		require.Equal(t, []string{ev.Body.User, ev.Body.Y}, []string{at.User, at.Item}, "a sample names its interaction")
		require.False(t, ids[ev.ID], "a sample is there twice")
		ids[ev.ID] = true
		require.EqualValues(t, i/s.Config.Alignment.Batch, ev.Body.Versions.Policy.Step, "sample %d is of the version that its iteration begins with", i)
	}
	policies := s.Policies()
	for i, p := range policies[1:] {
		require.True(t, p.Newer(policies[i]), "a version goes back")
		require.LessOrEqual(t, p.Policy.Step, policies[i].Policy.Step+1, "a version is left out")
	}
	t.Logf("%d samples, %d versions, epoch %d", len(samples), len(policies), policies[len(policies)-1].Epoch)
}
