package stream

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/segmentio/encoding/json"
	"github.com/twmb/franz-go/pkg/kgo"
)

// CloudEvents types of the records that SeRALM reads and writes. The version is
// part of the type: a consumer that meets one it does not know dead-letters it.
const (
	TypeInteraction = "seralm.interaction.v1"
	TypeItem        = "seralm.item.v1"
	TypeImpression  = "seralm.impression.v1"
	TypeStep        = "seralm.step.v1"
	TypeKnowledge   = "seralm.knowledge.v1"
	TypeSample      = "seralm.sample.v1"
)

// Header keys of the CloudEvents Kafka protocol binding, binary content mode.
const (
	HeaderID          = "ce_id"
	HeaderSource      = "ce_source"
	HeaderType        = "ce_type"
	HeaderTime        = "ce_time"
	HeaderSpecVersion = "ce_specversion"
	HeaderContentType = "content-type"

	specVersion = "1.0"
	contentType = "application/json"
)

// MaxName bounds every identifier (user, item, event id, source, ...) in bytes.
const MaxName = 512

// Event is one decoded record with where it came from. (Source, ID) is the
// idempotency key; (Partition, Offset) its place in the log.
type Event[T any] struct {
	ID, Source string
	Time       time.Time
	Body       T
	Deleted    bool // a null value: the keyed thing is gone, Body holds only its key
	Partition  int32
	Offset     int64
}

// InvalidError says that a record can never be used, however often it is read
// again: dead-letter it. Reason is a short phrase for people, and constant enough
// to count by.
type InvalidError struct {
	Field  string // what is wrong, e.g. "user" or "ce_type"
	Reason string
}

func (e *InvalidError) Error() string { return "invalid " + e.Field + ": " + e.Reason }

// IsInvalid reports whether err says that a record is unusable for good.
func IsInvalid(err error) bool {
	var invalid *InvalidError
	return errors.As(err, &invalid)
}

// EventTime is when the record's event happened: the ce_time header, or else the
// record's timestamp. Merge orders by it.
func EventTime(rec *kgo.Record) time.Time {
	for i := range rec.Headers {
		if rec.Headers[i].Key == HeaderTime {
			if t, err := time.Parse(time.RFC3339Nano, string(rec.Headers[i].Value)); err == nil {
				return t
			}
			break
		}
	}
	return rec.Timestamp
}

// NewRecord makes the record of one event: JSON body and CloudEvents headers.
// body is an Interaction, Item, Impression, Step, Knowledge, Sample, or what
// RolloutRecord takes, whose own time is set to t; nil deletes the item named by key, NoKnowledge its knowledge. The error
// is an *InvalidError when the event breaks a rule that its readers would dead-letter
// it for, or is too large for its topic.
//
// The event's time is in ce_time and the body. The record's own timestamp stays
// unset, so that the client fills in when it was written: brokers count retention
// from there, and would otherwise delete a replayed data set of 1998 at once.
func NewRecord(topic, key string, id, source string, t time.Time, body any) (*kgo.Record, error) {
	t = t.UTC().Truncate(time.Millisecond)
	var kind string
	var want string
	switch b := body.(type) {
	case nil:
		kind, want, body = TypeItem, key, nil
		if err := checkName("item", key, true); err != nil {
			return nil, err
		}
	case Interaction:
		b.Time = t
		if err := b.Validate(); err != nil {
			return nil, err
		}
		kind, want, body = TypeInteraction, b.User, b
	case Item:
		b.Time = t
		if err := b.Validate(); err != nil {
			return nil, err
		}
		kind, want, body = TypeItem, b.Item, b
	case Impression:
		b.Time = t
		if err := b.Validate(); err != nil {
			return nil, err
		}
		kind, want, body = TypeImpression, b.User, b
	case Step:
		b.Time = t
		if err := b.Validate(); err != nil {
			return nil, err
		}
		kind, want, body = TypeStep, b.Model, b
	case Knowledge:
		b.Time = t
		if err := b.Validate(); err != nil {
			return nil, err
		}
		kind, want, body = TypeKnowledge, b.Item, b
	case Sample:
		b.Time = t
		if err := b.Validate(); err != nil {
			return nil, err
		}
		kind, want, body = TypeSample, b.Item, b
	case ofRollouts:
		b = b.at(t)
		if err := b.Validate(); err != nil {
			return nil, err
		}
		kind, want, body = b.kind(), b.key(), b
	case NoKnowledge:
		kind, want, body = TypeKnowledge, key, nil
		if err := checkName("item", key, true); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("BUG: no record type for a %T", body)
	}
	if key != want {
		return nil, &InvalidError{"key", "it is not the user, item or model that the body names"}
	}
	if err := checkName(HeaderID, id, true); err != nil {
		return nil, err
	}
	if err := checkName(HeaderSource, source, true); err != nil {
		return nil, err
	}
	if err := checkTime("time", t); err != nil {
		return nil, err
	}
	rec := &kgo.Record{
		Topic: topic, Key: []byte(key),
		Headers: []kgo.RecordHeader{
			{Key: HeaderSpecVersion, Value: []byte(specVersion)},
			{Key: HeaderType, Value: []byte(kind)},
			{Key: HeaderID, Value: []byte(id)},
			{Key: HeaderSource, Value: []byte(source)},
			{Key: HeaderTime, Value: t.AppendFormat(nil, time.RFC3339Nano)},
			{Key: HeaderContentType, Value: []byte(contentType)},
		},
	}
	if body != nil {
		value, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encoding %s: %w", kind, err)
		}
		if most := MaxRecordBytes - 16<<10; kind == TypeSample && len(value) > most { // of others, bounds of the parts see to it
			return nil, &InvalidError{"value", fmt.Sprintf("it has %d bytes; a record of the topic has at most %d", len(value), most)}
		}
		rec.Value = value
	}
	return rec, nil
}

