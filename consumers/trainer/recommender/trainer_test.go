package recommender

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/models/seqrec"
	"seralm/models/snapshot"
	"seralm/stream"
	"seralm/stream/streamtest"
)

// The test binary is also the trainer process that the tests kill.
const (
	childConfig = "SERALM_TEST_TRAINER_CHILD" // "brokers|prefix|model|data_dir|events|knowledge_dim|alignment"
	events      = 600
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(childConfig); spec != "" {
		if err := child(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(spec string) error {
	f := strings.Split(spec, "|")
	cfg := testConfig(f[0], f[1])
	cfg.Recommender.Name, cfg.DataDir = f[2], f[3]
	until, err := strconv.ParseInt(f[4], 10, 64)
	if err != nil {
		return err
	}
	if cfg.Recommender.KnowledgeDim, err = strconv.Atoi(f[5]); err != nil {
		return err
	}
	if cfg.Alignment.Enabled, err = strconv.ParseBool(f[6]); err != nil {
		return err
	}
	return run(context.Background(), cfg, prometheus.NewRegistry(), func(p Progress) bool {
		fmt.Println(p.Step)
		return p.Events >= until
	})
}

func run(ctx context.Context, cfg config.Config, reg prometheus.Registerer, after func(Progress) bool) error {
	r := cfg.Recommender
	model, err := seqrec.New(seqrec.Hyper{Name: "sasrec", Dim: r.Dim, Layers: r.Layers, Heads: r.Heads, Inner: r.Inner, MaxLen: r.MaxLen}, 2,
		seqrec.Options{Seed: r.Seed, LearningRate: r.LearningRate, Dropout: r.Dropout, ClipNorm: r.ClipNorm, Threads: r.Threads, Knowledge: r.KnowledgeDim, IDDropout: r.IDDropout})
	if err != nil {
		return err
	}
	defer model.Close()
	return New(cfg, Options{Model: model, Registry: reg, AfterStep: after}).Run(ctx)
}

func testConfig(brokers, prefix string) config.Config {
	cfg := config.Default()
	cfg.Kafka.Brokers, cfg.Kafka.TopicPrefix = strings.Split(brokers, ","), prefix
	cfg.Recommender.Dim, cfg.Recommender.Inner, cfg.Recommender.Layers, cfg.Recommender.MaxLen = 8, 8, 1, 8
	cfg.Recommender.Threads, cfg.Recommender.LearningRate = 1, 1e-2
	cfg.Trainer.BatchEvents, cfg.Trainer.CheckpointN, cfg.Trainer.SnapshotStep = 16, 7, 5
	cfg.Trainer.MaxItems = 45 // of 60: some lose their rows, and come back
	cfg.Trainer.MaxUsers, cfg.Trainer.DedupWindow, cfg.Trainer.Linger = 25, 300, 20*time.Millisecond
	return cfg
}

// cluster returns the configuration of a log with topics.
func cluster(t *testing.T) config.Config {
	t.Helper()
	cfg := testConfig(strings.Join(streamtest.Brokers(t), ","), streamtest.Prefix())
	cfg.DataDir = t.TempDir()
	streamtest.Topics(t, cfg.Kafka)
	return cfg
}

func produce(t *testing.T, cfg config.Config, from, to int) {
	t.Helper()
	opts, err := stream.ClientOptions(cfg.Kafka)
	require.NoError(t, err)
	client, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	defer client.Close()
	r := rand.New(rand.NewPCG(1, uint64(from)))
	topic := stream.NamesOf(cfg.Kafka.TopicPrefix).Interactions()
	var records []*kgo.Record
	for i := from; i < to; i++ {
		at := time.UnixMilli(1e12 + int64(i)*1000)
		user := fmt.Sprint("u", r.IntN(40))
		id := i
		if i%50 == 49 {
			id-- // a repeated event
		}
		rec, err := stream.NewRecord(topic, user, fmt.Sprint(id), "test", at, stream.Interaction{User: user, Item: fmt.Sprint("i", r.IntN(60)), Type: "click"})
		require.NoError(t, err)
		records = append(records, rec)
	}
	require.NoError(t, client.ProduceSync(t.Context(), records...).FirstErr())
}

// state is what a trainer left on disk.
func state(t *testing.T, cfg config.Config) (model, sequencer string) {
	t.Helper()
	parts, _, rejected, err := snapshot.Restore(filepath.Join(cfg.DataDir, "checkpoints", cfg.Recommender.Name))
	require.NoError(t, err)
	require.Empty(t, rejected)
	return string(parts[partModel]), string(parts[partSequencer])
}

// distinct is how many of the produced events are not repeated ones.
func distinct(n int) int64 { return int64(n - n/50) }

// learnUntilKilled runs a trainer process and kills it after the given number of
// steps; 0 lets it come to its end.
func learnUntilKilled(t *testing.T, cfg config.Config, steps int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childConfig+"="+strings.Join([]string{
		strings.Join(cfg.Kafka.Brokers, ","), cfg.Kafka.TopicPrefix, cfg.Recommender.Name, cfg.DataDir, fmt.Sprint(distinct(events)), fmt.Sprint(cfg.Recommender.KnowledgeDim), fmt.Sprint(cfg.Alignment.Enabled),
	}, "|"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); {
		if n++; steps > 0 && n == steps {
			require.NoError(t, cmd.Process.Kill()) // SIGKILL
		}
	}
	_, _ = io.Copy(io.Discard, out)
	err = cmd.Wait()
	if steps == 0 {
		require.NoError(t, err, stderr.String())
	} else {
		require.ErrorContains(t, err, "killed", stderr.String())
	}
}

// N events straight equal k steps, kill -9, resume, the rest: same bytes on disk,
// for 20 random k, and for one run that is killed again and again.
func TestKillingTheTrainerChangesNothing(t *testing.T) {
	cfg := cluster(t)
	produce(t, cfg, 0, events)
	killing(t, cfg, 20)
}

// killing learns what is in the log without and with kills.
func killing(t *testing.T, cfg config.Config, trials int) {
	t.Helper()
	straight := cfg
	straight.Recommender.Name = "straight"
	learnUntilKilled(t, straight, 0)
	model, sequencer := state(t, straight)

	r := rand.New(rand.NewPCG(20, 26))
	const steps = 37 // of 600 events in batches of 16; the 38th may already be the end
	for trial := range trials {
		killed := cfg
		killed.Recommender.Name, killed.DataDir = fmt.Sprint("killed", trial), t.TempDir()
		k := 1 + r.IntN(steps)
		learnUntilKilled(t, killed, k)
		learnUntilKilled(t, killed, 0)
		m, s := state(t, killed)
		require.True(t, model == m && sequencer == s, "killed after step %d: the resumed model differs", k)
	}

	often := cfg
	often.Recommender.Name, often.DataDir = "often", t.TempDir()
	for _, k := range []int{3, 1, 9, 5, 12} {
		learnUntilKilled(t, often, k)
	}
	learnUntilKilled(t, often, 0)
	m, s := state(t, often)
	require.True(t, model == m && sequencer == s, "killed five times: the resumed model differs")
}

// published reads the snapshots topic to its end.
func published(t *testing.T, cfg config.Config) []*snapshot.Snapshot {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader := stream.NewChunkReader(1 << 30)
	var out []*snapshot.Snapshot
	err := stream.Follow(ctx, cfg.Kafka, stream.NamesOf(cfg.Kafka.TopicPrefix).Snapshots(), func(rec *kgo.Record) error {
		blob, err := reader.Add(rec)
		if err != nil || blob == nil {
			return err
		}
		s, err := snapshot.Decode(blob.Manifest, blob.Payload)
		out = append(out, s)
		return err
	}, cancel)
	require.ErrorIs(t, err, context.Canceled)
	return out
}

func TestSnapshotsAreOrderedWholeAndNameTheirOffsets(t *testing.T) {
	cfg := cluster(t)
	produce(t, cfg, 0, 300)
	stop := func(n int64) func(Progress) bool { return func(p Progress) bool { return p.Events >= n } }
	require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), stop(distinct(300))))
	produce(t, cfg, 300, 400)
	require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), stop(distinct(400))))

	snaps := published(t, cfg)
	require.Greater(t, len(snaps), 4)
	for i, s := range snaps {
		require.Equal(t, cfg.Recommender.Name, s.Model)
		require.NotEmpty(t, s.Probe.Histories)
		if i > 0 {
			require.True(t, snaps[i-1].Version().Less(s.Version()))
		}
	}
	last := snaps[len(snaps)-1]
	require.EqualValues(t, 2, last.Epoch)
	var sum int64
	for _, o := range last.Offsets {
		sum += o
	}
	require.EqualValues(t, 400, sum)

	// The group's offsets went with the transactions.
	opts, err := stream.ClientOptions(cfg.Kafka)
	require.NoError(t, err)
	client, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	defer client.Close()
	committed, err := kadm.NewClient(client).FetchOffsets(t.Context(), Group(cfg.Recommender.Name))
	require.NoError(t, err)
	var at int64
	committed.Each(func(o kadm.OffsetResponse) {
		if o.Topic == stream.NamesOf(cfg.Kafka.TopicPrefix).Interactions() { // a real cluster is shared by tests
			at += o.At
		}
	})
	require.EqualValues(t, 400, at)
}

