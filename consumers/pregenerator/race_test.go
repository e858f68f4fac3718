//go:build race

package pregenerator

// The race detector is on: starting a process takes seconds then.
const racing = true
