package stream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"seralm/config"
)

func TestMain(m *testing.M) {
	if cfg := os.Getenv(brokerChildEnv); cfg != "" {
		brokerChild(cfg)
		return
	}
	goleak.VerifyTestMain(m)
}

// testCluster is the broker of a test: the embedded one's engine, in memory, or
// the real cluster that SERALM_TEST_KAFKA names. Every test has topic names of its
// own, so the tests of one run can share a cluster.
type testCluster struct {
	t   testing.TB
	cfg config.Kafka
	cl  *kgo.Client
	adm *kadm.Client
}

var prefixes atomic.Int64

func newTestCluster(t testing.TB) *testCluster {
	t.Helper()
	cfg := config.Default().Kafka
	if addr := os.Getenv("SERALM_TEST_KAFKA"); addr != "" {
		cfg.Brokers = strings.Split(addr, ",")
	} else {
		fake, err := kfake.NewCluster(kfake.NumBrokers(1))
		require.NoError(t, err)
		t.Cleanup(fake.Close)
		cfg.Brokers = fake.ListenAddrs()
	}
	return connect(t, cfg)
}

// connect is the cluster that cfg names, left as it was found.
func connect(t testing.TB, cfg config.Kafka) *testCluster {
	t.Helper()
	cfg.TopicPrefix = fmt.Sprintf("test-%d-%d-%d-", os.Getpid(), time.Now().UnixMilli(), prefixes.Add(1))
	c := &testCluster{t: t, cfg: cfg}
	c.cl = c.client()
	c.adm = kadm.NewClient(c.cl)
	t.Cleanup(func() {
		listed, err := c.adm.ListTopics(context.Background())
		require.NoError(t, err)
		for _, name := range listed.Names() {
			if strings.HasPrefix(name, c.cfg.TopicPrefix) {
				_, err := c.adm.DeleteTopic(context.Background(), name)
				require.NoError(t, err)
			}
		}
	})
	return c
}

// client makes a client that is closed with the test.
func (c *testCluster) client(extra ...kgo.Opt) *kgo.Client {
	c.t.Helper()
	cl, err := newClient(c.cfg, append([]kgo.Opt{
		kgo.MetadataMinAge(20 * time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, extra...)...)
	require.NoError(c.t, err)
	c.t.Cleanup(cl.Close)
	return cl
}

// topic creates a topic under the test's prefix and returns its full name.
func (c *testCluster) topic(name string, partitions int32, configs ...string) string {
	c.t.Helper()
	kv := map[string]string{}
	for i := 0; i < len(configs); i += 2 {
		kv[configs[i]] = configs[i+1]
	}
	full := c.cfg.TopicPrefix + name
	require.NoError(c.t, create(c.t.Context(), c.adm, topic{name: full, partitions: partitions, configs: kv}, 1))
	require.NoError(c.t, awaitLeaders(c.t.Context(), c.adm, []string{full}))
	return full
}

func (c *testCluster) produce(recs ...*kgo.Record) {
	c.t.Helper()
	require.NoError(c.t, c.cl.ProduceSync(c.t.Context(), recs...).FirstErr())
}

// trim deletes the records before an offset, as retention would.
func (c *testCluster) trim(topic string, partition int32, before int64) {
	c.t.Helper()
	at := kadm.Offsets{}
	at.Add(kadm.Offset{Topic: topic, Partition: partition, At: before})
	resp, err := c.adm.DeleteRecords(c.t.Context(), at)
	require.NoError(c.t, err)
	require.NoError(c.t, resp.Error())
}

// record is a small event record whose time and place are chosen by the test.
func record(topic string, partition int32, ms int64, value string) *kgo.Record {
	return &kgo.Record{
		Topic: topic, Partition: partition, Key: []byte("k"), Value: []byte(value),
		Headers: []kgo.RecordHeader{{Key: HeaderTime, Value: []byte(time.UnixMilli(ms).UTC().Format(time.RFC3339Nano))}},
	}
}

func values(recs []*kgo.Record) []string {
	out := make([]string, len(recs))
	for i, r := range recs {
		out[i] = string(r.Value)
	}
	return out
}

// noise does not compress, so that its size is its size on the wire too.
func noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return string(b)
}
