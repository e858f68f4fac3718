package stream

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// assemble feeds records to a reader and returns what became complete.
func assemble(t *testing.T, r *ChunkReader, recs ...*kgo.Record) (blobs []*Blob) {
	t.Helper()
	for _, rec := range recs {
		b, err := r.Add(rec)
		require.NoError(t, err)
		if b != nil {
			blobs = append(blobs, b)
		}
	}
	return blobs
}

func snapshotOf(id string, n int) (manifest, payload []byte) {
	payload = make([]byte, n)
	for i := range payload {
		payload[i] = byte(i + len(id))
	}
	return []byte(`{"id":"` + id + `"}`), payload
}

func chunksOf(slot int, id string, n int) []*kgo.Record {
	manifest, payload := snapshotOf(id, n)
	return ChunkRecords("snapshots", "model", slot, id, manifest, payload, 10)
}

func requireBlob(t *testing.T, b *Blob, slot int, id string, n int) {
	t.Helper()
	manifest, payload := snapshotOf(id, n)
	require.Equal(t, &Blob{Key: "model", Slot: slot, ID: id, Manifest: manifest, Payload: payload}, b)
}

func TestASnapshotIsSplitAndPutTogether(t *testing.T) {
	for _, n := range []int{0, 1, 9, 10, 11, 100, 101} {
		recs := chunksOf(2, "a", n)
		require.Len(t, recs, (n+9)/10+1)
		require.Equal(t, "model/2", string(recs[len(recs)-1].Key), "the manifest comes last")
		for i, rec := range recs[:len(recs)-1] {
			require.Equal(t, fmt.Sprintf("model/2/%d", i), string(rec.Key))
			require.LessOrEqual(t, len(rec.Value), 10)
		}
		blobs := assemble(t, NewChunkReader(1<<20), recs...)
		require.Len(t, blobs, 1)
		require.Len(t, blobs[0].Payload, n)
		if n > 0 {
			requireBlob(t, blobs[0], 2, "a", n)
		}
	}
}

func TestATornSnapshotIsNeverReturned(t *testing.T) {
	whole := chunksOf(0, "a", 55)
	for missing := range whole {
		recs := slices.Delete(slices.Clone(whole), missing, missing+1)
		require.Empty(t, assemble(t, NewChunkReader(1<<20), recs...), "without record %d", missing)
	}
}

func TestChunksInAnyOrderAndRepeated(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 50 {
		recs := chunksOf(0, "a", 73)
		recs = append(recs, recs[:4]...) // again, before or after it is complete
		rng.Shuffle(len(recs), func(i, j int) { recs[i], recs[j] = recs[j], recs[i] })
		blobs := assemble(t, NewChunkReader(1<<20), recs...)
		require.Len(t, blobs, 1)
		requireBlob(t, blobs[0], 0, "a", 73)
	}
}

func TestInterleavedSnapshotsOfOneAndOfSeveralSlots(t *testing.T) {
	a, b, c := chunksOf(0, "a", 55), chunksOf(0, "bb", 35), chunksOf(1, "ccc", 75)
	var mixed []*kgo.Record
	for i := range 9 {
		for _, recs := range [][]*kgo.Record{a, b, c} {
			if i < len(recs) {
				mixed = append(mixed, recs[i])
			}
		}
	}
	blobs := assemble(t, NewChunkReader(1<<20), mixed...)
	// b completes first; a was begun in its slot before it and is overwritten.
	require.Len(t, blobs, 2)
	requireBlob(t, blobs[0], 0, "bb", 35)
	requireBlob(t, blobs[1], 1, "ccc", 75)
}

// What compaction leaves: the last record of every key.
func compactedLog(recs []*kgo.Record) (out []*kgo.Record) {
	last := map[string]int{}
	for i, r := range recs {
		last[string(r.Key)] = i
	}
	for i, r := range recs {
		if last[string(r.Key)] == i {
			out = append(out, r)
		}
	}
	return out
}

