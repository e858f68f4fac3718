package stream

import (
	"encoding/base64"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/encoding/json"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func heat(change ...func(*Knowledge)) Knowledge {
	k := Knowledge{
		Item: "i", Text: "A crime epic of obsession,\nfor who likes \"Thief\".", Vector: Vector{0.5, -1, 1e-20},
		PromptHash: "85a14d3e6645dc460072a72c85a420b2", Policy: ModelVersion{Name: "smollm2-135m-instruct", Step: 50},
		Encoder: "all-minilm-l6-v2", Origin: OriginLLM, Time: noon,
	}
	for _, c := range change {
		c(&k)
	}
	return k
}

func TestKnowledgeRoundTrips(t *testing.T) {
	for name, k := range map[string]Knowledge{
		"written by a model": heat(),
		"of the title":       {Item: "i", Text: "Heat (1995). Crime", Vector: Vector{1}, Encoder: "e", Origin: OriginTitle, Time: noon},
		"imported vector":    {Item: "i", Vector: Vector{1}, Encoder: "e", Origin: OriginImport, Time: noon},
	} {
		t.Run(name, func(t *testing.T) {
			rec, err := NewRecord("knowledge", "i", "id-1", "test/source", noon.Add(456*time.Microsecond), k)
			require.NoError(t, err)
			require.Equal(t, TypeKnowledge, string(rec.Headers[1].Value))
			rec.Partition, rec.Offset = 3, 99
			got, err := DecodeKnowledge(rec)
			require.NoError(t, err)
			require.Equal(t, Event[Knowledge]{ID: "id-1", Source: "test/source", Time: noon, Body: k, Partition: 3, Offset: 99}, got)
		})
	}
	require.Equal(t, "smollm2-135m-instruct@50", heat().Policy.String())
}

// What the topic holds is read by others, too: it must not change under them.
func TestKnowledgeAsOthersReadIt(t *testing.T) {
	rec, err := NewRecord("knowledge", "i", "id", "source", noon, heat(func(k *Knowledge) { k.Text = "text" }))
	require.NoError(t, err)
	require.JSONEq(t, `{"item":"i","text":"text","vector":"AAAAPwAAgL8I5Twe","prompt_hash":"85a14d3e6645dc460072a72c85a420b2",
		"policy":{"name":"smollm2-135m-instruct","step":50},"encoder":"all-minilm-l6-v2","origin":"llm","time":"2026-11-23T12:00:00.123Z"}`, string(rec.Value))
}

func TestAVectorIsReadBackBitForBit(t *testing.T) {
	v := Vector{0, float32(math.Copysign(0, -1)), 1, -1, math.SmallestNonzeroFloat32, -math.MaxFloat32, 0.1, 1.0 / 3, math.Pi}
	for i := range 1000 {
		if x := math.Float32frombits(uint32(i) * 0x9E3779B9); !math.IsNaN(float64(x)) && !math.IsInf(float64(x), 0) {
			v = append(v, x)
		}
	}
	data, err := json.Marshal(v)
	require.NoError(t, err)
	var got Vector
	require.NoError(t, json.Unmarshal(data, &got))
	require.Len(t, got, len(v))
	for i := range v {
		require.Equal(t, math.Float32bits(v[i]), math.Float32bits(got[i]))
	}
}

func TestTheLargestKnowledgeFitsIntoARecord(t *testing.T) {
	vector := make(Vector, MaxVector)
	rec, err := NewRecord("knowledge", "i", "id", "source", noon, heat(func(k *Knowledge) {
		k.Text, k.Vector = strings.Repeat("\x00", MaxKnowledgeText), vector // "\u0000" each
	}))
	require.NoError(t, err)
	require.Less(t, len(rec.Value), MaxRecordBytes/4)
}

func TestKnowledgeIsRemovedByANullValue(t *testing.T) {
	rec, err := NewRecord("knowledge", "i", "id", "source", noon, NoKnowledge{})
	require.NoError(t, err)
	require.Nil(t, rec.Value)
	byTool := &kgo.Record{Key: []byte("i"), Timestamp: noon}
	for _, r := range []*kgo.Record{rec, byTool} {
		ev, err := DecodeKnowledge(r)
		require.NoError(t, err)
		require.True(t, ev.Deleted)
		require.Equal(t, Knowledge{Item: "i", Time: noon}, ev.Body)
	}
	_, err = DecodeItem(rec)
	require.ErrorContains(t, err, "invalid ce_type", "the item itself is not deleted")
	_, err = DecodeKnowledge(&kgo.Record{Timestamp: noon})
	require.ErrorContains(t, err, "invalid item: it is empty")
	rec.Key = []byte("a\nb")
	_, err = DecodeKnowledge(rec)
	require.ErrorContains(t, err, "invalid item")
	_, err = NewRecord("knowledge", "", "id", "source", noon, NoKnowledge{})
	require.ErrorContains(t, err, "invalid item: it is empty")
}

