// Package streamtest gives a test a log of its own: the embedded broker's engine in
// memory, or the real cluster that SERALM_TEST_KAFKA names, under topic names that no
// other test has.
package streamtest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/stream"
)

// Fake is an embedded broker's engine, for what a real cluster does not do on demand.
func Fake(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// Brokers are the real cluster's, where there is one, else those of a Fake.
func Brokers(t testing.TB, opts ...kfake.Opt) []string {
	t.Helper()
	if addr := os.Getenv("SERALM_TEST_KAFKA"); addr != "" {
		return strings.Split(addr, ",")
	}
	return Fake(t, opts...).ListenAddrs()
}

var prefixes atomic.Int64

// Prefix of names that no other test has.
func Prefix() string {
	return fmt.Sprintf("test-%d-%d-%d-", os.Getpid(), time.Now().UnixMilli(), prefixes.Add(1))
}

// Topics makes those that the configuration names, for as long as the test runs, and
// returns a client.
func Topics(t testing.TB, cfg config.Kafka) *kgo.Client {
	t.Helper()
	opts, err := stream.ClientOptions(cfg)
	require.NoError(t, err)
	client, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	admin := kadm.NewClient(client)
	require.NoError(t, stream.Ensure(t.Context(), admin, cfg))
	t.Cleanup(func() {
		_, err := admin.DeleteTopics(context.Background(), stream.NamesOf(cfg.TopicPrefix).All()...)
		require.NoError(t, err)
		client.Close()
	})
	return client
}
