// Package replay writes a data set to the log as the stream it once was: the
// catalogue to items, then every interaction to interactions, in the data set's
// order. A user's events reach the log in that order whatever fails on the way, and
// a replay that was interrupted, also by kill -9, goes on where it stopped.
//
// How it keeps the order. Events are encoded by several goroutines, and sent by one
// idempotent producer in windows: a window is handed to the client as a whole, and
// nothing of the next before every record of it is acknowledged (writer.go). So what
// a run wrote of a partition is always a piece of the stream without a hole, also when
// the broker refused something. Then the cursor is moved (cursor.go); the next run
// begins there. What it writes twice comes after the first time, in the same order and
// under the same (source, id), which is how every reader of the log tells; dropping
// what was seen leaves the stream itself.
//
// It imports stream, config and producers/dataset. It must never change an event,
// create a topic, or send more than a bounded number of records beyond what the
// cursor on disk says.
//
// If you are debugging
//
//	a replay that refuses to start   cursor.go (file, lock), replay.go (topics)
//	one that waits, or gives up      writer.go (send), pace.go
//	events twice in the log          writer.go (limits); it is bounded, and no error
//	a speed that is not the factor   pace.go
//	the line on the screen           progress.go, result.go
package replay