func TestKnowledgeThatReadersWouldSetAsideIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Knowledge)
		field  string
	}{
		"no item":                {func(k *Knowledge) { k.Item = "" }, "item"},
		"another item's key":     {func(k *Knowledge) { k.Item = "j" }, "key"},
		"no origin":              {func(k *Knowledge) { k.Origin = "" }, "origin"},
		"an unknown origin":      {func(k *Knowledge) { k.Origin = "guess" }, "origin"},
		"no text":                {func(k *Knowledge) { k.Text = "" }, "text"},
		"a long text":            {func(k *Knowledge) { k.Text = strings.Repeat("x", MaxKnowledgeText+1) }, "text"},
		"broken UTF-8":           {func(k *Knowledge) { k.Text = "\xff" }, "text"},
		"no vector":              {func(k *Knowledge) { k.Vector = nil }, "vector"},
		"a long vector":          {func(k *Knowledge) { k.Vector = make(Vector, MaxVector+1) }, "vector"},
		"not a number":           {func(k *Knowledge) { k.Vector = Vector{1, float32(math.NaN())} }, "vector"},
		"infinite":               {func(k *Knowledge) { k.Vector = Vector{float32(math.Inf(-1))} }, "vector"},
		"a model without prompt": {func(k *Knowledge) { k.PromptHash = "" }, "prompt_hash"},
		"a model without name":   {func(k *Knowledge) { k.Policy.Name = "" }, "policy"},
		"a negative step":        {func(k *Knowledge) { k.Policy.Step = -1 }, "policy"},
		"no encoder":             {func(k *Knowledge) { k.Encoder = "" }, "encoder"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewRecord("knowledge", "i", "id", "source", noon, heat(tc.change))
			var invalid *InvalidError
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, tc.field, invalid.Field, invalid.Reason)
		})
	}
}

func TestUnusableKnowledgeIsInvalidAndSaysWhy(t *testing.T) {
	body := func(vector string) string {
		return `{"item":"i","text":"t","vector":` + vector + `,"encoder":"e","origin":"title"}`
	}
	base := base64.StdEncoding.EncodeToString
	for name, tc := range map[string]struct{ value, says string }{
		"not JSON":           {`{"item":`, "not the JSON of seralm.knowledge.v1"},
		"a list of decimals": {body(`[0.5,1]`), "invalid value"},
		"a number":           {body(`5`), "invalid value"},
		"no vector":          {body(`null`), "invalid vector"},
		"an empty vector":    {body(`""`), "invalid vector"},
		"not base64":         {body(`"***="`), "a vector is base64"},
		"half a number":      {body(`"` + base(make([]byte, 6)) + `"`), "a vector is of 4 bytes a number, not of 6 bytes"},
		"not a number":       {body(`"` + base([]byte{0, 0, 0xc0, 0x7f}) + `"`), "one is not a finite number"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeKnowledge(&kgo.Record{
				Key: []byte("i"), Value: []byte(tc.value), Timestamp: noon, Headers: interactionHeaders(HeaderType, TypeKnowledge),
			})
			require.ErrorContains(t, err, tc.says)
			require.True(t, IsInvalid(err))
		})
	}
}

// FuzzDecodeKnowledge: whatever is in the log, decoding ends in knowledge that could
// be written again and is then read as the same, or in an *InvalidError.
func FuzzDecodeKnowledge(f *testing.F) {
	for _, k := range []Knowledge{heat(), {Item: "i", Vector: Vector{0}, Encoder: "e", Origin: OriginImport}} {
		rec, err := NewRecord("knowledge", "i", "id", "source", noon, k)
		require.NoError(f, err)
		f.Add("id", rec.Key, rec.Value)
	}
	f.Add("", []byte("i"), []byte(nil))
	f.Add("id", []byte("i"), []byte(`{"item":"i","text":"\u0000","vector":"AADAfw==","encoder":"e","origin":"title"}`))
	f.Add("id", []byte("i"), []byte(`{"item":"i","text":"t","vector":"AAAAPw","policy":{"step":-1},"encoder":"e","origin":"title"}`))
	f.Fuzz(func(t *testing.T, id string, key, value []byte) {
		rec := &kgo.Record{Key: key, Value: value, Timestamp: noon, Headers: interactionHeaders(HeaderType, TypeKnowledge, HeaderID, id)}
		ev, err := DecodeKnowledge(rec)
		var invalid *InvalidError
		switch {
		case err != nil && !errors.As(err, &invalid):
			t.Fatalf("neither knowledge nor invalid: %v", err)
		case err != nil:
			return
		}
		var body any = ev.Body
		if ev.Deleted {
			body = NoKnowledge{}
		}
		again, err := NewRecord("knowledge", string(key), ev.ID, ev.Source, ev.Time, body)
		if err != nil {
			t.Fatalf("read but not to be written: %v", err)
		}
		same, err := DecodeKnowledge(again)
		require.NoError(t, err)
		ev.Time = ev.Time.Truncate(time.Millisecond)
		ev.Body.Time = ev.Time
		require.Equal(t, ev, same)
	})
}