func TestANewTrainerFencesTheOldOne(t *testing.T) {
	cfg := cluster(t)
	produce(t, cfg, 0, 200)
	started := make(chan struct{})
	first := make(chan error, 1)
	go func() {
		once := false
		first <- run(t.Context(), cfg, prometheus.NewRegistry(), func(p Progress) bool {
			if !once && p.Events >= distinct(200) {
				once = true
				close(started)
			}
			return false
		})
	}()
	<-started
	second := cfg
	second.DataDir = t.TempDir() // another machine: it has only the log
	produce(t, cfg, 200, 300)
	var replayed int
	require.NoError(t, run(t.Context(), second, prometheus.NewRegistry(), func(p Progress) bool {
		if p.Replayed {
			replayed++
		}
		return p.Events >= distinct(300)
	}))
	require.Positive(t, replayed, "without a checkpoint the journal is learnt again")
	produce(t, cfg, 300, 320)
	require.ErrorIs(t, <-first, stream.ErrFenced)
}

func TestPoisonGoesToTheDeadLettersAndLearningGoesOn(t *testing.T) {
	cfg := cluster(t)
	produce(t, cfg, 0, 100)
	opts, err := stream.ClientOptions(cfg.Kafka)
	require.NoError(t, err)
	client, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	defer client.Close()
	names := stream.NamesOf(cfg.Kafka.TopicPrefix)
	require.NoError(t, client.ProduceSync(t.Context(),
		&kgo.Record{Topic: names.Interactions(), Key: []byte("u1"), Value: []byte("{not json")},
		&kgo.Record{Topic: names.Interactions(), Key: []byte("u2"), Value: nil},
	).FirstErr())
	produce(t, cfg, 100, 200)
	reg := prometheus.NewRegistry()
	require.NoError(t, run(t.Context(), cfg, reg, func(p Progress) bool { return p.Events >= distinct(200) }))
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), names.DeadLetters())
	require.NoError(t, err)
	var letters int64
	ends.Each(func(o kadm.ListedOffset) { letters += o.Offset })
	require.EqualValues(t, 2, letters)
	count, err := testutil.GatherAndCount(reg, "seralm_trainer_step")
	require.NoError(t, err)
	require.Equal(t, 1, count)
}

