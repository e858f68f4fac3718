// Package evaluator measures, on the live stream, the model that is being served:
// each interaction is ranked by the newest snapshot that had not learnt it, beside
// popularity and item-transition kNN, which learn as they go (models/prequential).
//
// A snapshot names the offsets it has learnt up to. An event below them was part
// of its training, so it is ranked by an older snapshot or not at all: the curve
// never contains a model's memory of the answer.
//
// The evaluator keeps no state of its own. After a restart it learns the log again
// without ranking, and goes on measuring with what arrives from then on.
//
// It imports stream and models, and publishes metrics and a curve.
package evaluator
