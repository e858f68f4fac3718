package stream

import (
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Interaction is one thing a user did with an item: a click, a rating, a purchase.
type Interaction struct {
	User  string    `json:"user"`
	Item  string    `json:"item"`
	Type  string    `json:"type"`
	Value *float64  `json:"value,omitempty"` // e.g. the stars of a rating
	Time  time.Time `json:"time"`            // when it happened, milliseconds
	// Seq is the producer's own number of the event among its user's. It is carried, and
	// not acted on: the order of a user's events is that of the log.
	Seq uint64 `json:"seq,omitempty"`
	// Session groups a user's events; RecommendationID names the answer that
	// showed the item, which is what joins impressions to clicks.
	Session          string `json:"session,omitempty"`
	RecommendationID string `json:"recommendation_id,omitempty"`
}

// Validate reports the first rule that the interaction breaks, as *InvalidError.
func (i Interaction) Validate() error {
	for _, f := range []struct {
		name, value string
		required    bool
	}{
		{"user", i.User, true},
		{"item", i.Item, true},
		{"type", i.Type, true},
		{"session", i.Session, false},
		{"recommendation_id", i.RecommendationID, false},
	} {
		if err := checkName(f.name, f.value, f.required); err != nil {
			return err
		}
	}
	if i.Value != nil && (math.IsNaN(*i.Value) || math.IsInf(*i.Value, 0)) {
		return &InvalidError{"value", "it is not a finite number"}
	}
	return nil
}

func (i Interaction) key() string     { return i.User }
func (i Interaction) when() time.Time { return i.Time }

// DecodeInteraction reads a record of the interactions topic. Errors are
// *InvalidError: the record can never be used.
func DecodeInteraction(rec *kgo.Record) (Event[Interaction], error) {
	ev, err := decode[Interaction](rec, TypeInteraction, nil)
	ev.Body.Time = ev.Time
	return ev, err
}

// Item is one thing that can be recommended.
type Item struct {
	Item       string    `json:"item"`
	Title      string    `json:"title,omitempty"`
	Categories []string  `json:"categories,omitempty"`
	Text       string    `json:"text,omitempty"`
	Hidden     bool      `json:"hidden,omitempty"` // known, learnt from, never recommended
	Time       time.Time `json:"time"`
}

// Bounds of an item's free text, in bytes, and of its categories.
const (
	MaxTitle      = 4 << 10
	MaxText       = 256 << 10
	MaxCategories = 256
)

// Validate reports the first rule that the item breaks, as *InvalidError.
func (i Item) Validate() error {
	if err := checkName("item", i.Item, true); err != nil {
		return err
	}
	if err := checkText("title", i.Title, MaxTitle); err != nil {
		return err
	}
	if err := checkText("text", i.Text, MaxText); err != nil {
		return err
	}
	if len(i.Categories) > MaxCategories {
		return &InvalidError{"categories", fmt.Sprintf("there are more than %d", MaxCategories)}
	}
	for _, c := range i.Categories {
		if err := checkName("categories", c, true); err != nil {
			return err
		}
	}
	return nil
}

// checkText takes any text, of any lines.
func checkText(field, s string, most int) error {
	switch {
	case len(s) > most:
		return &InvalidError{field, fmt.Sprintf("it is longer than %d bytes", most)}
	case !utf8.ValidString(s):
		return &InvalidError{field, "it is not valid UTF-8"}
	}
	return nil
}

func (i Item) key() string     { return i.Item }
func (i Item) when() time.Time { return i.Time }

// DecodeItem reads a record of the items topic; a null value is a deletion
// (Event.Deleted, with Body.Item set).
func DecodeItem(rec *kgo.Record) (Event[Item], error) {
	ev, err := decode(rec, TypeItem, func(key string) Item { return Item{Item: key} })
	ev.Body.Time = ev.Time
	return ev, err
}
