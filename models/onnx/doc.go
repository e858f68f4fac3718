// Package onnx turns a snapshot into a small ONNX graph and runs it with ONNX
// Runtime, without libtorch.
//
// A graph takes a history and the item table and gives the scores of all items.
// The table is an input, not a constant: rows can change while the session stays, and
// several tables share one session (Scorer.WithRows).
// Only the hidden state of the last position is needed, so the last layer computes
// nothing else.
//
// Users is the same graph without its last step, for those who judge what the rows of a
// table are worth.
//
// There is one file for each architecture, which reads like its equations and takes
// its weights under RecBole's names. Those without a mask see padding; it is made inside
// the graph and its vectors are zero, whatever the table's row for it holds.
//
// It may import snapshot and vocab. It must not know where snapshots come from.
package onnx
