// Package histories is the consumer group that makes the views of package feature
// from the interactions topic: each user's history, and what is popular.
//
// What it promises, each with a test beside it:
//
//   - The view says where to read. Reading begins at the offsets that Redis holds
//     together with the histories, never at those committed to Kafka: these are for
//     people and their lag tools. So a crash at any instant loses nothing and
//     applies nothing twice, and so do two members that both believe they own a
//     partition.
//   - A view that lost something is noticed within a second, without an event
//     having to arrive, and what it lost is read again: Redis emptied, wiped,
//     failed over or restored from a backup.
//   - A record that can never be used is in the dead letters before its offset
//     moves. Too many of them end the role.
//   - What the log itself has lost is an error with the count (stream.LostError),
//     never a gap that nobody hears of.
//
// It imports stream and feature. It must not decide what an event means to a
// model, keep state of its own besides positions, or answer look-ups.
//
// If you are debugging
//
//	the loop, trouble with Redis, back-off        consumer.go
//	records to runs, dead letters, verdicts       apply.go
//	where reading begins or goes back to, loss    resume.go
//	joins, leaves, committed offsets              group.go
//	lag, time until visible                       metrics.go
//
// Invariants that are easy to break:
//
//   - A run begins where the last one of its partition ended (part.next), not at its
//     first record: offsets between them are the log's own, or aborted, and the view
//     must move over them. This needs every record to belong to the present
//     assignment, so rebalances are held off from a poll until its records are dealt
//     with (BlockRebalanceOnPoll). While Redis is in trouble they are let through
//     between attempts.
//   - Nothing is polled while a run waits to be applied: this is what bounds memory,
//     and it keeps the order of a partition.
package histories
