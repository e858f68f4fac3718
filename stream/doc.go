// Package stream is the log: which topics exist, what a record of each looks
// like, how a client connects, and the few ways in which SeRALM reads and writes
// them (a deterministic merge, a tail without a group, a transaction that carries
// its own offsets, dead letters, chunked snapshots, the embedded broker).
//
// It imports config and franz-go, and nothing else of SeRALM. It must never
// interpret an event beyond decoding and validating it, keep state of its own
// that is not in the log, or log a record's content.
//
// If you are debugging
//
//	an event that was refused      interaction.go (items, too), step.go, knowledge.go (validation),
//	                               record.go (headers)
//	a topic's settings             topics.go
//	a connection, TLS, SASL        client.go
//	the embedded broker, its lock  broker.go
//	order or loss while reading    merge.go (order), reader.go (positions), replay.go (journal)
//	one record read again          read_record.go
//	a snapshot that never arrives  chunks.go, chunk_reader.go
//	a fenced or stuck writer       transaction.go
//	something set aside            deadletters.go
package stream
