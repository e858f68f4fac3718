package stream

import (
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Impression is one answer of the serving side, written so that the clicks it
// causes can be joined to it.
type Impression struct {
	RecommendationID string    `json:"recommendation_id"`
	User             string    `json:"user"`
	Items            []string  `json:"items"`
	Scores           []float32 `json:"scores,omitempty"`
	Source           string    `json:"source"` // which fallback answered
	Model            string    `json:"model,omitempty"`
	Epoch            int64     `json:"epoch,omitempty"`
	Step             int64     `json:"step,omitempty"`
	Time             time.Time `json:"time"`
}

// MaxImpressionItems bounds the list of one answer.
const MaxImpressionItems = 10_000

// Validate reports the first rule that the impression breaks, as *InvalidError.
func (i Impression) Validate() error {
	if err := checkName("recommendation_id", i.RecommendationID, true); err != nil {
		return err
	}
	if err := checkName("user", i.User, true); err != nil {
		return err
	}
	if err := checkName("source", i.Source, true); err != nil {
		return err
	}
	if err := checkName("model", i.Model, false); err != nil {
		return err
	}
	if len(i.Items) > MaxImpressionItems {
		return &InvalidError{"items", fmt.Sprintf("there are more than %d", MaxImpressionItems)}
	}
	for _, item := range i.Items {
		if err := checkName("items", item, true); err != nil {
			return err
		}
	}
	if len(i.Scores) != 0 && len(i.Scores) != len(i.Items) {
		return &InvalidError{"scores", "there is not one per item"}
	}
	for _, s := range i.Scores {
		if math.IsNaN(float64(s)) || math.IsInf(float64(s), 0) {
			return &InvalidError{"scores", "one is not a finite number"}
		}
	}
	return nil
}

func (i Impression) key() string     { return i.User }
func (i Impression) when() time.Time { return i.Time }

// DecodeImpression reads a record of the impressions topic.
func DecodeImpression(rec *kgo.Record) (Event[Impression], error) {
	ev, err := decode[Impression](rec, TypeImpression, nil)
	ev.Body.Time = ev.Time
	return ev, err
}

// Range is the offsets [From, To) of one partition.
type Range struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`
	To        int64 `json:"to"`
}

// Step is one micro-batch of a trainer, journalled in the transaction that makes
// it count: with it, the same events can be read again in the same order.
type Step struct {
	Model  string  `json:"model"`
	Epoch  int64   `json:"epoch"`
	Step   int64   `json:"step"`
	Ranges []Range `json:"ranges"`
	// Order is the partition of each event in learnt order, as pairs (partition,
	// run length); see EncodeOrder.
	Order  []int32 `json:"order"`
	Events int     `json:"events"`
	// MaxItems is how many items could have a row in this step; 0 = all.
	MaxItems int `json:"max_items,omitempty"`
	// AdmitAfter is how many sightings gave an item a row; 0 = as in the step before.
	AdmitAfter int `json:"admit_after,omitempty"`
	// Knowledge is what the step was told of items before it learnt the events. It
	// stands here whole: the knowledge topic is compacted, so that what was known then
	// cannot be read there again.
	Knowledge []ItemVector `json:"knowledge,omitempty"`
	// Samples is what a recommender's step took of the samples topic; nil where that is
	// nothing.
	Samples *SampleBatch `json:"samples,omitempty"`
	Loss    float64      `json:"loss"`
	Time    time.Time    `json:"time"`
}

// SampleBatch is the samples of a step: where they are, as Step has it for its events,
// and what decided which of them were left out, besides themselves.
type SampleBatch struct {
	Ranges  []Range      `json:"ranges"`
	Order   []int32      `json:"order"`
	Count   int          `json:"count"`
	Policy  ModelVersion `json:"policy"`            // the newest version known before them
	Encoder string       `json:"encoder,omitempty"` // of the vectors that the model reads; empty where it has none
}

// ItemVector is an item with its knowledge vector.
type ItemVector struct {
	Item   string `json:"item"`
	Vector Vector `json:"vector"`
}

// Validate reports the first rule that the step breaks, as *InvalidError.
func (s Step) Validate() error {
	if err := checkName("model", s.Model, true); err != nil {
		return err
	}
	if s.Events < 0 {
		return &InvalidError{"events", "it is negative"}
	}
	if s.MaxItems < 0 || s.MaxItems > 0 && s.MaxItems < s.Events {
		return &InvalidError{"max_items", "it is negative, or fewer than the events"}
	}
	if math.IsNaN(s.Loss) || math.IsInf(s.Loss, 0) {
		return &InvalidError{"loss", "it is not a finite number"}
	}
	for _, k := range s.Knowledge {
		if err := checkName("knowledge.item", k.Item, true); err != nil {
			return err
		}
		if err := checkVector(k.Vector); err != nil {
			return err
		}
	}
	if s.Samples != nil {
		if err := s.Samples.validate(); err != nil {
			return err
		}
	}
	return checkTaken("", s.Ranges, s.Order, s.Events)
}

func (b SampleBatch) validate() error {
	if b.Count < 1 {
		return &InvalidError{"samples.count", "it is not positive"}
	}
	if b.Policy.Step < 0 {
		return &InvalidError{"samples.policy", "its step is negative"}
	}
	if err := checkName("samples.policy", b.Policy.Name, false); err != nil {
		return err
	}
	if err := checkName("samples.encoder", b.Encoder, false); err != nil {
		return err
	}
	return checkTaken("samples.", b.Ranges, b.Order, b.Count)
}

// checkTaken checks that ranges and order are those of n records; under is where they
// stand.
func checkTaken(under string, ranges []Range, order []int32, n int) error {
	seen := map[int32]bool{}
	for _, r := range ranges {
		if r.Partition < 0 || r.From < 0 || r.To < r.From || seen[r.Partition] {
			return &InvalidError{under + "ranges", fmt.Sprintf("[%d,%d) of partition %d", r.From, r.To, r.Partition)}
		}
		seen[r.Partition] = true
	}
	if len(order)%2 != 0 {
		return &InvalidError{under + "order", "it is not made of pairs"}
	}
	sum := 0
	for i := 0; i < len(order); i += 2 {
		if !seen[order[i]] || order[i+1] <= 0 {
			return &InvalidError{under + "order", fmt.Sprintf("run %d of partition %d", order[i+1], order[i])}
		}
		if sum += int(order[i+1]); sum > n {
			break
		}
	}
	if sum != n {
		return &InvalidError{under + "order", "it does not add up to the number of records"}
	}
	return nil
}

func (s Step) key() string     { return s.Model }
func (s Step) when() time.Time { return s.Time }

// DecodeStep reads a record of the steps topic.
func DecodeStep(rec *kgo.Record) (Event[Step], error) {
	ev, err := decode[Step](rec, TypeStep, nil)
	ev.Body.Time = ev.Time
	return ev, err
}

// EncodeOrder run-length encodes the partitions of a batch: pairs of partition
// and how many records in a row came from it.
func EncodeOrder(recs []*kgo.Record) []int32 {
	var order []int32
	for _, r := range recs {
		if n := len(order); n > 0 && order[n-2] == r.Partition {
			order[n-1]++
			continue
		}
		order = append(order, r.Partition, 1)
	}
	return order
}
