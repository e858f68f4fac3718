package rollout

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/models/snapshot"
	"seralm/stream"
)

// watch follows the state of the roll-outs and the recommender's snapshots. It holds two
// of these: the newest, and the one that the present roll-out is judged with, which is
// the newest of those from before it began, or the oldest that the log has.
type watch struct {
	cfg  config.Config
	log  *slog.Logger
	read chan struct{} // closed when the topic of roll-outs was read to its end

	mu            sync.Mutex
	state         stream.Rollout
	last          int64 // the newest roll-out that the gate has decided on
	pinned        *stream.Blob
	newest        *stream.Blob
	version       snapshot.Version // of newest
	snapshotsRead bool
	news          chan struct{} // closed and replaced when something changes
}

func newWatch(cfg config.Config, log *slog.Logger) *watch {
	return &watch{cfg: cfg, log: log, read: make(chan struct{}), news: make(chan struct{})}
}

func (w *watch) followRollouts(ctx context.Context) error {
	return stream.Follow(ctx, w.cfg.Kafka, stream.NamesOf(w.cfg.Kafka.TopicPrefix).Rollouts(), func(rec *kgo.Record) error {
		body, err := stream.DecodeRolloutRecord(rec)
		if err != nil {
			w.log.Warn("a record of a roll-out is invalid and has no effect", "offset", rec.Offset, "error", err)
			return nil
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		switch b := body.(type) {
		case stream.Rollout:
			if b.ID != w.state.ID {
				w.pinned = w.newest // nil while the log is read for the first time
			}
			w.state = b
			w.tell()
		case stream.Decision:
			if b.By == stream.ByGate {
				w.last = max(w.last, b.Rollout)
			}
		}
		return nil
	}, func() { close(w.read) })
}

func (w *watch) followSnapshots(ctx context.Context) error {
	select { // which one is wanted depends on when the roll-out began
	case <-w.read:
	case <-ctx.Done():
		return ctx.Err()
	}
	chunks := stream.NewChunkReader(stream.MaxIncomplete)
	return stream.Follow(ctx, w.cfg.Kafka, stream.NamesOf(w.cfg.Kafka.TopicPrefix).Snapshots(), func(rec *kgo.Record) error {
		if !strings.HasPrefix(string(rec.Key), w.cfg.Recommender.Name+"/") {
			return nil
		}
		blob, err := chunks.Add(rec)
		if err == nil && blob != nil {
			err = w.take(blob)
		}
		if err != nil {
			w.log.Warn("a snapshot is not usable", "offset", rec.Offset, "error", err)
		}
		return nil
	}, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.snapshotsRead = true
		w.tell()
	})
}

func (w *watch) take(blob *stream.Blob) error {
	m, err := snapshot.DecodeManifest(blob.Manifest)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.newest != nil && !w.version.Less(m.Version()) {
		return nil
	}
	w.newest, w.version = blob, m.Version()
	if w.pinned == nil || !m.Created.After(w.state.Began) {
		w.pinned = blob
	}
	w.tell()
	return nil
}

// tell is called with mu held.
func (w *watch) tell() {
	close(w.news)
	w.news = make(chan struct{})
}

// look returns the roll-out that waits for a decision, or one in another phase; the
// snapshot to judge it with, nil while there is none; and a channel that closes when
// something changes.
func (w *watch) look() (stream.Rollout, *stream.Blob, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.read:
	default:
		return stream.Rollout{}, nil, w.news
	}
	if !w.snapshotsRead || w.last >= w.state.ID {
		return stream.Rollout{}, nil, w.news
	}
	return w.state, w.pinned, w.news
}

// decided notes that a decision was written.
func (w *watch) decided(rollout int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = max(w.last, rollout)
}
