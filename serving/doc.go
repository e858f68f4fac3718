// Package serving answers look-ups: which items to show to a user now.
//
//	server.go       what a server is made of, what it runs, when it ends
//	routes.go       every path of the API, and the answers to wrong ones
//	query.go        from a request to a query, with an error for each wrong field
//	lookup.go       the fallback chain: personalised, session, similar, popular
//	candidates.go   which items may appear in an answer
//	popular.go      the popular items, kept in memory
//	recommend.go    the look-up over HTTP
//	items.go        items and histories over HTTP
//	current.go      an item as the log has it, for those who change it
//	status.go       readiness and status
//	lag.go          how many events the model has not learnt
//	impressions.go  what was shown, on its way to the log
//	listen.go       the listener and its graceful end
//	page.go         the page for people
//
// It imports feature, stream, models/snapshot, config and its own subpackages,
// and never libtorch. It must never answer a look-up with a 5xx: whatever is
// missing, there is a lesser answer that names its source. It must never write to
// the views, and never log a user id.
package serving
