package experiments

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAFileIsWrittenWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "result.json")
	hello := func(w io.Writer) error {
		_, err := io.WriteString(w, "hello")
		return err
	}
	require.NoError(t, WriteFile(path, hello))
	err := WriteFile(path, func(w io.Writer) error {
		_, err := w.Write(make([]byte, 1<<20))
		return errors.Join(err, syscall.ENOSPC)
	})
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, path)
	kept, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "hello", string(kept))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "nothing else is left")

	full := filepath.Join(dir, "full") // a link: should it be replaced, then not the machine's own
	require.NoError(t, os.Symlink("/dev/full", full))
	err = WriteFile(full, hello)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, full)
	is, err := os.Stat(full)
	require.NoError(t, err)
	require.NotZero(t, is.Mode()&os.ModeDevice, "a device stays one")
}
