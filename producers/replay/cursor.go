package replay

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"github.com/segmentio/encoding/json"

	"seralm/producers/dataset"
)

const cursorFormat = 1

// cursor is where a replay of one data set to one log stands: everything before it
// is acknowledged by the broker.
type cursor struct {
	Format      int    `json:"format"`
	Dataset     string `json:"dataset"`
	Fingerprint string `json:"fingerprint"` // of the data set with its filters
	Log         string `json:"log"`         // see identify
	Items       int    `json:"items"`       // rows of the catalogue
	ItemsDone   bool   `json:"items_done"`
	Next        int    `json:"next"` // interaction
	Sum         string `json:"sum"`  // CRC-32 of all this with an empty sum
}

func (c cursor) encode() []byte {
	marshal := func() []byte {
		data, err := json.Marshal(c)
		if err != nil {
			panic(fmt.Sprintf("BUG: encoding a cursor: %v", err))
		}
		return append(data, '\n')
	}
	c.Sum = ""
	c.Sum = fmt.Sprintf("%08x", crc32.ChecksumIEEE(marshal()))
	return marshal()
}

// decodeCursor accepts exactly what encode makes: a cursor that lies would leave
// events out.
func decodeCursor(data []byte) (cursor, error) {
	var c cursor
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("it is not a cursor: %.100s", err.Error())
	}
	switch {
	case c.Format != cursorFormat:
		return c, fmt.Errorf("its format is %d, this program reads %d", c.Format, cursorFormat)
	case !bytes.Equal(data, c.encode()):
		return c, errors.New("its checksum does not fit")
	case c.Items < 0 || c.Next < 0:
		return c, errors.New("it holds a negative position")
	}
	return c, nil
}

// cursorFile is a cursor on disk, which this process alone has open.
type cursorFile struct {
	cursor
	path string
	lock *flock.Flock
}

// openCursor reads the cursor of a data set and a log, or begins one. It has written
// it once when it returns: a folder that cannot be written to is found before
// anything is sent.
func openCursor(dir string, data *dataset.Dataset, log string, restart bool) (*cursorFile, error) {
	const remedy = "set data_dir to a folder that this user may write"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of the replay's cursor: %w (%s)", err, remedy)
	}
	f := &cursorFile{path: filepath.Join(dir, url.PathEscape(data.Name())+"-"+log+".json")}
	f.lock = flock.New(f.path + ".lock")
	locked, err := f.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking the replay's cursor: %w (%s)", err, remedy)
	}
	if !locked {
		return nil, fmt.Errorf("another process replays %s to this log just now (it has locked %s): wait for it, or stop it", data.Name(), f.lock.Path())
	}
	f.cursor = cursor{Format: cursorFormat, Dataset: data.Name(), Fingerprint: data.Fingerprint(), Log: log}
	if !restart {
		err = f.load(data)
	}
	if err == nil {
		err = f.save()
	}
	if err != nil {
		return nil, errors.Join(err, f.lock.Close())
	}
	return f, nil
}

func (f *cursorFile) load(data *dataset.Dataset) error {
	const remedy = "replay with --restart to send it from its beginning; of more than trainer.dedup_window events, what was sent before is then learnt twice"
	raw, err := os.ReadFile(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading where the replay stopped: %w (%s)", err, remedy)
	}
	c, err := decodeCursor(raw)
	whole := data.Len() + data.Summary().BeyondEnd
	switch {
	case err != nil:
		return fmt.Errorf("%s should say where the replay stopped, and is damaged: %w (%s)", f.path, err, remedy)
	case c.Fingerprint != f.Fingerprint:
		return fmt.Errorf("%s says where the replay of another data set %s stopped: its file or its filters were different (replay with those, give this one another --name, or %s)",
			f.path, data.Name(), remedy)
	case c.Dataset != f.Dataset || c.Log != f.Log || c.Next > whole:
		return fmt.Errorf("%s is of another data set or log, or stands at interaction %d of %d (%s)", f.path, c.Next, whole, remedy)
	}
	f.cursor = c
	return nil
}

func (f *cursorFile) saveItems(next int) error {
	f.Items = next
	return f.save()
}

func (f *cursorFile) saveNext(next int) error {
	f.Next = next
	return f.save()
}

// save replaces the file so that, whenever the power fails, the old or the new one is
// there: the contents are on disk before the name is, and the name before it returns.
func (f *cursorFile) save() error {
	if err := f.replace(); err != nil {
		return fmt.Errorf("writing down where the replay is: %w (make room, or let this user write there)", err)
	}
	return nil
}

func (f *cursorFile) replace() error {
	tmp := f.path + ".tmp"
	file, err := os.Create(tmp)
	if err != nil {
		return err
	}
	_, err = file.Write(f.encode())
	if err == nil {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, f.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func (f *cursorFile) close() error { return f.lock.Close() }
