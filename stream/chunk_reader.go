package stream

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	maxChunks     = 1 << 20 // slots, and chunks per snapshot
	chunkOverhead = 64      // bytes held for a chunk besides its own
)

// Blob is a complete snapshot whose every byte was verified.
type Blob struct {
	Key               string
	Slot              int
	ID                string
	Manifest, Payload []byte
}

// ChunkReader puts the records of ChunkRecords together again. They may come in
// any order, repeatedly, and mixed with those of other snapshots; compaction may
// have taken some away. What stays incomplete is dropped when its slot is
// overwritten, or when it is the oldest and the memory bound asks for it. A snapshot that is
// written again, whole, comes again.
//
// It belongs to one goroutine.
type ChunkReader struct {
	maxBytes int64
	bytes    int64
	open     map[slotID]*assembly
	age      uint64
}

type place struct {
	key  string
	slot int
}

type slotID struct {
	place
	id string
}

// assembly is one snapshot that is not complete yet.
type assembly struct {
	slotID
	count, size int
	chunks      map[int][]byte
	manifest    []byte
	bytes       int64
	age         uint64 // when it got its first record
}

// MaxIncomplete is how many bytes of incomplete snapshots whoever reads the topic
// holds: the same for all, so that what one serves the others can judge and go back to.
const MaxIncomplete = 4 << 30

// NewChunkReader returns a reader that holds at most maxBytes of incomplete
// snapshots.
func NewChunkReader(maxBytes int64) *ChunkReader {
	return &ChunkReader{maxBytes: maxBytes, open: map[slotID]*assembly{}}
}

// Add takes the next record of the topic and returns the snapshot that it
// completes, if it does. An error is an *InvalidError: the record is of no use, it
// was left out, and reading may go on.
func (c *ChunkReader) Add(rec *kgo.Record) (*Blob, error) {
	if rec.Value == nil {
		return nil, nil // a longer predecessor's chunk was deleted
	}
	ch, err := parseChunk(rec)
	if err != nil {
		return nil, err
	}
	if int64(ch.size) > c.maxBytes-int64(len(ch.value)) {
		return nil, &InvalidError{headerSize, fmt.Sprintf("snapshot %.64q has %d bytes; at most %d are held", ch.id, ch.size, c.maxBytes)}
	}
	a, err := c.assembly(ch)
	if err != nil {
		return nil, err
	}
	c.put(a, ch)
	if a.manifest == nil || len(a.chunks) < a.count {
		c.shrink(a)
		return nil, nil
	}
	return c.finish(a)
}

// assembly returns the one that a chunk belongs to.
func (c *ChunkReader) assembly(ch chunk) (*assembly, error) {
	a, ok := c.open[ch.slotID]
	if !ok {
		c.age++
		a = &assembly{slotID: ch.slotID, count: ch.count, size: ch.size, chunks: map[int][]byte{}, age: c.age}
		c.open[ch.slotID] = a
	}
	if a.count != ch.count || a.size != ch.size {
		return nil, &InvalidError{headerCount, "it differs from the snapshot's other records"}
	}
	return a, nil
}

func (c *ChunkReader) put(a *assembly, ch chunk) {
	grown := int64(len(ch.value))
	if ch.index < 0 {
		grown -= int64(len(a.manifest))
		a.manifest = ch.value
	} else {
		old, again := a.chunks[ch.index]
		if !again {
			grown += chunkOverhead
		}
		grown -= int64(len(old))
		a.chunks[ch.index] = ch.value
	}
	a.bytes += grown
	c.bytes += grown
}

// shrink drops the oldest incomplete snapshots until the bound holds; the one that
// just grew goes last, for it is the one most likely to become complete.
func (c *ChunkReader) shrink(keep *assembly) {
	for c.bytes > c.maxBytes && len(c.open) > 0 {
		oldest := keep
		for _, a := range c.open {
			if a != keep && (oldest == keep || a.age < oldest.age) {
				oldest = a
			}
		}
		c.drop(oldest)
	}
}

func (c *ChunkReader) drop(a *assembly) {
	c.bytes -= a.bytes
	delete(c.open, a.slotID)
}

// finish puts a complete snapshot together. Others begun in its slot before it are
// overwritten; one begun after it may still become complete.
func (c *ChunkReader) finish(a *assembly) (*Blob, error) {
	c.drop(a)
	total := 0
	for _, part := range a.chunks {
		total += len(part)
	}
	if total != a.size {
		return nil, &InvalidError{headerSize, fmt.Sprintf("snapshot %.64q has %d bytes in its chunks, not %d", a.id, total, a.size)}
	}
	payload := make([]byte, 0, total)
	for i := range a.count {
		payload = append(payload, a.chunks[i]...)
	}
	for _, other := range c.open {
		if other.place == a.place && other.age < a.age {
			c.drop(other)
		}
	}
	return &Blob{Key: a.key, Slot: a.slot, ID: a.id, Manifest: a.manifest, Payload: payload}, nil
}

// chunk is one record, verified by itself.
type chunk struct {
	slotID
	index, count, size int // index -1: the manifest
	value              []byte
}

func parseChunk(rec *kgo.Record) (chunk, error) {
	var ch chunk
	h := map[string]string{}
	for _, kv := range rec.Headers {
		h[kv.Key] = string(kv.Value)
	}
	if h[HeaderType] != TypeSnapshot {
		return ch, &InvalidError{HeaderType, fmt.Sprintf("%.64q is not %s", h[HeaderType], TypeSnapshot)}
	}
	key, slot, index, ok := parseKey(string(rec.Key))
	if !ok {
		return ch, &InvalidError{"key", "it is not key/slot or key/slot/index"}
	}
	ch = chunk{slotID: slotID{place{key, slot}, h[HeaderID]}, index: index, value: rec.Value}
	if err := checkName(HeaderID, ch.id, true); err != nil {
		return ch, err
	}
	if ch.count, ok = parseIndex(h[headerCount]); !ok {
		return ch, &InvalidError{headerCount, "it is not a number in bounds"}
	}
	var err error
	if ch.size, err = strconv.Atoi(h[headerSize]); err != nil || ch.size < 0 || (ch.size > 0) != (ch.count > 0) {
		return ch, &InvalidError{headerSize, "it is not the size of so many chunks"}
	}
	if index >= ch.count {
		return ch, &InvalidError{headerIndex, fmt.Sprintf("chunk %d of %d", index, ch.count)}
	}
	if h[headerIndex] != indexHeader(index) {
		return ch, &InvalidError{headerIndex, "it differs from the key's"}
	}
	if len(ch.value) > ch.size && index >= 0 {
		return ch, &InvalidError{headerSize, "a chunk is larger than the whole"}
	}
	if sum := sha256.Sum256(ch.value); h[headerSHA] != hex.EncodeToString(sum[:]) {
		return ch, &InvalidError{headerSHA, fmt.Sprintf("the bytes of chunk %d of snapshot %.64q are not those that were written", index, ch.id)}
	}
	return ch, nil
}

func indexHeader(index int) string {
	if index < 0 {
		return ""
	}
	return strconv.Itoa(index)
}
