// Package gateway takes events over HTTP and writes them to the log: interactions,
// and what is known of items.
//
// What it promises. An event is accepted when every in-sync replica of the log has
// it, and only then answered. The events of one user (or item) in one request are
// written in the order they have in it; where one of them could not be confirmed and
// a later one was, the answer says so. (source, id) names an event: who sends it again
// with the same id, after a lost answer or a timeout, makes a second record of the same
// event, which every consumer leaves out. An event without an id gets one, so a retry of
// it is another event.
//
// What it holds. At most gateway.max_buffered events and maxBufferedBytes wait for
// the log, also those whose requests have been answered 503 meanwhile; above that
// the answer is 429. A request waits for the log for half of http.read_timeout.
//
//	gateway.go   what a gateway is made of, its routes
//	body.go      from a request's body to the JSON of each event
//	event.go     from the JSON of an event to its record, with an error for each wrong field
//	patch.go     changing some fields of an item, and deleting one
//	write.go     records on their way to the log: bounds, deadline, what was confirmed
//	answer.go    what the client is told
//
// It imports stream, config, serving/problem and nothing else of SeRALM. It must never
// keep an event that it has answered for, repair one silently, or log a user id or an
// event's content.
package gateway
