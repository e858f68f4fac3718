package replay

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/producers/dataset"
	"seralm/stream"
)

const (
	chunkRecords = 512
	// chunkBytes ends a chunk of items, whose texts can be long.
	chunkBytes = 1 << 20
)

// chunk is a piece of a stream on its way to the broker.
type chunk struct {
	end    int // position behind its last record
	encode func() ([]*kgo.Record, error)

	recs  []*kgo.Record
	err   error
	ready chan struct{} // closed when the two above are set
}

func newChunk(end int, encode func() ([]*kgo.Record, error)) *chunk {
	return &chunk{end: end, encode: encode, ready: make(chan struct{})}
}

// source hands out a stream in chunks, in order, until its end, ctx's end, or an error
// of emit.
type source func(ctx context.Context, emit func(*chunk) error) error

// interactions is the data set's stream from interaction from on.
func interactions(data *dataset.Dataset, topic string, from int, pace *pacer) source {
	return func(ctx context.Context, emit func(*chunk) error) error {
		for i := from; i < data.Len(); {
			to, err := pace.take(ctx, i, min(i+chunkRecords, data.Len()))
			if err != nil {
				return err
			}
			begin := i
			i = to
			if err := emit(newChunk(to, func() ([]*kgo.Record, error) { return encode(data, topic, begin, to) })); err != nil {
				return err
			}
		}
		return nil
	}
}

func encode(data *dataset.Dataset, topic string, from, to int) ([]*kgo.Record, error) {
	recs := make([]*kgo.Record, 0, to-from)
	for i := from; i < to; i++ {
		e := data.At(i)
		rec, err := stream.NewRecord(topic, e.Body.User, e.ID, e.Source, e.Time, e.Body)
		if err != nil {
			return nil, fmt.Errorf("the event of %s: %w", e.ID, err)
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

// items is the catalogue without its first skip rows. It is read as it goes, so it is
// encoded as it goes.
func items(data *dataset.Dataset, topic string, skip int) source {
	return func(ctx context.Context, emit func(*chunk) error) error {
		var recs []*kgo.Record
		row, size := 0, 0
		flush := func() error {
			full := recs
			recs, size = nil, 0
			return emit(newChunk(row, func() ([]*kgo.Record, error) { return full, nil }))
		}
		for e, err := range data.Items() {
			if err != nil {
				return err
			}
			if row++; row <= skip {
				continue
			}
			rec, err := stream.NewRecord(topic, e.Body.Item, e.ID, e.Source, e.Time, e.Body)
			if err != nil {
				return fmt.Errorf("the item of %s: %w", e.ID, err)
			}
			recs = append(recs, rec)
			if size += len(rec.Value); len(recs) == chunkRecords || size >= chunkBytes {
				if err := flush(); err != nil {
					return err
				}
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if len(recs) == 0 {
			return nil
		}
		return flush()
	}
}
