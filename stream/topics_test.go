package stream

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
)

func (c *testCluster) alter(topic, key, value string) {
	c.t.Helper()
	altered, err := c.adm.AlterTopicConfigs(c.t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic)
	require.NoError(c.t, err)
	for _, a := range altered {
		require.NoError(c.t, a.Err)
	}
}

func (c *testCluster) setting(topic, key string) string {
	c.t.Helper()
	described, err := c.adm.DescribeTopicConfigs(c.t.Context(), topic)
	require.NoError(c.t, err)
	on, err := described.On(topic, nil)
	require.NoError(c.t, err)
	for _, kv := range on.Configs {
		if kv.Key == key {
			return kv.MaybeValue()
		}
	}
	return ""
}

func TestTopicsThatForgetTooSoonAreRefused(t *testing.T) {
	c := newTestCluster(t)
	ensure := func() error { return Ensure(t.Context(), c.adm, c.cfg) }
	require.NoError(t, ensure())
	require.NoError(t, ensure(), "those that exist are left as they are")
	names := NamesOf(c.cfg.TopicPrefix)

	c.alter(names.Interactions(), "retention.ms", "3600000")
	err := ensure()
	require.ErrorContains(t, err, names.Interactions())
	require.ErrorContains(t, err, "retention.ms=604800000", "the remedy")
	c.alter(names.Interactions(), "retention.ms", "-1")
	require.NoError(t, ensure(), "for ever is long enough")

	c.alter(names.Items(), "cleanup.policy", "compact,delete")
	require.ErrorContains(t, ensure(), names.Items())
	c.alter(names.Items(), "cleanup.policy", "compact")
	c.alter(names.Steps(), "cleanup.policy", "compact,delete")
	require.ErrorContains(t, ensure(), names.Steps())
}

// A retention that is set later is that of the topics that are there.
func TestRetainReachesTopicsThatExist(t *testing.T) {
	c := newTestCluster(t)
	require.NoError(t, Retain(t.Context(), c.adm, c.cfg), "there are none yet")
	require.NoError(t, Ensure(t.Context(), c.adm, c.cfg))
	names := NamesOf(c.cfg.TopicPrefix)
	for _, hours := range []int{720, 24} {
		c.cfg.Retention = time.Duration(hours) * time.Hour
		require.NoError(t, Retain(t.Context(), c.adm, c.cfg))
		require.NoError(t, Ensure(t.Context(), c.adm, c.cfg))
		require.Equal(t, strconv.FormatInt(c.cfg.Retention.Milliseconds(), 10), c.setting(names.Steps(), "retention.ms"))
		require.Equal(t, "-1", c.setting(names.Items(), "retention.ms"))
	}
}