func TestACheckpointOfAnotherLogIsRefused(t *testing.T) {
	cfg := cluster(t)
	produce(t, cfg, 0, 200)
	require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), func(p Progress) bool { return p.Events >= distinct(200) }))
	other := cluster(t)
	other.DataDir = cfg.DataDir
	err := run(t.Context(), other, prometheus.NewRegistry(), nil)
	require.ErrorContains(t, err, "ahead of the log")
	require.ErrorContains(t, err, "recommender.name")
}

func TestACheckpointOfAnotherShapeIsRefused(t *testing.T) {
	cfg := cluster(t)
	produce(t, cfg, 0, 100)
	require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), func(p Progress) bool { return p.Events >= distinct(100) }))
	more := func(p Progress) bool { return p.Events >= distinct(120) }
	cfg.Recommender.IDDropout = 0.5 // a Base drops no ids
	produce(t, cfg, 100, 120)
	require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), more))
	cfg.Recommender.Dim = 16
	require.ErrorContains(t, run(t.Context(), cfg, prometheus.NewRegistry(), nil), "was trained with recommender.dim 8, which is 16 now: set it back")
	cfg.Recommender.Dim, cfg.Recommender.KnowledgeDim = 8, 4
	require.ErrorContains(t, run(t.Context(), cfg, prometheus.NewRegistry(), nil), "was trained with recommender.knowledge_dim 0, which is 4 now: set it back")
}

func TestDeletedEventsAreALoudFailure(t *testing.T) {
	cfg := cluster(t)
	produce(t, cfg, 0, 200)
	require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), func(p Progress) bool { return p.Events >= 100 }))
	opts, err := stream.ClientOptions(cfg.Kafka)
	require.NoError(t, err)
	client, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	defer client.Close()
	admin := kadm.NewClient(client)
	topic := stream.NamesOf(cfg.Kafka.TopicPrefix).Interactions()
	ends, err := admin.ListEndOffsets(t.Context(), topic)
	require.NoError(t, err)
	_, err = admin.DeleteRecords(t.Context(), ends.Offsets())
	require.NoError(t, err)
	err = run(t.Context(), cfg, prometheus.NewRegistry(), nil)
	var lost *stream.LostError
	require.ErrorAs(t, err, &lost)
	require.Positive(t, lost.Count())
}

