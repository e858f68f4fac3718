package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A full disk is met before it is full. kfake goes on after a write that failed: it
// acknowledges the repetition of a batch that it does not have, and shows readers a
// transaction whose end it could not write as committed, which the next start aborts.
// So it is asked to write only while there is room:
//
//   - roomForNew is what new events need to find free. Below, they are refused with an
//     error that clients take for a broker in trouble, and wait for.
//   - roomForOld is the same for transactions, in which jobs write what they made of
//     events that the log has: those are worked off first. A start needs it too.
//   - What is left below is for the ends of transactions and for checkpoints.
//
// If a write of the log fails all the same, because somebody took the rest, the process
// ends there and then, before the broker can answer: see brokerLog.
const (
	roomForNew = 64 << 20
	roomForOld = 32 << 20
)

// noRoomError says what to do about a disk that is nearly full.
type noRoomError struct {
	dir        string
	free, want int64
}

func (e *noRoomError) Error() string {
	return fmt.Sprintf("the disk of %s has %d MiB free, and the embedded broker wants %d: make room there, or set data_dir to a folder on another disk",
		e.dir, e.free>>20, e.want>>20)
}

// room returns an error if a folder's disk has less than want bytes free.
func room(dir string, want int64) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return fmt.Errorf("asking for the room on the disk of %s: %w", dir, err)
	}
	if free := int64(s.Bavail) * s.Bsize; free < want {
		return &noRoomError{dir, free, want}
	}
	return nil
}

// keepRoom refuses records while there is no room for them, and says so when that
// begins and ends.
func (b *Broker) keepRoom() {
	full := false
	b.cluster.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		b.cluster.KeepControl()
		req := kreq.(*kmsg.ProduceRequest)
		want := int64(roomForNew)
		if req.TransactionID != nil {
			want = roomForOld
		}
		err := room(b.dir, want)
		var short *noRoomError
		switch {
		case err == nil:
			if full && want == roomForNew {
				full = false
				slog.Info("the embedded broker has room again; events are taken")
			}
			return nil, nil, false
		case !errors.As(err, &short):
			slog.Error("embedded broker", "error", err)
			return nil, nil, false
		case !full:
			full = true
			slog.Error("the embedded broker takes no more events until there is room; those that were acknowledged are safe", "error", err)
		}
		return Refuse(req, kerr.KafkaStorageError), nil, true
	})
}

// Refuse answers every partition of a request to a fake broker with an error.
func Refuse(req *kmsg.ProduceRequest, with *kerr.Error) *kmsg.ProduceResponse {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, t := range req.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, with.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// brokerLog hands the broker's warnings and errors to slog, and ends the process with
// the one that says that the log was not written: what comes after such a failure
// would be acknowledged and lost.
type brokerLog struct{ dir string }

func (l brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	detail := fmt.Sprintf(format, args...)
	switch {
	case level > kfake.LogLevelWarn || strings.HasPrefix(format, "txn: EndTxn slow"): // a timing, no fault
	case unwritten(format):
		slog.Error("the embedded broker could not write its log and ends here; nothing that was acknowledged is lost: "+
			"make room on the disk, or mend it, and start again", "folder", l.dir, "error", detail)
		os.Exit(1) //nolint:forbidigo // an error that is returned comes after the acknowledgement
	case level == kfake.LogLevelError:
		slog.Error("embedded broker", "detail", detail)
	default:
		slog.Warn("embedded broker", "detail", detail)
	}
}

// unwritten tells from a message's format whether records, the end of a transaction or
// the table of topics could not be written, or the rest of a compaction. Positions of
// consumer groups are not among them: they are for people, and histories are told twice
// without harm.
func unwritten(format string) bool {
	switch {
	case strings.HasPrefix(format, "persist group entry"):
		return false
	case strings.HasPrefix(format, "persist to disk"): // in Close: the next start reads the log instead
		return false
	}
	return strings.HasPrefix(format, "persist ") || strings.HasPrefix(format, "rebuildSegments") || strings.HasPrefix(format, "endTx: failed to persist")
}
