package experiments

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// goOn opens a file to append to after what is kept of it, its beginning. The bytes that
// are there already are written again in place, so neither a kill nor a full disk costs
// any.
func goOn(path string, kept []byte) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt(kept, 0)
	if err == nil {
		err = f.Truncate(int64(len(kept)))
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lock keeps a result file to one process at a time: each writes it whole, from what it
// read when it began.
func lock(path string) (unlock func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	l := flock.New(path + ".lock")
	locked, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	if !locked {
		return nil, fmt.Errorf("another process adds to %s just now (it has locked %s): wait for it, or name another file; eval table and compare read several", path, l.Path())
	}
	return func() {
		_ = os.Remove(l.Path())
		_ = l.Close()
	}, nil
}

// WriteFile writes a file whole, or not at all: on a disk that is full the one that was
// there stays. What is no file, such as /dev/null, is written to and not replaced.
func WriteFile(path string, fill func(io.Writer) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %s: %w", path, err)
		}
	}()
	var f *os.File
	if is, err := os.Stat(path); err == nil && !is.Mode().IsRegular() {
		if f, err = os.OpenFile(path, os.O_WRONLY, 0); err != nil {
			return err
		}
	} else {
		if f, err = os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp"); err != nil {
			return err
		}
		defer func() { _ = os.Remove(f.Name()) }() // gone already when all is well
	}
	b := bufio.NewWriter(f)
	err = fill(b)
	if err == nil {
		err = b.Flush()
	}
	if f.Name() == path {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
