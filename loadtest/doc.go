// Package loadtest measures a SeRALM server the way its users meet it.
//
// Arrivals follow an open model: every request has a planned send time that does
// not depend on how fast earlier ones were answered, and its latency is counted
// from that planned time. A server that stalls for a second is therefore charged
// for everybody who would have come in that second (Tene's "coordinated omission"
// is what a closed loop makes of the same stall). What cannot be sent in time is
// counted as late or dropped, never moved. A closed loop is there too, for the one
// question it answers well: how much a server does at most.
//
// The generator shares its machine with the server under test more often than not,
// so it is built to be cheap and says what it cost: one goroutine and one
// keep-alive connection per request in flight, requests written as ready-made
// bytes, and a kernel timer in place of the runtime's (pacer.go says why).
//
// The package imports nothing of SeRALM: it knows the HTTP API and no more. It must
// never send to a public address unless Options.AllowRemote says so.
package loadtest
