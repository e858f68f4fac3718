package stream

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 123_000_000, time.UTC)

func ptr[T any](v T) *T { return &v }

func TestEveryRecordTypeRoundTrips(t *testing.T) {
	interaction := Interaction{User: "u", Item: "i", Type: "click", Value: ptr(4.5), Time: noon, Seq: 7, Session: "s", RecommendationID: "r"}
	item := Item{Item: "i", Title: "Heat (1995)", Categories: []string{"Crime", "Thriller"}, Text: "a\ntext", Hidden: true, Time: noon}
	impression := Impression{RecommendationID: "r", User: "u", Items: []string{"a", "b"}, Scores: []float32{1.5, -2}, Source: "personalised", Model: "m", Epoch: 2, Step: 30, Time: noon}
	step := Step{Model: "m", Epoch: 2, Step: 30, Ranges: []Range{{0, 5, 8}, {3, 0, 1}}, Order: []int32{0, 1, 3, 1, 0, 2}, Events: 4, Loss: 6.25, Time: noon,
		Samples: &SampleBatch{Ranges: []Range{{1, 7, 9}}, Order: []int32{1, 2}, Count: 2, Policy: ModelVersion{"p", 3}, Encoder: "minilm"}}

	for _, tc := range []struct {
		name, key, kind string
		body            any
		decode          func(*kgo.Record) (any, error)
	}{
		{"interaction", "u", TypeInteraction, interaction, func(r *kgo.Record) (any, error) { return untyped(DecodeInteraction(r)) }},
		{"interaction without options", "u", TypeInteraction, Interaction{User: "u", Item: "i", Type: "view", Time: noon}, func(r *kgo.Record) (any, error) { return untyped(DecodeInteraction(r)) }},
		{"item", "i", TypeItem, item, func(r *kgo.Record) (any, error) { return untyped(DecodeItem(r)) }},
		{"impression", "u", TypeImpression, impression, func(r *kgo.Record) (any, error) { return untyped(DecodeImpression(r)) }},
		{"step", "m", TypeStep, step, func(r *kgo.Record) (any, error) { return untyped(DecodeStep(r)) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rec, err := NewRecord("topic", tc.key, "id-1", "test/source", noon.Add(456*time.Microsecond), tc.body)
			require.NoError(t, err)
			require.Equal(t, "topic", rec.Topic)
			require.Equal(t, tc.key, string(rec.Key))
			require.Zero(t, rec.Timestamp, "the client fills in when it was written: retention counts from there")
			require.Equal(t, noon, EventTime(rec))
			headers := map[string]string{}
			for _, h := range rec.Headers {
				headers[h.Key] = string(h.Value)
			}
			require.Equal(t, map[string]string{
				"ce_specversion": "1.0", "ce_type": tc.kind, "ce_id": "id-1", "ce_source": "test/source",
				"ce_time": "2026-11-23T12:00:00.123Z", "content-type": "application/json",
			}, headers)

			rec.Partition, rec.Offset = 3, 99
			got, err := tc.decode(rec)
			require.NoError(t, err)
			require.Equal(t, Event[any]{ID: "id-1", Source: "test/source", Time: noon, Body: tc.body, Partition: 3, Offset: 99}, got)
		})
	}
}

// untyped forgets an event's static type.
func untyped[T any](ev Event[T], err error) (any, error) {
	return Event[any]{ev.ID, ev.Source, ev.Time, ev.Body, ev.Deleted, ev.Partition, ev.Offset}, err
}

func TestAnItemIsDeletedByANullValue(t *testing.T) {
	rec, err := NewRecord("items", "i", "id", "source", noon, nil)
	require.NoError(t, err)
	require.Nil(t, rec.Value)
	ev, err := DecodeItem(rec)
	require.NoError(t, err)
	require.True(t, ev.Deleted)
	require.Equal(t, Item{Item: "i", Time: noon}, ev.Body)

	_, err = DecodeInteraction(&kgo.Record{Key: []byte("u"), Headers: interactionHeaders()})
	require.ErrorContains(t, err, "value: it is null")
}

func TestADeletionByAToolThatSetsNoHeadersIsUnderstood(t *testing.T) {
	ev, err := DecodeItem(&kgo.Record{Key: []byte("i"), Timestamp: noon})
	require.NoError(t, err)
	require.True(t, ev.Deleted)
	require.Equal(t, noon, ev.Time)
}

