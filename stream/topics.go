package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"seralm/config"
)

// topic is what we need of one topic. Time-based retention counts from when a
// record arrived (records carry arrival time as timestamp, event time in
// ce_time): with the event's own time there, a replayed data set of some years
// ago would be deleted as soon as it is written.
type topic struct {
	name       string
	partitions int32
	// ordered topics need exactly the partitions above: readers rely on the
	// order of records with different keys.
	ordered bool
	compact bool
	configs map[string]string
}

func topics(cfg config.Kafka) []topic {
	names := NamesOf(cfg.TopicPrefix)
	kept := map[string]string{
		"cleanup.policy": "delete",
		"retention.ms":   strconv.FormatInt(cfg.Retention.Milliseconds(), 10),
	}
	// The latest record of every key is the truth, however old: no other
	// clean-up may touch these.
	truth := map[string]string{"cleanup.policy": "compact", "retention.ms": "-1", "retention.bytes": "-1"}
	// Snapshots are written in slots that overwrite each other, so compaction
	// alone bounds them; deleting by age would leave an idle system without a
	// model. Small segments, for only closed ones are compacted.
	snapshots := map[string]string{
		"cleanup.policy": "compact", "retention.ms": "-1", "retention.bytes": "-1",
		"max.message.bytes": strconv.Itoa(MaxChunkBatchBytes),
		"segment.bytes":     strconv.Itoa(64 << 20),
	}
	// A dead letter is the record as it was read plus headers that say why.
	dead := map[string]string{
		"cleanup.policy": "delete", "retention.ms": kept["retention.ms"],
		"max.message.bytes": strconv.Itoa(2 * MaxRecordBytes),
	}
	p := cfg.Partitions
	return []topic{
		{names.Interactions(), p, false, false, kept},
		{names.Items(), p, false, true, truth},
		{names.Samples(), p, false, false, kept},
		{names.Knowledge(), p, false, true, truth},
		{names.Snapshots(), 1, true, true, snapshots},
		{names.Impressions(), p, false, false, kept},
		{names.DeadLetters(), 1, false, false, dead},
		{names.Steps(), 1, true, false, kept},
		{names.Rollouts(), 1, true, true, snapshots}, // it holds adapters, in chunks
	}
}

// Ensure creates the topics that are missing, and verifies of those that exist
// what our promises rest on: the clean-up policy, that nothing is deleted earlier
// than cfg.Retention says, the partition count where order across keys matters, and
// the message size of snapshots. It changes no existing topic: an operator's other
// settings are the operator's.
func Ensure(ctx context.Context, adm *kadm.Client, cfg config.Kafka) error {
	want := topics(cfg)
	names := NamesOf(cfg.TopicPrefix).All()
	have, err := adm.ListTopics(ctx, names...)
	if err != nil {
		return fmt.Errorf("listing topics at %s: %w (is the broker up, and may this user describe topics?)", strings.Join(cfg.Brokers, ", "), err)
	}
	var created []string
	for _, t := range want {
		if d, ok := have[t.name]; ok && !errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
			if d.Err != nil {
				return fmt.Errorf("describing topic %s: %w", t.name, d.Err)
			}
			continue
		}
		if err := create(ctx, adm, t, cfg.Replication); err != nil {
			return err
		}
		created = append(created, t.name)
	}
	if err := awaitLeaders(ctx, adm, created); err != nil {
		return err
	}
	return verify(ctx, adm, want)
}

func create(ctx context.Context, adm *kadm.Client, t topic, replication int16) error {
	configs := map[string]*string{
		// Acknowledged means held by all but one replica.
		"min.insync.replicas": kadm.StringPtr(strconv.Itoa(max(1, int(replication)-1))),
	}
	for k, v := range t.configs {
		configs[k] = kadm.StringPtr(v)
	}
	resp, err := adm.CreateTopic(ctx, t.partitions, replication, configs, t.name)
	if err == nil {
		err = resp.Err
	}
	switch {
	case err == nil, errors.Is(err, kerr.TopicAlreadyExists): // another role was faster
		return nil
	case errors.Is(err, kerr.InvalidReplicationFactor):
		return fmt.Errorf("creating topic %s: %w (kafka.replication is %d; the cluster has fewer brokers)", t.name, err, replication)
	}
	return fmt.Errorf("creating topic %s: %w (create it by hand, or allow this user to)", t.name, err)
}

