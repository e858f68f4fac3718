package generator

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

// watch follows what is published, and holds the newest snapshot of each model that the
// generator reads.
type watch struct {
	cfg      config.Config
	log      *slog.Logger
	caughtUp chan struct{} // closed when the topic was read to its end

	mu       sync.Mutex
	policy   *stream.PolicySnapshot
	models   map[string]*stream.Blob // of recommenders, by name
	versions map[string]snapshot.Version
	news     chan struct{} // closed and replaced when one comes
}

func newWatch(cfg config.Config, log *slog.Logger) *watch {
	return &watch{
		cfg: cfg, log: log, caughtUp: make(chan struct{}), news: make(chan struct{}),
		models: map[string]*stream.Blob{}, versions: map[string]snapshot.Version{},
	}
}

func (w *watch) follow(ctx context.Context) error {
	chunks := stream.NewChunkReader(stream.MaxIncomplete)
	wanted := map[string]bool{w.cfg.Alignment.Name: true, w.cfg.Recommender.Name: true, w.cfg.Alignment.Base: true}
	return stream.Follow(ctx, w.cfg.Kafka, stream.NamesOf(w.cfg.Kafka.TopicPrefix).Snapshots(), func(rec *kgo.Record) error {
		name, _, _ := strings.Cut(string(rec.Key), "/")
		if !wanted[name] {
			return nil
		}
		blob, err := chunks.Add(rec)
		if err == nil && blob != nil {
			err = w.take(blob)
		}
		if err != nil {
			w.log.Warn("a snapshot is not usable", "model", name, "offset", rec.Offset, "error", err)
		}
		return nil
	}, func() { close(w.caughtUp) })
}

// take keeps a snapshot if it is the newest of its model.
func (w *watch) take(blob *stream.Blob) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if blob.Key == w.cfg.Alignment.Name {
		s, err := stream.DecodePolicySnapshot(blob)
		if err != nil {
			return err
		}
		if w.policy != nil && !s.Newer(*w.policy) {
			return nil
		}
		w.policy = &s
	} else {
		m, err := snapshot.DecodeManifest(blob.Manifest)
		if err != nil {
			return err
		}
		if w.models[blob.Key] != nil && !w.versions[blob.Key].Less(m.Version()) {
			return nil
		}
		w.models[blob.Key], w.versions[blob.Key] = blob, m.Version()
	}
	close(w.news)
	w.news = make(chan struct{})
	return nil
}

// newest returns the newest policy and recommender, nil where there is none yet, and a
// channel that closes when something newer comes.
func (w *watch) newest(recommender string) (*stream.PolicySnapshot, *stream.Blob, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.policy, w.models[recommender], w.news
}
