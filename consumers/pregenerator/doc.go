// Package pregenerator writes what is known of items before anybody asks: for every
// item of the items topic a vector of its title at once, and a language model's text
// with its vector as soon as that is written. The knowledge topic is where all of it
// goes, and the only memory of what was written already.
//
// What it promises, each with a test beside it:
//
//   - A text is in the log once for an item, a prompt and a model's version, and no
//     item is left out, whenever the process is killed. One writer: a transactional
//     id fences an older one and ends what it left open before the log is read.
//   - An item without knowledge gets the vector of its title within a second, also
//     while the language model is busy. A text that is still about the item stays
//     until the next one is written.
//   - The newest and the most popular items come first, taken in turns.
//   - Ready texts (OriginImport) are never replaced. Another encoder encodes texts
//     anew; none is written again for it.
//   - Knowledge of a deleted item is removed; of a hidden one nothing is written.
//   - A newer policy's texts are rolled out: written as drafts that nobody is served, and
//     promoted, or taken back bit for bit, once each, whenever the process is killed. Until
//     they are promoted, new items are written about by the policy that is served.
//
// It imports stream, feature, prompts and config. The two models are behind the
// interfaces Writer and Encoder; package native, below, makes them of libtorch. It
// must never hold the texts of more items than it works on, write to Redis, or
// decide what a text is worth.
//
// If you are debugging
//
//	what an item waits for, or why it does not    entry.go (due)
//	what is known of all items, invariants        ledger.go
//	order                                         queue.go
//	title vectors, removals, another encoder      vectors.go
//	the language model's texts, refusals          texts.go
//	duplicates, fencing, a broker that is away    publish.go, pregenerator.go (Run)
//	rates and remaining time                      progress.go
//	ready texts, export, counts                   import.go, export.go
//	phases of a roll-out, what moves it           rollout.go
//	which items get a draft, and when             drafts.go
//	what a session knows of roll-outs             rolls.go
//
// Invariants that are easy to break:
//
//   - The topic of roll-outs is read to its end before the knowledge topic is begun:
//     it says whose texts are served, without which all others look due. Its state is
//     then the session's own, and owned by the writer of texts.
//   - The transactional id is registered before the knowledge topic is read. In the
//     other order, a record of the writer before could arrive behind our reading.
//   - The knowledge topic is read to its end before the items topic is begun, and no
//     text is written before that one is read to its end, too, and the vectors that
//     are due then are made: before, nobody knows which item comes first.
//   - What is published is checked against the ledger at that moment (publish.go): the
//     item may have changed, or got knowledge from elsewhere, while a model worked.
//   - A record of the knowledge topic that is not newer than what the ledger holds
//     changes nothing: what was published is in the ledger before it is read.
package pregenerator
