package stream

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestFollowReadsWhatThereIsThenWhatComes(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 2)
	for i := range 10 {
		c.produce(record(topic, int32(i%2), 1, fmt.Sprint(i)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := make(chan string, 100)
	atCaughtUp := -1
	done := make(chan error, 1)
	go func() {
		done <- Follow(ctx, c.cfg, topic, func(rec *kgo.Record) error {
			seen <- string(rec.Value)
			return nil
		}, func() {
			atCaughtUp = len(seen)
			c.cl.ProduceSync(ctx, record(topic, 1, 1, "later"))
		})
	}()
	for range 11 {
		select {
		case v := <-seen:
			if v == "later" {
				cancel()
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing more comes")
		}
	}
	require.ErrorIs(t, <-done, context.Canceled)
	require.GreaterOrEqual(t, 10, atCaughtUp)
}

func TestFollowIsCaughtUpWithAnEmptyTopicAtOnce(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 3)
	require.Empty(t, c.visible(topic))
	c.produce(record(topic, 0, 1, "deleted"))
	c.trim(topic, 0, 1)
	require.Empty(t, c.visible(topic), "a log whose records are all gone is empty too")
}

func TestFollowStopsWithTheErrorOfItsReader(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("t", 1)
	c.produce(record(topic, 0, 1, "a"), record(topic, 0, 1, "b"))
	broken := errors.New("broken")
	n := 0
	err := Follow(t.Context(), c.cfg, topic, func(*kgo.Record) error {
		n++
		return broken
	}, func() {})
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "partition 0 offset 0")
	require.Equal(t, 1, n)
}

func TestFollowOfATopicThatDoesNotExist(t *testing.T) {
	c := newTestCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := Follow(ctx, c.cfg, c.cfg.TopicPrefix+"nowhere", func(*kgo.Record) error { return nil }, func() {})
	require.ErrorContains(t, err, "reading topic "+c.cfg.TopicPrefix+"nowhere")
	require.NoError(t, ctx.Err(), "it does not wait for it")
}
