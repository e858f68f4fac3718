package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// A folder of checkpoints holds one folder per checkpoint, step-<number>, with its
// parts and an index of their hashes, and the file CURRENT with the name of the
// newest. A checkpoint is written under a temporary name and renamed when all of
// it is on the disk, so a folder named step-* is whole unless the disk itself
// lost something, which the hashes show.
const (
	currentFile = "CURRENT"
	indexFile   = "index.json"
	stepPrefix  = "step-"
	tempPrefix  = ".tmp-"
)

// ErrNoCheckpoint says that a folder holds no valid checkpoint.
var ErrNoCheckpoint = errors.New("no checkpoint")

// Rejected is a checkpoint that Restore did not use, and why.
type Rejected struct {
	Name string
	Err  error
}

// WriteDir adds the checkpoint of a step. When it returns nil the checkpoint
// survives a crash of the machine.
func WriteDir(dir string, step int64, parts map[string][]byte) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the checkpoint folder: %w", err)
	}
	name := fmt.Sprintf("%s%012d", stepPrefix, step)
	tmp, err := os.MkdirTemp(dir, tempPrefix+name+"-")
	if err != nil {
		return fmt.Errorf("checkpoint folder %s: %w", dir, err)
	}
	defer func() { _ = os.RemoveAll(tmp) }() // gone already when it was renamed; Prune finds what stays
	index := map[string]string{}
	for part, data := range parts {
		if err := writeSynced(filepath.Join(tmp, part), data); err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		index[part] = hex.EncodeToString(sum[:])
	}
	list, err := json.Marshal(index)
	if err != nil {
		return err
	}
	if err := writeSynced(filepath.Join(tmp, indexFile), list); err != nil {
		return err
	}
	// The entries of the new folder must be durable before it gets its name.
	if err := syncDir(tmp); err != nil {
		return err
	}
	final := filepath.Join(dir, name)
	// The same step again, after replaying to it: the old one is as good, but a
	// rename onto a folder that is not empty fails.
	if err := os.RemoveAll(final); err != nil {
		return err
	}
	if err := os.Rename(tmp, final); err != nil {
		return fmt.Errorf("naming checkpoint %s: %w", name, err)
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	current := filepath.Join(dir, tempPrefix+currentFile)
	if err := writeSynced(current, []byte(name+"\n")); err != nil {
		return err
	}
	if err := os.Rename(current, filepath.Join(dir, currentFile)); err != nil {
		return fmt.Errorf("making checkpoint %s the current one: %w", name, err)
	}
	return syncDir(dir)
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes the entries of a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Restore returns the parts of the newest valid checkpoint and its step: the one
// that CURRENT names, unless a newer one is whole (a crash came between its name
// and CURRENT); if that is damaged the one before, and so on. The error is
// ErrNoCheckpoint when there is none; what was passed over is reported.
func Restore(dir string) (parts map[string][]byte, step int64, rejected []Rejected, err error) {
	names, err := list(dir)
	if err != nil {
		return nil, 0, nil, err
	}
	for _, name := range names {
		step, err := strconv.ParseInt(strings.TrimPrefix(name, stepPrefix), 10, 64)
		if err != nil {
			rejected = append(rejected, Rejected{name, err})
			continue
		}
		parts, err := readDir(filepath.Join(dir, name))
		if err != nil {
			rejected = append(rejected, Rejected{name, err})
			continue
		}
		return parts, step, rejected, nil
	}
	if len(rejected) == 0 {
		if current, err := os.ReadFile(filepath.Join(dir, currentFile)); err == nil {
			rejected = append(rejected, Rejected{strings.TrimSpace(string(current)), errors.New("named by CURRENT, but not there")})
		}
	}
	return nil, 0, rejected, ErrNoCheckpoint
}

// list returns the checkpoints' names, newest first.
func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint folder: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), stepPrefix) {
			names = append(names, e.Name())
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(names))) // steps have a fixed width
	return names, nil
}

func readDir(dir string) (map[string][]byte, error) {
	raw, err := os.ReadFile(filepath.Join(dir, indexFile))
	if err != nil {
		return nil, err
	}
	var index map[string]string
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	parts := map[string][]byte{}
	for part, want := range index {
		if part != filepath.Base(part) {
			return nil, fmt.Errorf("%s names %q, which is not a file of the checkpoint", indexFile, part)
		}
		data, err := os.ReadFile(filepath.Join(dir, part))
		if err != nil {
			return nil, err
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != want {
			return nil, fmt.Errorf("part %s: %d bytes with sha256 %x, the index says %s", part, len(data), sum, want)
		}
		parts[part] = data
	}
	return parts, nil
}

// Prune removes all but the newest `keep` checkpoints and what crashes left behind.
func Prune(dir string, keep int) error {
	names, err := list(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names[min(keep, len(names)):] {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	temps, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	errs = append(errs, err)
	for _, t := range temps {
		errs = append(errs, os.RemoveAll(t))
	}
	return errors.Join(errs...)
}
