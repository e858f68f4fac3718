package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"
)

// ErrTooManyDeadLetters says that a role meets more unusable records than chance
// explains: a producer, or this version, is broken. Stop, and leave the offset
// where it is, so that nothing is set aside that a fix could use.
var ErrTooManyDeadLetters = errors.New("too many dead letters")

// DeadLettersPerMinute is how many records a role sets aside before it refuses.
const DeadLettersPerMinute = 1000

// Headers of a dead letter, besides those of the record as it was read.
const (
	HeaderDeadReason    = "dead_letter_reason"
	HeaderDeadError     = "dead_letter_error"
	HeaderDeadRole      = "dead_letter_role"
	HeaderDeadTopic     = "dead_letter_topic"
	HeaderDeadPartition = "dead_letter_partition"
	HeaderDeadOffset    = "dead_letter_offset"
	HeaderDeadAttempt   = "dead_letter_attempt" // 1, and one more each time it was written back and failed again
	HeaderDeadSize      = "dead_letter_size"    // bytes of the whole record, where it was cut short to fit
)

// A dead letter has to fit in a batch, whatever it is made of: these are the most
// bytes it takes over of the value, of key and headers, and of the error.
const (
	maxDeadValue   = MaxRecordBytes - 64<<10
	maxDeadHeaders = 32 << 10
	maxDeadError   = 1 << 10
)

// DeadLetters sets aside the records that a role cannot use. It is safe for
// concurrent use.
type DeadLetters struct {
	client *kgo.Client
	topic  string
	role   string
	limit  *rate.Limiter
	put    *prometheus.CounterVec
}

// NewDeadLetters returns the dead-letter writer of a role.
func NewDeadLetters(client *kgo.Client, names Names, role string, reg prometheus.Registerer) *DeadLetters {
	put := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "seralm_stream_dead_letters_total",
		Help: "Records set aside as unusable, by the role that read them and the reason.",
	}, []string{"role", "reason"})
	if err := reg.Register(put); err != nil {
		var already prometheus.AlreadyRegisteredError
		if !errors.As(err, &already) {
			panic(fmt.Sprintf("BUG: registering dead-letter metrics: %v", err))
		}
		put = already.ExistingCollector.(*prometheus.CounterVec) // of another role in this process
	}
	d := &DeadLetters{client: client, topic: names.DeadLetters(), role: role, put: put}
	return d.Limit(DeadLettersPerMinute)
}

// Limit sets how many records a minute are set aside before Put refuses, and
// returns d.
func (d *DeadLetters) Limit(perMinute int) *DeadLetters {
	d.limit = rate.NewLimiter(rate.Limit(perMinute)/60, perMinute)
	return d
}

// Put writes rec to the dead letters and returns when the broker has it: only then
// may the caller move its offset. reason is a constant, short word (it becomes a
// metric label); cause tells the rest.
func (d *DeadLetters) Put(ctx context.Context, rec *kgo.Record, reason string, cause error) error {
	if !d.limit.Allow() {
		return fmt.Errorf("%s: topic %s partition %d offset %d (%s): %w: more than %d a minute (repair the producer, or deploy the version that understands it, and start again)",
			d.role, rec.Topic, rec.Partition, rec.Offset, reason, ErrTooManyDeadLetters, d.limit.Burst())
	}
	if err := d.client.ProduceSync(ctx, d.letter(rec, reason, cause)).FirstErr(); err != nil {
		return fmt.Errorf("setting aside topic %s partition %d offset %d (%s): %w", rec.Topic, rec.Partition, rec.Offset, reason, err)
	}
	d.put.WithLabelValues(d.role, reason).Inc()
	return nil
}

func (d *DeadLetters) letter(rec *kgo.Record, reason string, cause error) *kgo.Record {
	out := &kgo.Record{Topic: d.topic, Key: rec.Key, Value: rec.Value}
	attempt, taken := 1, len(rec.Key)
	for _, h := range rec.Headers {
		if h.Key == HeaderDeadAttempt {
			if n, err := strconv.Atoi(string(h.Value)); err == nil && n > 0 {
				attempt = n + 1
			}
		}
		if !strings.HasPrefix(h.Key, "dead_letter_") {
			out.Headers = append(out.Headers, h)
			taken += len(h.Key) + len(h.Value)
		}
	}
	whole := taken + len(rec.Value)
	if taken > maxDeadHeaders {
		out.Key, out.Headers = out.Key[:min(len(out.Key), MaxName)], nil
	}
	if len(out.Value) > maxDeadValue {
		out.Value = out.Value[:maxDeadValue]
	}
	add := func(key, value string) {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	add(HeaderDeadReason, reason)
	if cause != nil {
		text := cause.Error()
		add(HeaderDeadError, text[:min(len(text), maxDeadError)])
	}
	add(HeaderDeadRole, d.role)
	add(HeaderDeadTopic, rec.Topic)
	add(HeaderDeadPartition, strconv.Itoa(int(rec.Partition)))
	add(HeaderDeadOffset, strconv.FormatInt(rec.Offset, 10))
	add(HeaderDeadAttempt, strconv.Itoa(attempt))
	if taken > maxDeadHeaders || len(rec.Value) > maxDeadValue {
		add(HeaderDeadSize, strconv.Itoa(whole)) // all of it is still at its topic, partition and offset
	}
	return out
}
