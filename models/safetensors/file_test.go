package safetensors

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTensorsAreReadFromAFileOneAtATime(t *testing.T) {
	raw, err := Encode(sample(), nil)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "model.safetensors")
	require.NoError(t, os.WriteFile(path, raw, 0o600))
	f, err := Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, []string{"a", "b", "empty"}, f.Names())
	whole, _, err := Decode(raw)
	require.NoError(t, err)
	for _, want := range whole {
		got, ok, err := f.Read(want.Name)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	_, ok, err := f.Read("absent")
	require.NoError(t, err)
	require.False(t, ok)
}

// Cut anywhere, the file is refused when it is opened, by name: never half a model.
func TestTruncatedFile(t *testing.T) {
	raw, err := Encode(sample(), nil)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "model.safetensors")
	for n := range raw {
		require.NoError(t, os.WriteFile(path, raw[:n], 0o600))
		_, err := Open(path)
		require.ErrorIs(t, err, ErrFormat, n)
		require.ErrorContains(t, err, path)
	}
}

func TestOpenNamesThePath(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Open(dir)
	require.ErrorContains(t, err, dir)
}
