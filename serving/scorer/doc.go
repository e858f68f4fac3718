// Package scorer keeps the newest usable snapshot of the recommender loaded: it
// follows the snapshots topic, builds and checks what arrives, and swaps it in
// while look-ups go on.
//
// A snapshot with an item tower has a row for items that it has not learnt, too, as
// soon as the knowledge topic has a vector of a text about them and the catalogue
// describes them. Such rows stand behind the learnt ones. A changed one means another
// item table over the same session, swapped in as a snapshot is, at most every 100 ms
// and for at most a twentieth of a core. A learnt row is changed by the next snapshot
// and by nothing else: its item's vector went into training.
//
//	model.go      one loaded snapshot: scores, similar items, who still uses it
//	load.go       from bytes to a model that has proved itself
//	scorer.go     the topic of snapshots, the order of versions, the swap
//	knowledge.go  the topic of knowledge, the pace of new tables
//	texts.go      the vectors that are held (and what they cost), the rows made of them
//
// It imports stream, models/{snapshot,vocab,onnx,tower}, serving/{catalogue,ranking}
// and config. It must never leave look-ups without a model once there was one: a
// snapshot that cannot be used is counted and logged, and the old one stays.
//
// If you are debugging
//
//	a new item that is not recommended    /v1/items/{item} (known_by), /v1/status
//	                                      (knowledge), texts.rows
//	a text that changes nothing           the item is learnt: wait for a snapshot
//	misfits                               the encoder of the records is not the one
//	                                      that the trainer read
package scorer
