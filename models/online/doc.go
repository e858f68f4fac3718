// Package online turns a stream of interactions into training steps.
//
// A [Learner] is a deterministic state machine: its weights, vocabulary and
// histories after a step are a function of its state before and of the events of
// the micro-batch, in their order, and of nothing else (no clock, no map order, no
// global random source). The trainer's crash safety rests on that: replaying the
// same micro-batches from a checkpoint gives the same weights to the bit, on one
// thread.
//
// It knows nothing of Kafka, files or time-outs; it imports the models beside it.
package online
