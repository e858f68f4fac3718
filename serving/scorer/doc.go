// Package scorer keeps the newest usable snapshot of the recommender loaded: it
// follows the snapshots topic, builds and checks what arrives, and swaps it in
// while look-ups go on.
//
//	model.go    one loaded snapshot: scores, similar items, who still uses it
//	load.go     from bytes to a model that has proved itself
//	scorer.go   the topic, the order of versions, the swap
//
// It imports stream, models/{snapshot,vocab,onnx}, serving/{catalogue,ranking}
// and config. It must never leave look-ups without a model once there was one: a
// snapshot that cannot be used is counted and logged, and the old one stays.
package scorer
