// Package feature holds the views of the log that a look-up needs within a
// millisecond: what each user did last and what is popular (the histories), and what
// a language model wrote about each item (the knowledge). They live in Redis, or in
// an embedded server of the same protocol when no address is configured.
//
// A view is never the truth. It is made from one topic, interactions or knowledge,
// it carries the next offset of every partition it was made from, and wiping it and
// reading the log again gives it back. Each is wiped without the other.
//
// It imports config and go-redis. It must never read or write Kafka, keep a value
// that the log could not restore, or decide what an event means.
//
// If you are debugging
//
//	a key, its type, who expires it    keys.go
//	an event applied twice or never    histories.go, apply.lua
//	knowledge that is not the newest   knowledge.go (PutKnowledge: what older means), knowledge.lua
//	"the view went back"               view.go (Behind), start.lua
//	a wipe that does not end           wipe.go
//	a connection, TLS, timeouts        store.go, embedded.go
//
// Invariants that are easy to break:
//
//   - State and offsets are one thing: apply.lua changes histories, popularity and
//     the partition's next offset in one script (knowledge.lua items and offset), so a
//     crash at any instant leaves an offset that says exactly what the view holds.
//     This is why all keys of a view must be on one Redis node (a primary and its
//     replicas, not a cluster).
//   - A script runs only if the view's next offset has reached the run's first one.
//     A Redis that lost its newest seconds, or all, is noticed by the next write
//     and the reader is told where to start again.
//   - Within a partition, knowledge is refused for its offset and nothing else, not its
//     time and not the version of its model: the view must end as the compacted log
//     does. So nobody puts what is not in the log yet. A reader that was away for longer than the
//     topic keeps removals (delete.retention.ms, a day) may miss some; WipeKnowledge
//     and reading again mends that.
//   - Whether an id was seen before depends on event times, not on the clock, so
//     that a rebuilt view equals the one it replaces.
package feature
