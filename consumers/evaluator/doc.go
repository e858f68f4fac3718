// Package evaluator measures, on the live stream, the model that is being served:
// each interaction is ranked by the newest snapshot that had not learnt it, beside
// popularity and item-transition kNN, which learn as they go (models/prequential).
//
// A snapshot names the offsets it has learnt up to. An event below them was part
// of its training, so it is ranked by an older snapshot or not at all: the curve
// never contains a model's memory of the answer.
//
// It neither runs away from the trainer nor waits for it for ever: it is at most
// evaluator.max_lead records ahead of the newest snapshot, and goes on by as many
// when none has landed for evaluator.max_wait. When it lags behind the trainer
// itself, it holds a few snapshots, spread from its own place to the newest.
//
// The evaluator keeps no state of its own. After a restart it learns the log again
// without ranking, and goes on measuring with what arrives from then on.
//
// It imports stream and models, and publishes metrics and a curve.
package evaluator
