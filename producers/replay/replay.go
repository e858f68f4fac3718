package replay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/producers/dataset"
	"seralm/stream"
)

// Options say what to replay, to where and how fast.
type Options struct {
	Data  *dataset.Dataset
	Kafka config.Kafka // its topics must exist (stream.Ensure)
	// Dir is the folder that keeps the cursors, one for each data set and log.
	Dir string
	// Speed is how many seconds of the data set pass in one second: 1 is real time,
	// 3600 an hour a second, 0 as fast as possible. No gap is waited for longer than
	// MaxGap.
	Speed float64
	// Items writes the catalogue first.
	Items bool
	// Restart begins anew, whatever the cursor says.
	Restart bool
	// Progress gets a bar if it is a terminal, else a line every few seconds; nil =
	// silent.
	Progress io.Writer
}

func (o Options) validate() error {
	switch {
	case o.Data == nil:
		return errors.New("BUG: a replay without a data set")
	case o.Speed < 0 || math.IsNaN(o.Speed) || math.IsInf(o.Speed, 0):
		return fmt.Errorf("the speed is %g; it must be 0 (as fast as possible) or a positive number: 1 is real time, 3600 an hour a second", o.Speed)
	}
	return nil
}

// Run replays a data set, from where an earlier run on the same log stopped. The
// Result tells what happened also when there is an error, after which the next run
// goes on. When ctx ends, what is in flight is waited for a few seconds, and ctx's
// error returned.
func Run(ctx context.Context, o Options) (Result, error) {
	return run(ctx, o, defaults)
}

func run(ctx context.Context, o Options, l limits) (res Result, err error) {
	if err := o.validate(); err != nil {
		return res, err
	}
	res = Result{Name: o.Data.Name(), Summary: o.Data.Summary()}
	opts, err := stream.ClientOptions(o.Kafka)
	if err != nil {
		return res, err
	}
	cl, err := kgo.NewClient(append(opts, producer...)...)
	if err != nil {
		return res, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	w := &writer{cl: cl, brokers: strings.Join(o.Kafka.Brokers, ", "), limits: l}
	defer cl.Close()
	log, err := identify(ctx, kadm.NewClient(cl), o.Kafka, l.patience)
	if err != nil {
		return res, err
	}
	at, err := openCursor(o.Dir, o.Data, log, o.Restart)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, at.close()) }()

	names := stream.NamesOf(o.Kafka.TopicPrefix)
	start := at.cursor
	defer func() {
		res.Items, res.Events = at.Items-start.Items, at.Next-start.Next
		res.SkippedItems, res.SkippedEvents = start.Items, min(start.Next, o.Data.Len()) // a limit may have been larger before
		res.Left = max(0, o.Data.Len()-at.Next)
	}()
	if o.Items && !at.ItemsDone {
		if err := w.write(ctx, items(o.Data, names.Items(), at.Items), at.saveItems); err != nil {
			return res, fmt.Errorf("replaying the catalogue of %s: %w", o.Data.Name(), err)
		}
		at.ItemsDone = true
		if err := at.save(); err != nil {
			return res, err
		}
	}
	if at.Next >= o.Data.Len() {
		return res, nil
	}
	began, pace := time.Now(), newPacer(o.Data, o.Speed, at.Next)
	defer func() { res.Seconds, res.Gaps = time.Since(began).Seconds(), pace.cut }()
	w.acked.Store(int64(at.Next))
	stop := showProgress(o.Progress, o.Data.Len(), &w.acked)
	defer stop()
	if err := w.write(ctx, interactions(o.Data, names.Interactions(), at.Next, pace), at.saveNext); err != nil {
		return res, fmt.Errorf("replaying %s: %w", o.Data.Name(), err)
	}
	return res, nil
}

// identify returns what tells this log from every other: the cluster's id and those
// of the topics, which a topic that is deleted and made again does not keep.
func identify(ctx context.Context, adm *kadm.Client, cfg config.Kafka, patience time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	names := stream.NamesOf(cfg.TopicPrefix)
	meta, err := adm.Metadata(ctx, names.Interactions(), names.Items())
	if err != nil {
		return "", fmt.Errorf("describing topics at %s: %w (is the broker up? `seralm up` starts one)", strings.Join(cfg.Brokers, ", "), err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q", meta.Cluster)
	for _, name := range []string{names.Interactions(), names.Items()} {
		t, ok := meta.Topics[name]
		switch {
		case !ok, errors.Is(t.Err, kerr.UnknownTopicOrPartition):
			return "", fmt.Errorf("there is no topic %s at %s (run `seralm topics create`)", name, strings.Join(cfg.Brokers, ", "))
		case t.Err != nil:
			return "", fmt.Errorf("describing topic %s: %w", name, t.Err)
		}
		h.Write(t.ID[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}
