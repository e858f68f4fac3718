package feature

import (
	"context"
	_ "embed" // the script
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed knowledge.lua
var knowledgeSource string

var knowledgeScript = redis.NewScript(knowledgeSource)

const (
	// Bounds on how long one script keeps Redis from answering a look-up: well below
	// 1 ms. One record may be larger than the second.
	recordsPerScript = 64
	bytesPerScript   = 256 << 10

	// The bounds of stream.Knowledge.
	maxKnowledgeText   = 16 << 10
	maxKnowledgeVector = 4096

	// MaxKnowledgeItems bounds what Knowledge reads at once: some megabytes.
	MaxKnowledgeItems = 1000
)

// Knowledge is what is known of an item beyond its id: a text, the vector that an
// encoder made of it, and what made both.
type Knowledge struct {
	Item, Text string
	Vector     []float32
	PromptHash string
	Policy     string // the language model, and the step of its parameters
	PolicyStep int64
	Encoder    string
	Origin     string
	Time       time.Time // milliseconds
}

// KnowledgeRecord is one record of the knowledge topic.
type KnowledgeRecord struct {
	Knowledge
	Offset  int64 // in the run's partition
	Removed bool  // the item has no knowledge any more; of Knowledge, Item and Time count
}

// KnowledgeRun is a stretch of one partition of the knowledge topic: everything in
// [From, To), of which Records are what could be used, by rising offset.
type KnowledgeRun struct {
	Partition int32
	From, To  int64
	Records   []KnowledgeRecord
}

// StartKnowledge says from which offset each partition of the knowledge topic must
// be read, as Writer.Start does for histories.
func (s *Store) StartKnowledge(ctx context.Context, topic string, start map[int32]int64) (map[int32]int64, error) {
	return s.knowledge().start(ctx, topic, start)
}

// PutKnowledge applies the runs, all of them in as few round trips as their size
// allows, and returns one outcome per run. Applying a run twice is the same as once.
// The runs of one partition must come from one caller in order.
//
// Older records are refused, and older means earlier in the log: a record below the
// partition's next offset is in the view already, or was replaced or removed since.
// Neither the time a text was written nor the step of its model decides. The log
// keeps the last record of an item, so a view that kept another could not be made
// again; and a model that was rolled back would be refused for ever. Only where an
// item's records lie in two partitions (the topic was given more of them) is there
// no order of offsets: there, the later time wins.
func (s *Store) PutKnowledge(ctx context.Context, runs ...KnowledgeRun) []Outcome {
	outcomes := make([]Outcome, len(runs))
	var calls []call
	for i, run := range runs {
		outcomes[i].Verdicts = make([]Verdict, 0, len(run.Records))
		for from, rest := run.From, run.Records; ; {
			records := rest[:piece(rest)]
			rest = rest[len(records):]
			to := run.To
			if len(rest) > 0 {
				to = records[len(records)-1].Offset + 1
			}
			c, err := s.knowledgeCall(i, run.Partition, from, to, records)
			if err != nil {
				outcomes[i].Err = err
				break
			}
			calls = append(calls, c)
			if from = to; len(rest) == 0 {
				break
			}
		}
	}
	s.knowledge().apply(ctx, knowledgeScript, calls, outcomes)
	return outcomes
}

// piece is how many of the records one script takes: one at least, if there is one.
func piece(records []KnowledgeRecord) int {
	bytes := 0
	for i, r := range records {
		if bytes += len(r.Text) + 4*len(r.Vector); i == recordsPerScript || i > 0 && bytes > bytesPerScript {
			return i
		}
	}
	return len(records)
}

// knowledgeFields are the fields of an item's hash, in the order of fields and
// parse. knowledge.lua adds the partition it came from.
var knowledgeFields = []string{"time", "text", "vector", "prompt_hash", "policy", "policy_step", "encoder", "origin"}

func (k *Knowledge) fields() []any {
	raw := make([]byte, 0, 4*len(k.Vector))
	for _, x := range k.Vector {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return []any{k.Time.UnixMilli(), k.Text, raw, k.PromptHash, k.Policy, k.PolicyStep, k.Encoder, k.Origin}
}

func (s *Store) knowledgeCall(run int, partition int32, from, to int64, records []KnowledgeRecord) (call, error) {
	v := s.knowledge()
	c := call{
		run: run, partition: partition,
		keys:  append(make([]string, 0, 2+len(records)), v.offsets, v.wiping),
		args:  append(make([]any, 0, 3+(3+2*len(knowledgeFields))*len(records)), int64(partition), from, to),
		order: make([]int, len(records)),
	}
	for i := range records {
		r := &records[i]
		if len(r.Text) > maxKnowledgeText || len(r.Vector) > maxKnowledgeVector {
			return c, fmt.Errorf("BUG: knowledge with a text of %d bytes and a vector of %d numbers, which no record can hold", len(r.Text), len(r.Vector))
		}
		c.order[i] = i
		c.keys = append(c.keys, s.keys.knowledge(r.Item))
		if r.Removed {
			c.args = append(c.args, r.Offset, r.Time.UnixMilli(), 0)
			continue
		}
		c.args = append(c.args, r.Offset, r.Time.UnixMilli(), 2*len(knowledgeFields))
		for f, value := range r.fields() {
			c.args = append(c.args, knowledgeFields[f], value)
		}
	}
	return c, nil
}

// Knowledge returns what is known of the items, in one round trip; items of which
// nothing is known are not in the map. It takes at most MaxKnowledgeItems.
func (s *Store) Knowledge(ctx context.Context, items []string) (map[string]Knowledge, error) {
	if len(items) > MaxKnowledgeItems {
		return nil, fmt.Errorf("reading the knowledge of %d items: ask for at most %d at once", len(items), MaxKnowledgeItems)
	}
	known := make(map[string]Knowledge, len(items))
	if len(items) == 0 {
		return known, nil
	}
	cmds := make([]*redis.SliceCmd, len(items))
	if _, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, item := range items {
			cmds[i] = p.HMGet(ctx, s.keys.knowledge(item), knowledgeFields...)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("reading the knowledge of items: %w", err)
	}
	for i, cmd := range cmds {
		if cmd.Val()[0] == nil {
			continue
		}
		k, err := parse(items[i], cmd.Val())
		if err != nil {
			return nil, fmt.Errorf("%s holds no knowledge: %w (rebuild the view)", s.keys.knowledge(items[i]), err)
		}
		known[items[i]] = k
	}
	return known, nil
}

// KnowledgeOffsets returns, for every partition the knowledge has begun with, the
// next offset of the knowledge topic that it does not hold yet.
func (s *Store) KnowledgeOffsets(ctx context.Context) (map[int32]int64, error) {
	return s.knowledge().next(ctx)
}

func parse(item string, values []any) (Knowledge, error) {
	text := make([]string, len(values))
	for i, v := range values {
		var ok bool
		if text[i], ok = v.(string); !ok {
			return Knowledge{}, fmt.Errorf("the field %s is missing", knowledgeFields[i])
		}
	}
	k := Knowledge{
		Item: item, Text: text[1], Vector: make([]float32, len(text[2])/4),
		PromptHash: text[3], Policy: text[4], Encoder: text[6], Origin: text[7],
	}
	ms, err := strconv.ParseInt(text[0], 10, 64)
	if err != nil {
		return k, fmt.Errorf("the field time: %w", err)
	}
	k.Time = time.UnixMilli(ms).UTC()
	if k.PolicyStep, err = strconv.ParseInt(text[5], 10, 64); err != nil {
		return k, fmt.Errorf("the field policy_step: %w", err)
	}
	if len(text[2])%4 != 0 {
		return k, fmt.Errorf("the field vector has %d bytes, which is not 4 a number", len(text[2]))
	}
	raw := []byte(text[2])
	for i := range k.Vector {
		k.Vector[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return k, nil
}
