package stream

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// openTxn is a transaction that a partition holds records of and no end to.
type openTxn struct {
	topic     string
	partition int32
	producer  int64
	epoch     int16
}

// recoverFolder repairs what a killed broker left, before any client can connect.
//
// kfake forgets, in memory only, the transactions that were open when it was
// killed; in the log they stay without an end. The same writer's next transaction,
// which has the same producer id, would then end them too: readers would drop its
// records with theirs, and after a second crash see theirs as committed. So each is
// given the end it should have had, an abort marker.
func recoverFolder(dir string) error {
	if err := undoCompaction(dir); err != nil {
		return err
	}
	open, err := openTransactions(dir)
	if err != nil || len(open) == 0 {
		return err
	}
	cluster, err := kfake.NewCluster(kfakeOptions(dir)...) // on a port that nobody knows
	if err != nil {
		return err
	}
	defer cluster.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, txn := range open {
		if err := writeAbort(ctx, cl, txn); err != nil {
			return fmt.Errorf("aborting a transaction in topic %s partition %d: %w", txn.topic, txn.partition, err)
		}
	}
	return nil
}

func writeAbort(ctx context.Context, cl *kgo.Client, txn openTxn) error {
	t := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	t.Topic, t.Partitions = txn.topic, []int32{txn.partition}
	m := kmsg.NewWriteTxnMarkersRequestMarker()
	m.ProducerID, m.ProducerEpoch = txn.producer, txn.epoch
	m.Topics = append(m.Topics, t)
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	req.Markers = append(req.Markers, m)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	for _, m := range resp.Markers {
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// openTransactions scans the log for transactions without an end.
func openTransactions(dir string) ([]openTxn, error) {
	folders, err := os.ReadDir(filepath.Join(dir, "partitions"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var open []openTxn
	for _, f := range folders {
		cut := strings.LastIndexByte(f.Name(), '-')
		if cut < 0 {
			continue
		}
		partition, err := strconv.ParseInt(f.Name()[cut+1:], 10, 32)
		if err != nil {
			continue
		}
		topic, err := url.PathUnescape(f.Name()[:cut])
		if err != nil {
			continue
		}
		epochs, err := scanPartition(filepath.Join(dir, "partitions", f.Name()))
		if err != nil {
			return nil, fmt.Errorf("scanning topic %s partition %d: %w", topic, partition, err)
		}
		for producer, epoch := range epochs {
			open = append(open, openTxn{topic, int32(partition), producer, epoch})
		}
	}
	return open, nil
}

// scanPartition returns the producers, with their epochs, whose last transaction
// in a partition has no end marker.
func scanPartition(folder string) (map[int64]int16, error) {
	files, err := filepath.Glob(filepath.Join(globQuote(folder), "*.dat"))
	if err != nil {
		return nil, err
	}
	base := func(path string) int64 {
		n, _ := strconv.ParseInt(strings.TrimSuffix(filepath.Base(path), ".dat"), 10, 64)
		return n
	}
	slices.SortFunc(files, func(a, b string) int { return cmp.Compare(base(a), base(b)) })
	open := map[int64]int16{}
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(scanSegment(f, open), f.Close()); err != nil {
			return nil, err
		}
	}
	return open, nil
}

// Layout of a record batch (message format 2), of which a segment file is made.
const (
	batchLengthAt     = 8 // of what follows the length
	batchAttributesAt = 21
	batchProducerAt   = 43
	batchEpochAt      = 51
	batchHeader       = 61

	attributeTransactional = 1 << 4
	attributeControl       = 1 << 5
)

// scanSegment reads the batch headers of a segment; a batch cut short by the crash
// ends it, as it does when kfake loads it.
func scanSegment(f io.ReaderAt, open map[int64]int16) error {
	var h [batchHeader]byte
	for at := int64(0); ; {
		n, err := f.ReadAt(h[:], at)
		if n < len(h) {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		next := at + 12 + int64(int32(binary.BigEndian.Uint32(h[batchLengthAt:])))
		if next < at+batchHeader {
			return nil // torn
		}
		if n, _ := f.ReadAt(h[:1], next-1); n < 1 {
			return nil // torn
		}
		attributes := binary.BigEndian.Uint16(h[batchAttributesAt:])
		producer := int64(binary.BigEndian.Uint64(h[batchProducerAt:]))
		switch {
		case attributes&attributeControl != 0:
			delete(open, producer)
		case attributes&attributeTransactional != 0:
			open[producer] = int16(binary.BigEndian.Uint16(h[batchEpochAt:]))
		}
		at = next
	}
}
