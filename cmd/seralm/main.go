// Command seralm is every role of SeRALM in one binary: the embedded single
// process (up, demo), each role by itself, and the tools beside them. It wires
// packages together and does nothing else.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := rootCommand().ExecuteContext(ctx)
	switch {
	case err == nil, errors.Is(err, context.Canceled):
	default:
		fmt.Fprintf(os.Stderr, "seralm: %v\n", err)
		os.Exit(1)
	}
}
