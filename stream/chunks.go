package stream

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TypeSnapshot is the CloudEvents type of a chunk or manifest record.
const TypeSnapshot = "seralm.snapshot.v1"

// DefaultChunk is a good size of one chunk: large enough that a snapshot is few
// records, small enough that other traffic is not held up behind one.
const DefaultChunk = 2 << 20

// Headers of a chunk or manifest record.
const (
	headerIndex = "snapshot_index" // of the chunk; absent on the manifest
	headerCount = "snapshot_count" // chunks of the payload
	headerSize  = "snapshot_size"  // bytes of the payload
	headerSHA   = "snapshot_sha256"
)

// ChunkRecords splits one snapshot into the records of a slot: the payload in
// chunks of at most maxChunk bytes, each with the sha256 of its value, and the
// manifest last. Their keys are `key/slot/i` and `key/slot`, so that compaction
// keeps the newest snapshot of each slot, and a slot is overwritten as a whole.
// Write them in one transaction, to one partition.
func ChunkRecords(topic, key string, slot int, id string, manifest, payload []byte, maxChunk int) []*kgo.Record {
	if maxChunk <= 0 {
		panic(fmt.Sprintf("BUG: chunks of %d bytes", maxChunk))
	}
	count := (len(payload) + maxChunk - 1) / maxChunk
	recs := make([]*kgo.Record, 0, count+1)
	for i := range count {
		part := payload[i*maxChunk : min((i+1)*maxChunk, len(payload))]
		rec := slotRecord(topic, chunkKey(key, slot, i), id, part, count, len(payload))
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: headerIndex, Value: strconv.AppendInt(nil, int64(i), 10)})
		recs = append(recs, rec)
	}
	return append(recs, slotRecord(topic, slotKey(key, slot), id, manifest, count, len(payload)))
}

func slotKey(key string, slot int) string     { return key + "/" + strconv.Itoa(slot) }
func chunkKey(key string, slot, i int) string { return slotKey(key, slot) + "/" + strconv.Itoa(i) }

func slotRecord(topic, key, id string, value []byte, count, size int) *kgo.Record {
	if value == nil {
		value = []byte{} // null would delete the key
	}
	sum := sha256.Sum256(value)
	return &kgo.Record{
		Topic: topic, Key: []byte(key), Value: value,
		Headers: []kgo.RecordHeader{
			{Key: HeaderSpecVersion, Value: []byte(specVersion)},
			{Key: HeaderType, Value: []byte(TypeSnapshot)},
			{Key: HeaderID, Value: []byte(id)},
			{Key: HeaderSource, Value: []byte("seralm/snapshots")},
			{Key: headerCount, Value: strconv.AppendInt(nil, int64(count), 10)},
			{Key: headerSize, Value: strconv.AppendInt(nil, int64(size), 10)},
			{Key: headerSHA, Value: hex.AppendEncode(nil, sum[:])},
		},
	}
}

// Slots hands out the slots of one key in turn, so that the newest snapshots are
// kept and the oldest is overwritten. Feed it what the topic holds (Observe) before
// the first use after a start.
type Slots struct {
	key    string
	next   int
	counts []int // chunks that a slot may hold, of any snapshot it ever had
}

// NewSlots returns slots for the newest keep snapshots of a key.
func NewSlots(key string, keep int) *Slots {
	return &Slots{key: key, counts: make([]int, max(1, keep))}
}

// Observe takes note of a record of the topic. Records of other keys, and such as
// are no chunks, are no concern of it.
func (s *Slots) Observe(rec *kgo.Record) {
	key, slot, index, ok := parseKey(string(rec.Key))
	if !ok || key != s.key || slot >= len(s.counts) {
		return
	}
	if index < 0 {
		if rec.Value != nil {
			s.next = (slot + 1) % len(s.counts)
		}
		return
	}
	if rec.Value != nil {
		s.counts[slot] = max(s.counts[slot], index+1)
	}
}

// Records makes the records of the next snapshot (see ChunkRecords), in the slot
// after the newest, with deletions of the chunks that a longer predecessor left
// there. If they are not written, the next call uses the slot after.
func (s *Slots) Records(topic, id string, manifest, payload []byte, maxChunk int) []*kgo.Record {
	slot := s.next
	s.next = (slot + 1) % len(s.counts)
	recs := ChunkRecords(topic, s.key, slot, id, manifest, payload, maxChunk)
	count := len(recs) - 1
	last := recs[count]
	recs = recs[:count:count]
	for i := count; i < s.counts[slot]; i++ {
		recs = append(recs, &kgo.Record{Topic: topic, Key: []byte(chunkKey(s.key, slot, i))})
	}
	// Not lowered to count: if this is aborted, the longer one is still there.
	s.counts[slot] = max(s.counts[slot], count)
	return append(recs, last)
}

// parseKey splits `key/slot` (index -1) and `key/slot/index`. The key itself may
// not contain a slash.
func parseKey(s string) (key string, slot, index int, ok bool) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" {
		return "", 0, 0, false
	}
	slot, ok = parseIndex(parts[1])
	if !ok {
		return "", 0, 0, false
	}
	index = -1
	if len(parts) == 3 {
		if index, ok = parseIndex(parts[2]); !ok {
			return "", 0, 0, false
		}
	}
	return parts[0], slot, index, true
}

// parseIndex reads what strconv.Itoa writes of a number in bounds, and nothing
// else: two spellings of one index would be two keys to compaction.
func parseIndex(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && n < maxChunks && strconv.Itoa(n) == s
}
