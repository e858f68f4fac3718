package policy_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"seralm/consumers/generator"
	"seralm/consumers/internal/toy"
	"seralm/models/tower"
)

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.String()
}

// A recommender that has learnt from no vector finds all texts equal: nothing is sampled
// for it to judge, it is told once, and sampling begins with the first that reads.
func TestNothingIsSampledForARecommenderThatReadsNothing(t *testing.T) {
	s := toy.NewSystem(t)
	s.Interactions(0, 100)
	publish := func(step int64, blind bool) {
		snap := toy.Snapshot(s.Config.Recommender.Name, step, 10, toy.Good)
		if blind {
			clear(snap.Tensors[tower.Weight].Data)
		}
		s.Publish(snap)
	}
	publish(1, true)
	var log lines
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := toy.GeneratorOptions(s.Config, func(p generator.Progress) bool { return p.Samples > 0 })
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	g, err := generator.New(s.Config, o)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	warned := func() int { return strings.Count(log.String(), "no text is sampled until the recommender") }
	require.Eventually(t, func() bool { return warned() > 0 }, time.Minute, 5*time.Millisecond)
	publish(2, true)
	publish(3, false)
	require.NoError(t, <-ended)
	require.Equal(t, 1, warned())
	require.Contains(t, log.String(), "sampling goes on")
	for _, sample := range s.Samples() {
		require.EqualValues(t, 3, sample.Body.Versions.Recommender.Step)
	}
}
