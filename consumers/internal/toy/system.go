package toy

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/consumers/generator"
	"seralm/consumers/trainer/policy"
	"seralm/models/snapshot"
	"seralm/stream"
	"seralm/stream/streamtest"
)

// Good is the letter that texts are worth more for: the third.
const (
	Good       = 2
	GoodLetter = "c"
)

// System is a log.
type System struct {
	testing.TB
	Config config.Config
	Client *kgo.Client
}

// NewSystem makes the topics of one test.
func NewSystem(t testing.TB) *System {
	t.Helper()
	s := &System{TB: t, Config: Config(streamtest.Brokers(t), streamtest.Prefix())}
	s.Config.DataDir = t.TempDir()
	s.Client = streamtest.Topics(t, s.Config.Kafka)
	return s
}

// Config of a toy on the brokers given.
func Config(brokers []string, prefix string) config.Config {
	c := config.Default()
	c.Kafka.Brokers, c.Kafka.TopicPrefix, c.Kafka.Partitions = brokers, prefix, 3
	c.Knowledge.Domain = "movies"
	c.Recommender.MaxLen, c.Recommender.KnowledgeDim = 8, Letters-1
	a := &c.Alignment
	a.Temperature, a.MaxTokens, a.Candidates, a.Group, a.Batch, a.Refresh = Temperature, Length, 4, 3, 8, 0
	a.Reservoir, a.CheckpointN, a.LearningRate, a.Alpha = 64, 7, 0.05, 0.02
	return c
}

// Names of the topics.
func (s *System) Names() stream.Names { return stream.NamesOf(s.Config.Kafka.TopicPrefix) }

// Produce writes records.
func (s *System) Produce(recs ...*kgo.Record) {
	s.Helper()
	require.NoError(s, s.Client.ProduceSync(s.Context(), recs...).FirstErr())
}

// Interactions of a few users with items i0 to i9, numbers [from, to): in the log, the
// items described.
func (s *System) Interactions(from, to int) {
	s.Helper()
	var recs []*kgo.Record
	for i := range 10 {
		it := Described(fmt.Sprint("i", i))
		recs = append(recs, s.Record(s.Names().Items(), it.Item, fmt.Sprint("item-", i), i, it))
	}
	for _, in := range Interactions(from, to) {
		recs = append(recs, s.Record(s.Names().Interactions(), in.Body.User, in.ID, int(in.Time.UnixMilli()-1e12), in.Body))
	}
	s.Produce(recs...)
}

// Interactions with numbers [from, to), in order.
func Interactions(from, to int) (out []stream.Event[stream.Interaction]) {
	for n := from; n < to; n++ {
		r := rand.New(rand.NewPCG(5, uint64(n)))
		out = append(out, stream.Event[stream.Interaction]{
			ID: fmt.Sprint("event-", n), Source: "test", Time: time.UnixMilli(1e12 + int64(n)), Offset: int64(n),
			Body: stream.Interaction{User: fmt.Sprint("u", r.IntN(7)), Item: fmt.Sprint("i", r.IntN(10)), Type: "click"},
		})
	}
	return out
}

// GroupInteractions are those of users who take even items, or odd ones: see Groups.
func GroupInteractions(from, to int) []stream.Event[stream.Interaction] {
	out := Interactions(from, to)
	for n := range out {
		r := rand.New(rand.NewPCG(6, uint64(from+n)))
		u := r.IntN(8)
		out[n].Body.User, out[n].Body.Item = fmt.Sprint("u", u), fmt.Sprint("i", 2*r.IntN(5)+u%2)
	}
	return out
}

// Record of an event that happened so many milliseconds after the epoch of the toy.
func (s *System) Record(topic, key, id string, ms int, body any) *kgo.Record {
	s.Helper()
	rec, err := stream.NewRecord(topic, key, id, "test", time.UnixMilli(1e12+int64(ms)), body)
	require.NoError(s, err)
	return rec
}

// Publish writes a recommender's snapshot.
func (s *System) Publish(snap *snapshot.Snapshot) {
	s.Helper()
	slots, _, err := stream.ReadSlots(s.Context(), s.Config.Kafka, snap.Model, 3)
	require.NoError(s, err)
	manifest, payload, err := snapshot.Encode(snap)
	require.NoError(s, err)
	s.Produce(slots.Records(s.Names().Snapshots(), fmt.Sprintf("%s/%d/%d", snap.Model, snap.Epoch, snap.Step), manifest, payload, stream.DefaultChunk)...)
}

// Samples is the whole samples topic in the order of the samples' times.
func (s *System) Samples() (out []stream.Event[stream.Sample]) {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	require.NoError(s, stream.AwaitSettled(ctx, kadm.NewClient(s.Client), s.Names().Samples()))
	err := stream.Follow(ctx, s.Config.Kafka, s.Names().Samples(), func(rec *kgo.Record) error {
		ev, err := stream.DecodeSample(rec)
		out = append(out, ev)
		return err
	}, cancel)
	require.ErrorIs(s, err, context.Canceled)
	slices.SortFunc(out, func(a, b stream.Event[stream.Sample]) int { return a.Time.Compare(b.Time) })
	return out
}

// Policies is what the policy's trainer has published, oldest first.
func (s *System) Policies() (out []stream.PolicySnapshot) {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	chunks := stream.NewChunkReader(1 << 20)
	require.NoError(s, stream.AwaitSettled(ctx, kadm.NewClient(s.Client), s.Names().Snapshots()))
	err := stream.Follow(ctx, s.Config.Kafka, s.Names().Snapshots(), func(rec *kgo.Record) error {
		if !strings.HasPrefix(string(rec.Key), s.Config.Alignment.Name+"/") {
			return nil
		}
		blob, err := chunks.Add(rec)
		if err != nil || blob == nil {
			return err
		}
		p, err := stream.DecodePolicySnapshot(blob)
		out = append(out, p)
		return err
	}, cancel)
	require.ErrorIs(s, err, context.Canceled)
	return out
}

// NewPolicy returns an untrained one for the configuration.
func NewPolicy(c config.Config) *Policy {
	return &Policy{Kind: fmt.Sprint("r", c.Alignment.Rank), LearningRate: c.Alignment.LearningRate}
}

// Generate runs a generator until after is true, or ctx ends.
func Generate(ctx context.Context, c config.Config, after func(generator.Progress) bool) error {
	g, err := generator.New(c, GeneratorOptions(c, after))
	if err != nil {
		return err
	}
	return g.Run(ctx)
}

// GeneratorOptions are those of a toy.
func GeneratorOptions(c config.Config, after func(generator.Progress) bool) generator.Options {
	return generator.Options{
		Policy: NewPolicy(c), Encoder: Encoder{}, Open: Open, Registry: prometheus.NewRegistry(),
		Logger: slog.New(slog.DiscardHandler), AfterCommit: after,
	}
}

// Train runs a policy's trainer until after is true, or ctx ends.
func Train(ctx context.Context, c config.Config, p *Policy, after func(policy.Progress) bool) error {
	return policy.New(c, policy.Options{Model: p, Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler), AfterStep: after}).Run(ctx)
}
