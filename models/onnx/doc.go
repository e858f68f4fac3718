// Package onnx turns a snapshot into a small ONNX graph and runs it with ONNX
// Runtime, without libtorch.
//
// A graph takes a history and the item table and gives the scores of all items.
// The table is an input, not a constant: rows can change while the session stays, and
// several tables share one session (Scorer.WithRows).
// Only the hidden state of the last position is needed, so the last layer computes
// nothing else.
//
// It may import snapshot and vocab. It must not know where snapshots come from.
package onnx