// awaitLeaders returns when every partition of the new topics can be written to:
// a broker answers the creation before the others have heard of it.
func awaitLeaders(ctx context.Context, adm *kadm.Client, names []string) error {
	if len(names) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		have, err := adm.ListTopics(ctx, names...)
		if err == nil && !slices.ContainsFunc(names, func(n string) bool { return !led(have[n]) }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the new topics %s to get leaders: %w", strings.Join(names, ", "), errors.Join(err, ctx.Err()))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func led(d kadm.TopicDetail) bool {
	if d.Err != nil || len(d.Partitions) == 0 {
		return false
	}
	for _, p := range d.Partitions {
		if p.Err != nil || p.Leader < 0 {
			return false
		}
	}
	return true
}

func verify(ctx context.Context, adm *kadm.Client, want []topic) error {
	var names []string
	for _, t := range want {
		names = append(names, t.name)
	}
	have, err := adm.ListTopics(ctx, names...)
	if err != nil {
		return fmt.Errorf("verifying topics: %w", err)
	}
	described, err := adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return fmt.Errorf("verifying topics: %w (may this user describe topic configurations?)", err)
	}
	var wrong []error
	for _, t := range want {
		if n := len(have[t.name].Partitions); t.ordered && n != int(t.partitions) {
			wrong = append(wrong, fmt.Errorf("topic %s has %d partitions; it must have %d, for its records are read in one order (delete it, and it is created again)", t.name, n, t.partitions))
		}
		c, err := described.On(t.name, nil)
		if err == nil {
			err = c.Err
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("describing topic %s: %w", t.name, err))
			continue
		}
		wrong = append(wrong, t.verify(c)...)
	}
	return errors.Join(wrong...)
}

func (t topic) verify(c kadm.ResourceConfig) (wrong []error) {
	have := map[string]string{}
	for _, kv := range c.Configs {
		have[kv.Key] = kv.MaybeValue()
	}
	policy := have["cleanup.policy"]
	switch {
	case t.compact && policy != "compact": // with delete beside it, what is old would go
		wrong = append(wrong, fmt.Errorf("topic %s has cleanup.policy=%s, which forgets what we must keep; set cleanup.policy=compact", t.name, policy))
	case !t.compact && strings.Contains(policy, "compact"):
		wrong = append(wrong, fmt.Errorf("topic %s has cleanup.policy=%s, which would drop all but a key's last event; set cleanup.policy=delete", t.name, policy))
	}
	if want, kept := number(t.configs["retention.ms"]), number(have["retention.ms"]); !t.compact && kept >= 0 && kept < want {
		wrong = append(wrong, fmt.Errorf("topic %s has retention.ms=%d, less than kafka.retention, which is %d ms: set that to what is meant, or keep the topic's records for longer "+
			"(kafka-configs.sh --alter --entity-type topics --entity-name %s --add-config retention.ms=%d)", t.name, kept, want, t.name, want))
	}
	if need, n := number(t.configs["max.message.bytes"]), number(have["max.message.bytes"]); n >= 0 && n < need {
		wrong = append(wrong, fmt.Errorf("topic %s has max.message.bytes=%d; set it to %d or more", t.name, n, need))
	}
	return wrong
}

// number is that of a topic's setting; -1 is for none.
func number(setting string) int64 {
	if n, err := strconv.ParseInt(setting, 10, 64); err == nil {
		return n
	}
	return -1
}

// Retain gives the topics that exist, and whose clean-up policy is delete, the
// retention of cfg. It is for the embedded broker, which has no other operator.
func Retain(ctx context.Context, adm *kadm.Client, cfg config.Kafka) error {
	have, err := adm.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("listing topics: %w", err)
	}
	for _, t := range topics(cfg) {
		if t.compact || !have.Has(t.name) {
			continue
		}
		keep := kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr(t.configs["retention.ms"])}
		altered, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{keep}, t.name)
		if err == nil {
			for _, a := range altered {
				err = errors.Join(err, a.Err)
			}
		}
		if err != nil {
			return fmt.Errorf("setting the retention of topic %s: %w", t.name, err)
		}
	}
	return nil
}
