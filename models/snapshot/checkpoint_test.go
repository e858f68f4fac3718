package snapshot

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func parts(n byte) map[string][]byte {
	return map[string][]byte{"meta.json": {n}, "model.safetensors": {n, n, n}}
}

func twoCheckpoints(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "model")
	require.NoError(t, WriteDir(dir, 5, parts(5)))
	require.NoError(t, WriteDir(dir, 10, parts(10)))
	return dir
}

func requireRestored(t *testing.T, dir string, step int64, rejected int) {
	t.Helper()
	got, at, bad, err := Restore(dir)
	require.NoError(t, err)
	require.Equal(t, step, at)
	require.Equal(t, parts(byte(step)), got)
	require.Len(t, bad, rejected)
}

func TestTheNewestCheckpointIsRestored(t *testing.T) { requireRestored(t, twoCheckpoints(t), 10, 0) }

func TestAFlippedBitSendsUsToTheOneBefore(t *testing.T) {
	dir := twoCheckpoints(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "step-000000000010", "model.safetensors"), []byte{10, 11, 10}, 0o644))
	requireRestored(t, dir, 5, 1)
}

func TestATruncatedPartSendsUsToTheOneBefore(t *testing.T) {
	dir := twoCheckpoints(t)
	require.NoError(t, os.Truncate(filepath.Join(dir, "step-000000000010", "model.safetensors"), 1))
	requireRestored(t, dir, 5, 1)
}

func TestAMissingPartSendsUsToTheOneBefore(t *testing.T) {
	dir := twoCheckpoints(t)
	require.NoError(t, os.Remove(filepath.Join(dir, "step-000000000010", "meta.json")))
	requireRestored(t, dir, 5, 1)
}

func TestACrashBeforeCURRENTLosesNothing(t *testing.T) {
	dir := twoCheckpoints(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "CURRENT"), []byte("step-000000000005\n"), 0o644))
	requireRestored(t, dir, 10, 0)
	require.NoError(t, os.Remove(filepath.Join(dir, "CURRENT")))
	requireRestored(t, dir, 10, 0)
}

func TestACrashInTheMiddleLeavesOnlyATemporaryFolder(t *testing.T) {
	dir := twoCheckpoints(t)
	tmp := filepath.Join(dir, ".tmp-step-000000000015-1")
	require.NoError(t, os.Mkdir(tmp, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(tmp, "meta.json"), []byte{15}, 0o644))
	requireRestored(t, dir, 10, 0)
	require.NoError(t, Prune(dir, 2))
	require.NoDirExists(t, tmp)
}

func TestNothingIsNoCheckpoint(t *testing.T) {
	_, _, bad, err := Restore(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, ErrNoCheckpoint)
	require.Empty(t, bad)
}

func TestCURRENTPointingNowhereIsReported(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "CURRENT"), []byte("step-000000000003\n"), 0o644))
	_, _, bad, err := Restore(dir)
	require.ErrorIs(t, err, ErrNoCheckpoint)
	require.Len(t, bad, 1)
}

func TestTheSameStepAgainReplacesIt(t *testing.T) {
	dir := twoCheckpoints(t)
	require.NoError(t, WriteDir(dir, 10, parts(10)))
	requireRestored(t, dir, 10, 0)
}

func TestPruneKeepsTheNewest(t *testing.T) {
	dir := twoCheckpoints(t)
	require.NoError(t, WriteDir(dir, 15, parts(15)))
	require.NoError(t, Prune(dir, 2))
	names, err := list(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"step-000000000015", "step-000000000010"}, names)
}

func TestAFolderThatCannotBeMadeIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	err := WriteDir(filepath.Join(file, "model"), 1, parts(1))
	require.ErrorContains(t, err, file)
}
