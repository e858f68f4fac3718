// Package policy is the trainer job of the language model (paper, Equations 6 to 8): it
// reads samples, teaches a policy which texts were worth more than others, and
// publishes what the policy learnt as snapshots, for the generator and for whoever
// writes knowledge.
//
// What it promises, each with a test beside it:
//
//   - An iteration is alignment.batch samples, in the order of their times: a function of
//     the log. Which ones they were is journalled in the steps topic; after a crash the
//     trainer goes back to its checkpoint, learns the journalled iterations again and
//     ends with the adapter it had, to the bit on one thread.
//   - State and offsets are one thing. A checkpoint holds adapter, optimiser, the running
//     deviation of rewards and the next offset of every partition.
//   - The journal record, the group's offsets and a snapshot, when one is due, are one
//     Kafka transaction. An iteration that did not commit did not happen: no sample is
//     learnt twice or left out, and versions never go back.
//   - One writer per policy: starting fences the writer before.
//   - A sample that cannot be learnt from is set aside by name and counted; one whose
//     policy is too old is dropped and counted. Both keep their place in the iteration.
//
// It imports stream, config and models/align. The language model is behind the interface
// Model; package native, below, makes it. It must never sample, judge a text, or write
// knowledge, and does no arithmetic of its own: that is in models/align.
//
// If you are debugging
//
//	what an iteration learns, and what is dropped    learn.go, then models/align
//	the trainer does not start                       checkpoint.go (restore), package journal
//	an adapter that differs after a restart          learn.go (anything that is no function of the log), threads > 1
//	a version that is not published                  trainer.go (commit)
package policy
