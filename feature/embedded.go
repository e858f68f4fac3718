package feature

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// sweepEach is how often expired keys leave the embedded server. A sweep sorts all
// keys while every command waits (about 60 ms for 100,000 keys), so it is rare.
const sweepEach = time.Hour

// embedded is a Redis server inside this process. It listens on a free port of the
// loopback interface: its in-memory pipes hold no bytes, so that a long pipeline
// and its replies would wait for each other for ever. A password that only this
// process knows keeps other users of the machine out.
type embedded struct {
	server   *miniredis.Miniredis
	password string
	stop     chan struct{}
	done     sync.WaitGroup
}

func startEmbedded() (*embedded, error) {
	e := &embedded{server: miniredis.NewMiniRedis(), password: rand.Text(), stop: make(chan struct{})}
	e.server.RequireAuth(e.password)
	if err := e.server.Start(); err != nil {
		return nil, fmt.Errorf("starting the embedded Redis: %w", err)
	}
	e.done.Go(func() {
		tick := time.NewTicker(sweepEach)
		defer tick.Stop()
		for {
			select {
			case <-e.stop:
				return
			case <-tick.C:
				e.server.FastForward(sweepEach) // its clock stands still otherwise
			}
		}
	})
	return e, nil
}

func (e *embedded) close() {
	close(e.stop)
	e.done.Wait()
	e.server.Close()
}
