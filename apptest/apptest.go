// Package apptest runs the programs as their users do: it builds the binaries,
// starts them, talks to them over HTTP and Kafka, kills them, and looks at what they
// answer, write and exit with. Nothing here reaches into a process.
//
// It imports stream only to read the log as any consumer could.
package apptest
