package stream

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/segmentio/encoding/json"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// kfake compacts by rewriting a partition's files in place: killed in the middle
// of that, it has lost them. So the partitions are copied first, and put back by
// the next start if the compaction was not completed:
//
//	compacting.tmp  a copy in the making      -> removed
//	compacting      a complete copy           -> put back
//	compacted       the copy after compaction -> removed
const (
	copyingDir   = "compacting.tmp"
	compactDir   = "compacting"
	compactedDir = "compacted"
)

// dirtyBytes is how much the compacted topics grow, beyond twice what compaction
// left of them, before it is worth its while: its cost then stays a fraction of
// what is written.
const dirtyBytes = 32 << 20

// maintain applies retention, and compacts when due. kfake's own ticker, which starts
// only when a topic is created, and knows of no copy, is switched off.
func (b *Broker) maintain(each time.Duration) {
	defer b.wg.Done()
	tick := time.NewTicker(each)
	defer tick.Stop()
	var clean int64 // size after the last compaction
	for {
		select {
		case <-b.stop:
			return
		case <-tick.C:
		}
		if err := b.keepOffsets(); err != nil {
			slog.Error("keeping the offsets of old partitions failed; retention waits", "error", err)
		} else {
			b.cluster.ApplyRetention()
		}
		topics, err := compacted(b.dir)
		if err != nil {
			slog.Error("looking for topics to compact failed", "error", err)
			continue
		}
		if b.bytes(topics) < 2*clean+dirtyBytes {
			continue
		}
		select {
		case <-b.stop:
			return
		case <-b.compact():
		}
		clean = b.bytes(topics)
	}
}

// compact copies and compacts the compacted topics, and closes the channel. It does
// so ahead of the next write, within the broker's own loop, so that nothing can be
// appended between the copy and the compaction; and of a write that finds no
// transaction open, for to kfake an open one's records supersede others already, and
// come out as committed.
func (b *Broker) compact() <-chan struct{} {
	done := make(chan struct{})
	b.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		topics, err := compacted(b.dir)
		if err == nil && b.transacting(topics) {
			return nil, nil, false
		}
		b.cluster.DropControl()
		defer close(done)
		if err == nil {
			err = b.compactSafely(topics)
		}
		if err != nil {
			slog.Error("compaction failed; the log keeps growing until it succeeds", "error", err)
		}
		return nil, nil, false
	})
	return done
}

func (b *Broker) compactSafely(topics []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	if err := backUp(b.dir, topics); err != nil {
		// On a disk that is full, half a copy would be what fills it.
		return errors.Join(fmt.Errorf("copying what is to be compacted: %w", err), os.RemoveAll(b.path(copyingDir)))
	}
	short := room(b.dir, roomForOld) // for what compaction writes
	if short == nil {
		b.cluster.Compact()
	}
	if err := os.Rename(b.path(compactDir), b.path(compactedDir)); err != nil {
		return errors.Join(short, err)
	}
	return errors.Join(short, os.RemoveAll(b.path(compactedDir)))
}

// transacting tells whether a transaction is open in any of the topics.
func (b *Broker) transacting(topics []string) bool {
	for _, t := range topics {
		for _, p := range b.cluster.PartitionInfos(t) {
			if p.LastStableOffset < p.HighWatermark {
				return true
			}
		}
	}
	return false
}

func (b *Broker) bytes(topics []string) int64 {
	var n int64
	for _, t := range topics {
		for _, p := range b.cluster.PartitionInfos(t) {
			n += p.NumBytes
		}
	}
	return n
}

// compacted lists the topics that kfake will compact, which are not only ours.
func compacted(dir string) ([]string, error) {
	topics, err := storedTopics(dir)
	var names []string
	for _, t := range topics {
		if strings.Contains(t.Configs["cleanup.policy"], "compact") {
			names = append(names, t.Name)
		}
	}
	return names, err
}

// storedTopic is a topic in kfake's own table.
type storedTopic struct {
	Name    string            `json:"name"`
	Configs map[string]string `json:"configs"`
}

func storedTopics(dir string) ([]storedTopic, error) {
	data, err := os.ReadFile(filepath.Join(dir, "topics.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var file struct {
		Topics []storedTopic `json:"topics"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("reading topics.json: %w", err)
	}
	return file.Topics, nil
}

// backUp copies the partition folders of the topics.
func backUp(dir string, topics []string) error {
	tmp := filepath.Join(dir, copyingDir)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	for _, t := range topics {
		folders, err := filepath.Glob(filepath.Join(dir, "partitions", globQuote(url.PathEscape(t))+"-*"))
		if err != nil {
			return err
		}
		for _, f := range folders {
			if err := copyFolder(f, filepath.Join(tmp, filepath.Base(f))); err != nil {
				return err
			}
		}
	}
	if err := syncDir(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, compactDir)); err != nil {
		return err
	}
	return syncDir(dir)
}

// globQuote keeps a topic's name from being read as a pattern. A topic named like
// another plus "-x" is copied along, which does no harm.
func globQuote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

func copyFolder(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			if err := copyFile(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
				return err
			}
		}
	}
	return syncDir(to)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

// undoCompaction puts back what a killed compaction may have destroyed. It may be
// killed itself, at any point, and be done again.
func undoCompaction(dir string) error {
	for _, leftover := range []string{copyingDir, compactedDir} {
		if err := os.RemoveAll(filepath.Join(dir, leftover)); err != nil {
			return err
		}
	}
	saved := filepath.Join(dir, compactDir)
	entries, err := os.ReadDir(saved)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		target := filepath.Join(dir, "partitions", e.Name())
		if err := os.RemoveAll(target); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(saved, e.Name()), target); err != nil {
			return err
		}
	}
	return os.Remove(saved)
}
