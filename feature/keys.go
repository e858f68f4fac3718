package feature

import (
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
)

// keys names every key of the store. With the default prefix:
//
//	seralm:histories                hash  next offset per partition, and the id of the topic
//	seralm:popular                  zset  item -> number of interactions
//	seralm:wiping                   str   token of the wipe under way
//	seralm:h:{user}                 list  item ids, oldest first
//	seralm:s:{user}:window          set   hashes of the event ids seen in one time window
//
//	seralm:knowledge                hash  next offset per partition, and the id of the topic
//	seralm:knowledge:wiping         str   token of the wipe under way
//	seralm:k:{item}                 hash  what is known of an item, see knowledge.go
//
// The braces are Redis hash tags: whatever moves keys by slot keeps a user together.
// Histories and sets of ids may expire; nothing else does.
type keys struct{ prefix string }

func (k keys) popular() string { return k.prefix + ":popular" }

func (k keys) history(user string) string { return k.prefix + ":h:{" + user + "}" }

func (k keys) seen(user string, window int64) string {
	return k.prefix + ":s:{" + user + "}:" + strconv.FormatInt(window, 10)
}

func (k keys) knowledge(item string) string { return k.prefix + ":k:{" + item + "}" }

// pattern is the SCAN pattern of the keys of users or items, of the kinds given.
func (k keys) pattern(kinds string) string {
	escaped := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(k.prefix)
	return escaped + ":[" + kinds + "]:{*"
}

// window numbers the span of time that t falls in. Ids are kept in one set per
// window and looked for in the window before, too: an id is remembered for one to
// two spans, and forgetting is dropping a whole set.
func window(t time.Time, span time.Duration) int64 {
	return t.UnixMilli() / span.Milliseconds()
}

// idHash shortens an event id to what Redis keeps in an intset: 8 bytes per id.
// Two ids of one user colliding within a window of 10,000 has odds of 1 in 10^11.
func idHash(id string) string {
	return strconv.FormatInt(int64(xxhash.Sum64String(id)), 10)
}