func TestASlotOverwrittenByAShorterAndByALongerSnapshot(t *testing.T) {
	for name, sizes := range map[string][2]int{"shorter": {95, 25}, "longer": {25, 95}, "equal": {55, 55}} {
		t.Run(name, func(t *testing.T) {
			slots := NewSlots("model", 1)
			m1, p1 := snapshotOf("a", sizes[0])
			m2, p2 := snapshotOf("bb", sizes[1])
			log := append(slots.Records("snapshots", "a", m1, p1, 10), slots.Records("snapshots", "bb", m2, p2, 10)...)

			for _, log := range [][]*kgo.Record{log, compactedLog(log)} {
				blobs := assemble(t, NewChunkReader(1<<20), log...)
				requireBlob(t, blobs[len(blobs)-1], 0, "bb", sizes[1])
			}
			left := 0
			for _, rec := range compactedLog(log) {
				if rec.Value != nil {
					left++
				}
			}
			require.Equal(t, (sizes[1]+9)/10+1, left, "nothing of the older one stays")
		})
	}
}

func TestSlotsTakeTurnsAndCompactionKeepsTheNewest(t *testing.T) {
	slots := NewSlots("model", 3)
	var log []*kgo.Record
	for i := range 8 {
		id := fmt.Sprint("s", i)
		m, p := snapshotOf(id, 15+10*(i%4))
		log = append(log, slots.Records("snapshots", id, m, p, 10)...)
	}
	// A writer that starts anew continues after the newest, and knows what is there.
	again := NewSlots("model", 3)
	for _, rec := range compactedLog(log) {
		again.Observe(rec)
	}
	m, p := snapshotOf("s8", 15)
	log = append(log, again.Records("snapshots", "s8", m, p, 10)...)

	var ids []string
	for _, b := range assemble(t, NewChunkReader(1<<20), compactedLog(log)...) {
		ids = append(ids, b.ID)
	}
	require.Equal(t, []string{"s6", "s7", "s8"}, ids)
	for _, rec := range compactedLog(log) {
		if string(rec.Key) == "model/2/3" {
			require.Nil(t, rec.Value, "a chunk of s5, longer than s8, is deleted")
		}
	}
}

// The oldest snapshot that is kept is written again into the slot that it has; a consumer's
// state that did not change goes into each slot in turn.
func TestWhatIsWrittenAgainIsTheNewest(t *testing.T) {
	slots, reader := NewSlots("model", 2), NewChunkReader(1<<20)
	for _, id := range []string{"a", "b", "a", "a", "a", "b"} {
		m, p := snapshotOf(id, 25)
		blobs := assemble(t, reader, slots.Records("snapshots", id, m, p, 10)...)
		require.Len(t, blobs, 1)
		require.Equal(t, id, blobs[0].ID)
	}
}

func TestSlotsIgnoreWhatIsNotTheirs(t *testing.T) {
	slots := NewSlots("model", 2)
	for _, key := range []string{"other/0", "other/0/9", "model", "model/7", "model/7/3", "model/x", "model/0/x", "model/-1", "model/00", "/0", ""} {
		slots.Observe(&kgo.Record{Key: []byte(key), Value: []byte("x")})
	}
	m, p := snapshotOf("a", 5)
	recs := slots.Records("snapshots", "a", m, p, 10)
	require.Len(t, recs, 2)
	require.Equal(t, "model/0", string(recs[1].Key))
}

func TestDamagedChunksAreRefusedAndReadingGoesOn(t *testing.T) {
	set := func(rec *kgo.Record, key, value string) {
		for i := range rec.Headers {
			if rec.Headers[i].Key == key {
				rec.Headers[i].Value = []byte(value)
			}
		}
	}
	for name, tc := range map[string]struct {
		damage func(*kgo.Record)
		says   string
	}{
		"a flipped bit":        {func(r *kgo.Record) { r.Value = bytes.Clone(r.Value); r.Value[3] ^= 1 }, "not those that were written"},
		"a cut value":          {func(r *kgo.Record) { r.Value = r.Value[:4] }, "not those that were written"},
		"no type":              {func(r *kgo.Record) { r.Headers = nil }, "invalid ce_type"},
		"a later version":      {func(r *kgo.Record) { set(r, HeaderType, "seralm.snapshot.v2") }, "is not seralm.snapshot.v1"},
		"another key":          {func(r *kgo.Record) { r.Key = []byte("model/0/0/0") }, "invalid key"},
		"an index too far":     {func(r *kgo.Record) { r.Key = []byte("model/0/9") }, "chunk 9 of 6"},
		"another index":        {func(r *kgo.Record) { r.Key = []byte("model/0/3") }, "differs from the key's"},
		"a count that is none": {func(r *kgo.Record) { set(r, "snapshot_count", "many") }, "invalid snapshot_count"},
		"a huge count":         {func(r *kgo.Record) { set(r, "snapshot_count", "999999999999") }, "invalid snapshot_count"},
		"another count":        {func(r *kgo.Record) { set(r, "snapshot_count", "7") }, "differs from the snapshot's other records"},
		"a negative size":      {func(r *kgo.Record) { set(r, "snapshot_size", "-1") }, "invalid snapshot_size"},
		"a huge size":          {func(r *kgo.Record) { set(r, "snapshot_size", "4611686018427387904") }, "at most 1048576 are held"},
		"a size of nothing":    {func(r *kgo.Record) { set(r, "snapshot_size", "0") }, "invalid snapshot_size"},
		"no id":                {func(r *kgo.Record) { set(r, HeaderID, "") }, "invalid ce_id"},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewChunkReader(1 << 20)
			recs := chunksOf(0, "a", 55)
			assemble(t, r, recs[1])
			tc.damage(recs[0])
			_, err := r.Add(recs[0])
			require.ErrorContains(t, err, tc.says)
			require.True(t, IsInvalid(err))
			require.Empty(t, assemble(t, r, recs[2:]...), "one chunk is missing")
			blobs := assemble(t, r, chunksOf(0, "bb", 25)...)
			require.Len(t, blobs, 1)
			requireBlob(t, blobs[0], 0, "bb", 25)
		})
	}
}

