// Package recommender is the trainer job of the recommender (paper, Equation 9):
// it reads interactions and, with alignment.enabled, samples; learns from them in
// micro-batches, and publishes what it learnt as snapshots.
//
// What it promises, each with a test beside it:
//
//   - State and offsets are one thing. A checkpoint holds weights, optimiser,
//     histories, event-key window and the next offset of every partition of both.
//   - A micro-batch is a function of the log. Which records it was made of, in
//     which order, is journalled in the steps topic; after a crash the trainer
//     goes back to its checkpoint, learns the journalled batches again and ends
//     with the weights it had, to the bit on one thread.
//   - The journal record, the group's offsets and a snapshot, when one is due,
//     are one Kafka transaction. A step that did not commit did not happen.
//   - A sample is learnt once, or counted by why it is left out. Where there are none,
//     nothing waits for them and the steps are what they would be without.
//   - One writer per model: starting fences the writer before.
//
// It imports stream and models. It must not import feature or serving, and does
// no arithmetic of its own: that is in models/online and below.
package recommender