func TestNewRecordRefusesWhatReadersWouldSetAside(t *testing.T) {
	good := Interaction{User: "u", Item: "i", Type: "click"}
	with := func(change func(*Interaction)) Interaction { i := good; change(&i); return i }
	long := strings.Repeat("x", MaxName+1)
	for name, tc := range map[string]struct {
		key, id, source string
		at              time.Time
		body            any
		field           string
	}{
		"no user":               {"", "id", "s", noon, with(func(i *Interaction) { i.User = "" }), "user"},
		"no item":               {"u", "id", "s", noon, with(func(i *Interaction) { i.Item = "" }), "item"},
		"no type":               {"u", "id", "s", noon, with(func(i *Interaction) { i.Type = "" }), "type"},
		"a long item":           {"u", "id", "s", noon, with(func(i *Interaction) { i.Item = long }), "item"},
		"a control character":   {"u", "id", "s", noon, with(func(i *Interaction) { i.Session = "a\x00b" }), "session"},
		"broken UTF-8":          {"u", "id", "s", noon, with(func(i *Interaction) { i.Item = "\xff" }), "item"},
		"not a number":          {"u", "id", "s", noon, with(func(i *Interaction) { i.Value = ptr(math.NaN()) }), "value"},
		"infinite":              {"u", "id", "s", noon, with(func(i *Interaction) { i.Value = ptr(math.Inf(1)) }), "value"},
		"another user's key":    {"v", "id", "s", noon, good, "key"},
		"no id":                 {"u", "", "s", noon, good, "ce_id"},
		"no source":             {"u", "id", "", noon, good, "ce_source"},
		"before 1970":           {"u", "id", "s", time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC), good, "time"},
		"after 9999":            {"u", "id", "s", time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), good, "time"},
		"a long title":          {"i", "id", "s", noon, Item{Item: "i", Title: strings.Repeat("x", MaxTitle+1)}, "title"},
		"a long text":           {"i", "id", "s", noon, Item{Item: "i", Text: strings.Repeat("x", MaxText+1)}, "text"},
		"broken UTF-8 in text":  {"i", "id", "s", noon, Item{Item: "i", Text: "\xff"}, "text"},
		"too many categories":   {"i", "id", "s", noon, Item{Item: "i", Categories: make([]string, MaxCategories+1)}, "categories"},
		"an empty category":     {"i", "id", "s", noon, Item{Item: "i", Categories: []string{""}}, "categories"},
		"scores of other items": {"u", "id", "s", noon, Impression{RecommendationID: "r", User: "u", Source: "x", Items: []string{"a"}, Scores: []float32{1, 2}}, "scores"},
		"too many items":        {"u", "id", "s", noon, Impression{RecommendationID: "r", User: "u", Source: "x", Items: make([]string, MaxImpressionItems+1)}, "items"},
		"a range twice":         {"m", "id", "s", noon, Step{Model: "m", Ranges: []Range{{0, 0, 1}, {0, 1, 2}}}, "ranges"},
		"a range backwards":     {"m", "id", "s", noon, Step{Model: "m", Ranges: []Range{{0, 2, 1}}}, "ranges"},
		"order without range":   {"m", "id", "s", noon, Step{Model: "m", Order: []int32{0, 1}, Events: 1}, "order"},
		"order of fewer events": {"m", "id", "s", noon, Step{Model: "m", Ranges: []Range{{0, 0, 2}}, Order: []int32{0, 1}, Events: 2}, "order"},
		"order of more events":  {"m", "id", "s", noon, Step{Model: "m", Ranges: []Range{{0, 0, 2}}, Order: []int32{0, math.MaxInt32, 0, math.MaxInt32}, Events: 2}, "order"},
		"samples none":          {"m", "id", "s", noon, Step{Model: "m", Samples: &SampleBatch{}}, "samples.count"},
		"samples without range": {"m", "id", "s", noon, Step{Model: "m", Samples: &SampleBatch{Count: 1, Order: []int32{0, 1}}}, "samples.order"},
		"samples backwards":     {"m", "id", "s", noon, Step{Model: "m", Samples: &SampleBatch{Count: 1, Ranges: []Range{{0, 2, 1}}}}, "samples.ranges"},
		"samples of no policy":  {"m", "id", "s", noon, Step{Model: "m", Samples: &SampleBatch{Count: 1, Policy: ModelVersion{Step: -1}}}, "samples.policy"},
		"samples of no encoder": {"m", "id", "s", noon, Step{Model: "m", Samples: &SampleBatch{Count: 1, Encoder: "\n"}}, "samples.encoder"},
		"loss not a number":     {"m", "id", "s", noon, Step{Model: "m", Loss: math.NaN()}, "loss"},
		"deleting nothing":      {"", "id", "s", noon, nil, "item"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewRecord("topic", tc.key, tc.id, tc.source, tc.at, tc.body)
			var invalid *InvalidError
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, tc.field, invalid.Field, invalid.Reason)
		})
	}
	_, err := NewRecord("topic", "k", "id", "s", noon, 42)
	require.ErrorContains(t, err, "BUG: no record type for a int")
	require.False(t, IsInvalid(err))
}