// body is what decode asks of a record's payload.
type payload interface {
	Validate() error
	key() string
	when() time.Time
}

// decode reads headers and body of a record of one type. fromKey, when not nil,
// makes the body of a null value (a deletion) from the record's key, an item's id.
func decode[T payload](rec *kgo.Record, kind string, fromKey func(key string) T) (Event[T], error) {
	ev := Event[T]{Partition: rec.Partition, Offset: rec.Offset}
	var ceType, ceTime, ceSpec string
	for _, h := range rec.Headers {
		switch h.Key {
		case HeaderID:
			ev.ID = string(h.Value)
		case HeaderSource:
			ev.Source = string(h.Value)
		case HeaderType:
			ceType = string(h.Value)
		case HeaderTime:
			ceTime = string(h.Value)
		case HeaderSpecVersion:
			ceSpec = string(h.Value)
		}
	}
	deleted := rec.Value == nil && fromKey != nil
	switch {
	case deleted && ceType == "" && ceSpec == "":
		// Tools that delete a key know nothing of CloudEvents; the key says it all.
		ev.Body, ev.Deleted, ev.Time = fromKey(string(rec.Key)), true, rec.Timestamp.UTC()
		return ev, checkName("item", string(rec.Key), true)
	case ceType == "":
		return ev, &InvalidError{HeaderType, "the header is missing"}
	case ceType != kind:
		return ev, &InvalidError{HeaderType, fmt.Sprintf("%.64q is not %s", ceType, kind)}
	case ceSpec != specVersion:
		return ev, &InvalidError{HeaderSpecVersion, fmt.Sprintf("%.16q is not %s", ceSpec, specVersion)}
	}
	if err := checkName(HeaderID, ev.ID, true); err != nil {
		return ev, err
	}
	if err := checkName(HeaderSource, ev.Source, true); err != nil {
		return ev, err
	}
	ev.Time = rec.Timestamp
	if ceTime != "" {
		t, err := time.Parse(time.RFC3339Nano, ceTime)
		if err != nil {
			return ev, &InvalidError{HeaderTime, "it is not an RFC 3339 time"}
		}
		ev.Time = t
	}
	switch {
	case deleted:
		ev.Body, ev.Deleted = fromKey(string(rec.Key)), true
	case rec.Value == nil:
		return ev, &InvalidError{"value", "it is null"}
	default:
		if err := json.Unmarshal(rec.Value, &ev.Body); err != nil {
			return ev, &InvalidError{"value", fmt.Sprintf("not the JSON of %s: %.200s", kind, err)}
		}
		if t := ev.Body.when(); !t.IsZero() {
			ev.Time = t
		}
	}
	ev.Time = ev.Time.UTC()
	if err := checkTime("time", ev.Time); err != nil {
		return ev, err
	}
	if deleted {
		return ev, checkName("item", string(rec.Key), true)
	}
	if err := ev.Body.Validate(); err != nil {
		return ev, err
	}
	// Kafka keeps order per key only: another key would silently lose the order of a user's events.
	if string(rec.Key) != ev.Body.key() {
		return ev, &InvalidError{"key", "it is not the user, item or model that the body names"}
	}
	return ev, nil
}

func checkName(field, s string, required bool) error {
	switch {
	case s == "" && required:
		return &InvalidError{field, "it is empty"}
	case len(s) > MaxName:
		return &InvalidError{field, fmt.Sprintf("it is longer than %d bytes", MaxName)}
	case !utf8.ValidString(s):
		return &InvalidError{field, "it is not valid UTF-8"}
	case strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return &InvalidError{field, "it holds a control character"}
	}
	return nil
}

// RFC 3339 ends with the year 9999, and a time before 1970 is a clock never set.
func checkTime(field string, t time.Time) error {
	if t.Before(time.UnixMilli(0)) || t.Year() > 9999 {
		return &InvalidError{field, "it is not between the years 1970 and 9999"}
	}
	return nil
}