// learntAndLost learns so many events and loses the checkpoints. It returns the last step
// and what they held.
func learntAndLost(t *testing.T, cfg config.Config, events int) (last int64, model, sequencer string) {
	t.Helper()
	require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), func(p Progress) bool { last = p.Step; return p.Events == distinct(events) }))
	model, sequencer = state(t, cfg)
	require.NoError(t, os.RemoveAll(filepath.Join(cfg.DataDir, "checkpoints")))
	return last, model, sequencer
}

// Which items had a row in a step is journalled with it: a limit that was changed since
// decides nothing of what was learnt before.
func TestTheJournalIsLearntAgainWithTheLimitOfItsTime(t *testing.T) {
	cfg := cluster(t)
	produce(t, cfg, 0, 400)
	last, model, sequencer := learntAndLost(t, cfg, 400)
	cfg.Trainer.MaxItems, cfg.Trainer.AdmitAfter = 16, 3
	require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), func(p Progress) bool {
		require.True(t, p.Replayed)
		return p.Step == last
	}))
	again, sequence := state(t, cfg)
	require.Equal(t, model, again)
	require.Equal(t, sequencer, sequence)

	// From the next step on, what is configured decides.
	item := func(from int) {
		opts, err := stream.ClientOptions(cfg.Kafka)
		require.NoError(t, err)
		client, err := kgo.NewClient(opts...)
		require.NoError(t, err)
		defer client.Close()
		rec, err := stream.NewRecord(stream.NamesOf(cfg.Kafka.TopicPrefix).Interactions(), "u", fmt.Sprint("item", from), "test", time.UnixMilli(2e12), stream.Interaction{User: "u", Item: "later", Type: "click"})
		require.NoError(t, err)
		require.NoError(t, client.ProduceSync(t.Context(), rec).FirstErr())
	}
	for sighting := 1; sighting <= 3; sighting++ {
		item(sighting)
		require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), func(p Progress) bool { return p.Events == distinct(400)+int64(sighting) }))
		_, sequence = state(t, cfg)
		require.Equal(t, sighting == 3, strings.Contains(sequence, `"ids":["later"`) || strings.Contains(sequence, `,"later"`), "after %d sightings", sighting)
	}
}

// Where checkpoints and journal are gone, the snapshots still tell of what was published:
// readers would refuse what is of an earlier epoch.
func TestATrainerThatLostEverythingPublishesWhatReadersTake(t *testing.T) {
	cfg := cluster(t)
	produce(t, cfg, 0, 100)
	stop := func(p Progress) bool { return p.Events == distinct(100) }
	for range 3 { // three epochs
		require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), stop))
		produce(t, cfg, 100, 120)
		stop = func(p Progress) bool { return true }
	}
	before := published(t, cfg)
	require.NoError(t, os.RemoveAll(filepath.Join(cfg.DataDir, "checkpoints")))
	opts, err := stream.ClientOptions(cfg.Kafka)
	require.NoError(t, err)
	client, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	defer client.Close()
	admin, steps := kadm.NewClient(client), stream.NamesOf(cfg.Kafka.TopicPrefix).Steps()
	ends, err := admin.ListEndOffsets(t.Context(), steps)
	require.NoError(t, err)
	_, err = admin.DeleteRecords(t.Context(), ends.Offsets())
	require.NoError(t, err)
	require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), stop))
	after := published(t, cfg)
	require.Greater(t, len(after), len(before))
	require.True(t, before[len(before)-1].Version().Less(after[len(after)-1].Version()))
	require.Less(t, after[len(after)-1].Step, before[len(before)-1].Step, "it began anew")
}

// A trainer that learns the journal again passes checkpoints on its way. Ended there, it
// goes on there: not at the journal's end, from which no step that lies between would be
// learnt again, and no reader of snapshots gets one that is older than what it has.
func TestALongReplayCanBeInterrupted(t *testing.T) {
	cfg := cluster(t)
	produce(t, cfg, 0, 400)
	last, model, sequencer := learntAndLost(t, cfg, 400)
	snapshots := len(published(t, cfg))
	require.Greater(t, last, int64(3*cfg.Trainer.CheckpointN))
	first := int64(1)
	for _, end := range []int64{2 * int64(cfg.Trainer.CheckpointN), 2*int64(cfg.Trainer.CheckpointN) + 3, last} {
		at := first
		require.NoError(t, run(t.Context(), cfg, prometheus.NewRegistry(), func(p Progress) bool {
			require.True(t, p.Replayed)
			require.Equal(t, at, p.Step)
			at++
			return p.Step == end
		}))
		first = end + 1
		if end < last {
			require.Len(t, published(t, cfg), snapshots, "what is behind the journal is not published")
		}
	}
	m, s := state(t, cfg)
	require.True(t, model == m && sequencer == s, "learnt again with interruptions, the model differs")
}