func interactionHeaders(change ...string) []kgo.RecordHeader {
	h := []kgo.RecordHeader{
		{Key: HeaderSpecVersion, Value: []byte("1.0")}, {Key: HeaderType, Value: []byte(TypeInteraction)},
		{Key: HeaderID, Value: []byte("id")}, {Key: HeaderSource, Value: []byte("source")},
	}
	for i := 0; i < len(change); i += 2 {
		for j := range h {
			if h[j].Key == change[i] {
				h[j].Value = []byte(change[i+1])
			}
		}
		if change[i] == HeaderTime {
			h = append(h, kgo.RecordHeader{Key: HeaderTime, Value: []byte(change[i+1])})
		}
	}
	return h
}

// What other producers, or damage, may put into the topic.
func TestUnusableRecordsAreInvalidAndSayWhy(t *testing.T) {
	body := `{"user":"u","item":"i","type":"click","time":"2026-11-23T12:00:00Z"}`
	for name, tc := range map[string]struct {
		headers    []kgo.RecordHeader
		key, value string
		says       string
	}{
		"no headers":          {nil, "u", body, "invalid ce_type: the header is missing"},
		"a later version":     {interactionHeaders(HeaderType, "seralm.interaction.v2"), "u", body, `"seralm.interaction.v2" is not seralm.interaction.v1`},
		"another type":        {interactionHeaders(HeaderType, "com.example.click"), "u", body, "invalid ce_type"},
		"another spec":        {interactionHeaders(HeaderSpecVersion, "2.0"), "u", body, "invalid ce_specversion"},
		"no id":               {interactionHeaders(HeaderID, ""), "u", body, "invalid ce_id: it is empty"},
		"no source":           {interactionHeaders(HeaderSource, ""), "u", body, "invalid ce_source: it is empty"},
		"a time that is none": {interactionHeaders(HeaderTime, "yesterday"), "u", body, "invalid ce_time"},
		"not JSON":            {interactionHeaders(), "u", `{"user":`, "invalid value: not the JSON of seralm.interaction.v1"},
		"NaN":                 {interactionHeaders(), "u", `{"user":"u","item":"i","type":"t","value":NaN}`, "invalid value"},
		"a number too large":  {interactionHeaders(), "u", `{"user":"u","item":"i","type":"t","value":1e999}`, "invalid value"},
		"an array":            {interactionHeaders(), "u", `[]`, "invalid value"},
		"another user's key":  {interactionHeaders(), "v", body, "invalid key"},
		"no item":             {interactionHeaders(), "u", `{"user":"u","type":"t"}`, "invalid item: it is empty"},
		"a time before 1970":  {interactionHeaders(), "u", `{"user":"u","item":"i","type":"t","time":"1900-01-01T00:00:00Z"}`, "invalid time"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeInteraction(&kgo.Record{Key: []byte(tc.key), Value: []byte(tc.value), Headers: tc.headers, Timestamp: noon})
			require.ErrorContains(t, err, tc.says)
			require.True(t, IsInvalid(err))
		})
	}
}