func TestTheSizeIsThatOfTheChunks(t *testing.T) {
	recs := ChunkRecords("snapshots", "model", 0, "a", []byte("m"), []byte("0123456789"), 4)
	for _, rec := range recs {
		for i := range rec.Headers {
			if rec.Headers[i].Key == "snapshot_size" {
				rec.Headers[i].Value = []byte("11")
			}
		}
	}
	r := NewChunkReader(1 << 20)
	assemble(t, r, recs[:3]...)
	_, err := r.Add(recs[3])
	require.ErrorContains(t, err, "has 10 bytes in its chunks, not 11")
}

func TestTheReaderHoldsNoMoreThanItsBound(t *testing.T) {
	r := NewChunkReader(1000)
	for i := range 500 { // snapshots that never become complete
		recs := chunksOf(i%3, fmt.Sprint("id", i), 95)
		assemble(t, r, recs[:5]...)
		require.LessOrEqual(t, r.bytes, int64(1000))
		require.LessOrEqual(t, len(r.open), 10)
	}
	blobs := assemble(t, r, chunksOf(0, "whole", 95)...)
	require.Len(t, blobs, 1, "they make room for one that does")
	_, err := r.Add(chunksOf(0, "large", 1500)[0])
	require.ErrorContains(t, err, "has 1500 bytes; at most 1000 are held")
}

func FuzzChunkReader(f *testing.F) {
	for _, rec := range append(chunksOf(0, "a", 25), chunksOf(1, "b", 0)...) {
		var count, size, index, sum string
		for _, h := range rec.Headers {
			switch h.Key {
			case headerCount:
				count = string(h.Value)
			case headerSize:
				size = string(h.Value)
			case headerIndex:
				index = string(h.Value)
			case headerSHA:
				sum = string(h.Value)
			}
		}
		f.Add(string(rec.Key), "a", count, size, index, sum, rec.Value)
	}
	f.Add("a/1/2", "id", "1048576", "9223372036854775807", "-1", "", []byte{})
	f.Add("a/0", "id", "3", "9223372036854775807", "", "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", []byte("x"))
	f.Fuzz(func(t *testing.T, key, id, count, size, index, sum string, value []byte) {
		r := NewChunkReader(1 << 16)
		assemble(t, r, chunksOf(0, "a", 25)[:2]...)
		_, err := r.Add(&kgo.Record{Key: []byte(key), Value: value, Headers: []kgo.RecordHeader{
			{Key: HeaderType, Value: []byte(TypeSnapshot)}, {Key: HeaderID, Value: []byte(id)},
			{Key: headerCount, Value: []byte(count)}, {Key: headerSize, Value: []byte(size)},
			{Key: headerIndex, Value: []byte(index)}, {Key: headerSHA, Value: []byte(sum)},
		}})
		if err != nil && !IsInvalid(err) {
			t.Fatal(err)
		}
		if r.bytes > 1<<16 {
			t.Fatalf("%d bytes are held", r.bytes)
		}
		NewSlots("a", 3).Observe(&kgo.Record{Key: []byte(key), Value: value})
	})
}
