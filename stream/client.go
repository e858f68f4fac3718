package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"seralm/config"
)

// Bounds of one client. They are explicit because each is memory that a slow
// broker or a slow reader makes us hold.
const (
	// MaxRecordBytes is the largest batch an ordinary topic takes (Kafka's own
	// default of max.message.bytes is a little more).
	MaxRecordBytes = 1 << 20
	// MaxChunkBatchBytes is the same for the topics with chunks: those of snapshots and of
	// roll-outs, which hold a policy's adapter.
	MaxChunkBatchBytes = 10 << 20

	maxBufferedRecords = 100_000
	maxBufferedBytes   = 256 << 20
	fetchMaxBytes      = 32 << 20
	fetchMaxPartition  = 4 << 20
	maxDecompressed    = 256 << 20
)

// ClientOptions returns what every client of the log needs: brokers, identity,
// TLS and SASL, read_committed, and explicit bounds. Callers append their own
// options, which win over these.
func ClientOptions(cfg config.Kafka) ([]kgo.Opt, error) {
	if len(cfg.Brokers) == 0 {
		return nil, errors.New("kafka.brokers is empty: name a broker, or run `seralm up`, whose other roles use its embedded one")
	}
	names := NamesOf(cfg.TopicPrefix)
	opts := []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID("seralm"),
		kgo.WithLogger(clientLog{}),
		kgo.DialTimeout(5 * time.Second),
		kgo.DisableClientMetrics(), // nobody reads KIP-714 metrics of ours; ours are Prometheus's
		// A leader that moved is looked up again after this long; the default of
		// 5 s is a visible gap in a stream that promises milliseconds.
		kgo.MetadataMinAge(500 * time.Millisecond),

		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.MaxBufferedRecords(maxBufferedRecords),
		kgo.MaxBufferedBytes(maxBufferedBytes),
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 {
			if topic == names.Snapshots() || topic == names.Rollouts() {
				return MaxChunkBatchBytes
			}
			return MaxRecordBytes
		}),
		kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()),
		kgo.ProducerLinger(time.Millisecond),

		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxBytes(fetchMaxBytes),
		kgo.FetchMaxPartitionBytes(fetchMaxPartition),
		kgo.MaxDecompressBatchBytes(maxDecompressed),
	}
	secure, err := cfg.TLS.Client("kafka.tls")
	if err != nil {
		return nil, err
	}
	if secure != nil {
		opts = append(opts, kgo.DialTLSConfig(secure))
	}
	if cfg.SASL.Mechanism != "" {
		m, err := mechanism(cfg.SASL)
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.SASL(m))
	}
	return opts, nil
}

// newClient makes a client with extra options on top of ClientOptions.
func newClient(cfg config.Kafka, extra ...kgo.Opt) (*kgo.Client, error) {
	opts, err := ClientOptions(cfg)
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(append(opts, extra...)...)
	if err != nil {
		return nil, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	return cl, nil
}

func mechanism(c config.SASL) (sasl.Mechanism, error) {
	user, pass := c.Username, string(c.Password)
	switch c.Mechanism {
	case "PLAIN":
		return plain.Auth{User: user, Pass: pass}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: user, Pass: pass}.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: user, Pass: pass}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("kafka.sasl.mechanism is %q; it must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", c.Mechanism)
}

// clientLog hands the client's warnings and errors to slog. Its debug and info
// levels speak of every request, so they are never asked for.
type clientLog struct{}

func (clientLog) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	l := slog.LevelWarn
	if level == kgo.LogLevelError {
		l = slog.LevelError
	}
	slog.Log(context.Background(), l, "kafka client", append([]any{"detail", msg}, keyvals...)...)
}
