package serving

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"seralm/config"
)

// Listen opens the address of cfg. The error of a busy port says what to do.
func Listen(cfg config.HTTP) (net.Listener, error) {
	l, err := net.Listen("tcp", cfg.Addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("http.addr %s is in use by another process: stop it (`ss -ltnp` names it), or choose another port with http.addr or SERALM_HTTP_ADDR", cfg.Addr)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("http.addr %s may not be opened by this user: choose a port above 1023 with http.addr or SERALM_HTTP_ADDR", cfg.Addr)
	case err != nil:
		return nil, fmt.Errorf("opening http.addr %s: %w", cfg.Addr, err)
	}
	return l, nil
}

// Serve answers connections of l with h until ctx ends, then lets the requests in
// progress finish, for at most cfg.DrainTimeout.
func Serve(ctx context.Context, l net.Listener, cfg config.HTTP, h http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: cfg.ReadTimeout,
		ReadTimeout:       cfg.ReadTimeout,
		WriteTimeout:      2 * cfg.ReadTimeout, // counted from the end of the header, so it covers reading the body too
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what clients do wrong
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.DrainTimeout)
	defer cancel()
	err := server.Shutdown(drain)
	if err != nil {
		_ = server.Close() // cuts what is left, so that Serve returns
	}
	served := <-failed
	switch {
	case err != nil:
		return fmt.Errorf("draining %s: some requests did not finish within http.drain_timeout (%s): %w", l.Addr(), cfg.DrainTimeout, err)
	case !errors.Is(served, http.ErrServerClosed): // the listener failed just before the end
		return fmt.Errorf("serving on %s: %w", l.Addr(), served)
	}
	return nil
}
