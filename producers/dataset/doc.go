// Package dataset reads public recommendation data sets and plain tables as what
// they once were: a stream of interactions in time order, and a catalogue.
//
// The order of the stream is the order of time across users, and within each user
// the exact order that the data set knows, also where that user's times tie or are
// missing (see order.go). Everything is read and checked before the first event is
// handed out, so a truncated archive is an error and never half a stream; of a plain
// table that ends early nothing tells. Event ids
// are made of file and line: the same file read twice gives the same events.
//
// Memory: 32 bytes per row of the interactions file, plus each distinct user and
// item id once; sorting needs nothing more. MovieLens-1M takes 33 MB. MaxRows bounds it
// at 3.2 GB; the catalogue is streamed. Summary.Bytes says what was used.
//
// It imports stream for the types of events. It must never talk to a broker, write
// a file, or repair data silently: what it fills in or leaves out is counted in the
// Summary.
//
// If you are debugging
//
//	which files were taken, as what   detect.go
//	a line that is refused            rows.go (splitting), fields.go (numbers and times)
//	the order, a time that moved      order.go
//	events that are missing           filter.go
//	titles and categories             items.go
package dataset
