// Package knowledge makes the view of what is known of items (package feature) from
// the knowledge topic, for whoever needs an item's text or vector within a
// millisecond.
//
// What it promises, each with a test beside it:
//
//   - The view says where to read: reading begins at the offsets that Redis holds
//     together with the knowledge. A crash at any instant loses nothing.
//   - A view that lost something, or all, is noticed within a second, without a record
//     having to arrive, and what it lost is read again.
//   - A record that can never be used is in the dead letters before the view's offset
//     moves over it.
//
// Every instance reads every partition, without a group: the view refuses what it
// holds already, so several that fill one Redis do the work twice and no harm, and
// embedded views each get everything.
//
// It imports stream and feature. It must not decide what is written (that is package
// pregenerator's), or keep state of its own besides positions.
//
// If you are debugging
//
//	where reading begins, what is final      session.go
//	trouble, back-off, lag                   view.go
//	knowledge that is not the newest         feature/knowledge.go
//
// There is one way out of every trouble: a session ends, and the next one asks the view
// again where to go on.
package knowledge
