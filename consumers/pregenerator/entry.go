package pregenerator

import (
	"strings"
	"time"
	"unicode/utf8"
	"unique"

	"github.com/cespare/xxhash/v2"

	"seralm/prompts"
	"seralm/stream"
)

// place is where a record is.
type place struct {
	partition int32
	offset    int64
}

// entry is what is remembered of an item: where its texts are, not the texts.
type entry struct {
	id string

	// The item, by its newest event.
	announced bool
	deleted   bool
	hidden    bool
	mute      bool // it has no title, no category and no text
	at        place
	prompt    uint64 // hash of the hash of its prompt
	written   int64  // when the event was written to the log, ms
	time      int64  // when it happened, ms: the newest item is that of the latest

	known known // its knowledge, by the newest record

	refused  uint64    // the prompt that the language model had no answer to
	taken    bool      // the language model is at it
	waiting  time.Time // since when it is in the queue
	position int       // there; -1 elsewhere
}

// known is what is remembered of a record of the knowledge topic.
type known struct {
	origin  stream.Origin // "": nothing is known
	at      place
	prompt  uint64 // as entry.prompt
	written int64
	text    bool // it has one: a vector from elsewhere need not
	version unique.Handle[stream.ModelVersion]
	policy  bool // by a language model whose texts are served
	encoder bool // by the present encoder
}

// due is what has to be done for an item.
type due uint8

const (
	nothing due = iota
	removal     // of its knowledge
	title       // the vector of its title
	again       // a vector of the text that there is, by the present encoder
	text        // by the language model
	// What a roll-out does, which no item has due by itself:
	promotion // of a draft
	restoring // of the text before that
)

// due says what comes next for the item; complete, that the items topic was read to
// its end. A vector comes before a text, so that there is something at once.
func (e *entry) due(complete bool) due {
	k := e.known
	stale := k.origin != "" && !k.encoder
	switch {
	case !e.announced && k.origin != "" && (e.deleted || k.origin != stream.OriginImport):
		// A text that is not imported came from an item event: the log has forgotten its
		// deletion. On the way to the log's end, the item may be announced again.
		if complete {
			return removal
		}
		return nothing
	case stale && k.text && k.origin != stream.OriginTitle && !e.changed():
		return again
	case !e.announced, e.hidden, e.mute, k.origin == stream.OriginImport:
		return nothing
	case k.origin == "", stale, e.changed():
		return title
	case k.origin == stream.OriginLLM && k.prompt == e.prompt && k.policy, e.refused == e.prompt:
		return nothing
	}
	return text
}

// changed reports whether the item is another than its knowledge is about. A prompt
// that alone has changed, by a new template, is no reason to drop a text.
func (e *entry) changed() bool {
	if !e.announced || e.known.prompt == e.prompt {
		return false
	}
	return e.known.origin == stream.OriginTitle || e.known.origin == stream.OriginLLM && e.written > e.known.written
}

// digest shortens a prompt's hash. 0 is no hash.
func digest(promptHash string) uint64 {
	if promptHash == "" {
		return 0
	}
	return max(1, xxhash.Sum64String(promptHash))
}

// cut shortens s to at most limit bytes, after a whole rune.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return strings.TrimSpace(s[:limit])
}

func promptItem(it stream.Item) prompts.Item {
	return prompts.Item{ID: it.Item, Title: it.Title, Categories: it.Categories, Text: it.Text}
}