func TestTheEventTimeIsTheBodysThenTheHeadersThenTheRecords(t *testing.T) {
	body := func(t string) []byte { return []byte(`{"user":"u","item":"i","type":"t"` + t + `}`) }
	arrived := noon.Add(time.Hour)
	for _, tc := range []struct {
		name string
		rec  kgo.Record
		want time.Time
	}{
		{"body", kgo.Record{Value: body(`,"time":"2026-11-23T13:00:00.123+01:00"`), Headers: interactionHeaders(HeaderTime, "2001-01-01T00:00:00Z")}, noon},
		{"header", kgo.Record{Value: body(""), Headers: interactionHeaders(HeaderTime, "2026-11-23T12:00:00.123Z")}, noon},
		{"record", kgo.Record{Value: body(""), Headers: interactionHeaders()}, arrived},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.rec.Key, tc.rec.Timestamp = []byte("u"), arrived
			ev, err := DecodeInteraction(&tc.rec)
			require.NoError(t, err)
			require.Equal(t, tc.want, ev.Time)
			require.Equal(t, tc.want, ev.Body.Time)
		})
	}
	require.Equal(t, noon, EventTime(&kgo.Record{Timestamp: noon, Headers: interactionHeaders(HeaderTime, "garbage")}))
}

func TestUnknownFieldsAreLeftToLaterVersions(t *testing.T) {
	_, err := DecodeInteraction(&kgo.Record{
		Key: []byte("u"), Headers: interactionHeaders(), Timestamp: noon,
		Value: []byte(`{"user":"u","item":"i","type":"t","device":"phone"}`),
	})
	require.NoError(t, err)
}

// FuzzDecode: whatever is in the log, decoding ends in an event that could be
// written again, or in an *InvalidError.
func FuzzDecode(f *testing.F) {
	for _, body := range []any{
		Interaction{User: "k", Item: "i", Type: "click", Value: ptr(1.0), Seq: 1},
		Item{Item: "k", Title: "t", Categories: []string{"c"}},
		Impression{RecommendationID: "r", User: "k", Items: []string{"i"}, Scores: []float32{1}, Source: "s"},
		Step{Model: "k", Ranges: []Range{{0, 1, 2}}, Order: []int32{0, 1}, Events: 1},
	} {
		rec, err := NewRecord("topic", "k", "id", "source", noon, body)
		require.NoError(f, err)
		f.Add(string(rec.Headers[1].Value), "id", "source", "2026-11-23T12:00:00Z", rec.Key, rec.Value)
	}
	f.Add(TypeItem, "", "", "", []byte("k"), []byte(nil))
	f.Add(TypeInteraction, "\x00", "\xff", "0000-00-00T99:00:00Z", []byte{}, []byte(`{"time":"9999-99-99"}`))
	f.Add(TypeStep, "id", "source", "", []byte("k"), []byte(`{"model":"k","order":[0,2147483647,0,2147483647],"ranges":[{"partition":0,"from":-9223372036854775808,"to":9223372036854775807}]}`))
	f.Fuzz(func(t *testing.T, kind, id, source, at string, key, value []byte) {
		headers := interactionHeaders(HeaderType, kind, HeaderID, id, HeaderSource, source)
		if at != "" {
			headers = append(headers, kgo.RecordHeader{Key: HeaderTime, Value: []byte(at)})
		}
		rec := &kgo.Record{Key: key, Value: value, Headers: headers, Timestamp: noon}
		check := func(ev any, err error) {
			var invalid *InvalidError
			if err != nil && !errors.As(err, &invalid) {
				t.Fatalf("neither an event nor invalid: %v", err)
			}
			if err != nil {
				return
			}
			e := ev.(Event[any])
			body := e.Body
			if e.Deleted {
				body = nil
			}
			if e.ID == "" || e.Source == "" {
				return // a deletion may come from a tool that knows of neither
			}
			if _, err := NewRecord("topic", string(key), e.ID, e.Source, e.Time, body); err != nil {
				t.Fatalf("read but not to be written: %v", err)
			}
		}
		check(untyped(DecodeInteraction(rec)))
		check(untyped(DecodeItem(rec)))
		check(untyped(DecodeImpression(rec)))
		check(untyped(DecodeStep(rec)))
		EventTime(rec)
	})
}

func TestOrderIsRunLengthEncoded(t *testing.T) {
	recs := []*kgo.Record{{Partition: 2}, {Partition: 2}, {Partition: 0}, {Partition: 2}}
	require.Equal(t, []int32{2, 2, 0, 1, 2, 1}, EncodeOrder(recs))
	require.Empty(t, EncodeOrder(nil))
}
