package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/twmb/franz-go/pkg/kfake"

	"seralm/config"
)

// Broker is the embedded broker: franz-go's kfake, which speaks Kafka's protocol on
// 127.0.0.1 and keeps its log in a folder. It is for one machine and for tests;
// production is a real cluster. What kfake does not do by itself is done here: a
// lock on the folder, retention and compaction that go on after a restart
// (compaction.go) and leave every partition its offsets (retention.go), transactions
// that stay aborted after a crash (recovery.go), and a full disk (room.go).
type Broker struct {
	dir     string
	lock    *flock.Flock
	cluster *kfake.Cluster
	addr    string

	stop chan struct{}
	wg   sync.WaitGroup
	once sync.Once

	// mu is held by a compaction and by the begin of Close, so that neither meets
	// the other halfway.
	mu     sync.Mutex
	closed bool
}

// retentionEach is how often retention is applied and compaction considered.
const retentionEach = time.Minute

// StartBroker starts the embedded broker on the folder DataDir/kafka, with what it
// held before. Errors name the folder or port, and what to do about it.
func StartBroker(cfg config.Config) (*Broker, error) {
	dir := filepath.Join(cfg.DataDir, "kafka")
	b := &Broker{dir: dir, stop: make(chan struct{})}
	if err := b.acquire(); err != nil {
		return nil, err
	}
	if err := room(dir, roomForOld); err != nil {
		b.release()
		return nil, err
	}
	if err := b.start(cfg.Kafka.Embedded); err != nil {
		b.release()
		return nil, fmt.Errorf("starting the embedded broker on %s: %w", dir, err)
	}
	err := b.sign()
	if err == nil {
		err = b.keepOffsets()
	}
	if err != nil {
		b.cluster.Close()
		b.release()
		return nil, err
	}
	b.keepRoom()
	b.wg.Add(1)
	go b.maintain(retentionEach)
	return b, nil
}

// Addr is the broker's host:port, for kafka.brokers.
func (b *Broker) Addr() string { return b.addr }

// Close writes everything down, stops the broker and releases its folder. Clients
// should be closed before.
func (b *Broker) Close() {
	b.once.Do(func() {
		close(b.stop)
		b.wg.Wait()
		b.mu.Lock()
		b.closed = true
		b.mu.Unlock()
		if err := b.keepOffsets(); err != nil {
			slog.Error("keeping the offsets of old partitions failed", "error", err)
		}
		b.cluster.Close()
		if err := os.Remove(b.path(runningFile)); err != nil {
			slog.Warn("marking the embedded broker's folder as closed failed; the next start takes it for a crash", "error", err)
		}
		b.release()
	})
}

// Files of ours beside kfake's in the folder.
const (
	lockFile    = "LOCK"    // locked while a process has the folder; says who
	runningFile = "RUNNING" // there while a broker runs, and after it was killed
)

func (b *Broker) path(name string) string { return filepath.Join(b.dir, name) }

// acquire makes the folder and locks it: two brokers on one folder would destroy
// its contents.
func (b *Broker) acquire() error {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return fmt.Errorf("making the embedded broker's folder: %w (set data_dir to a folder that this user may write)", err)
	}
	b.lock = flock.New(b.path(lockFile))
	locked, err := b.lock.TryLock()
	if err != nil {
		return fmt.Errorf("locking the embedded broker's folder: %w (set data_dir to a folder that this user may write)", err)
	}
	if !locked {
		who, _ := os.ReadFile(b.path(lockFile))
		return fmt.Errorf("the folder %s is in use by another embedded broker (%s): stop it, or use it with kafka.brokers, or set another data_dir",
			b.dir, strings.TrimSpace(string(who)))
	}
	return nil
}

// sign writes into the lock who has it, for the message above. The lock is on the
// file, not its contents, so writing it is safe.
func (b *Broker) sign() error {
	text := fmt.Sprintf("process %d at %s\n", os.Getpid(), b.addr)
	if err := os.WriteFile(b.path(lockFile), []byte(text), 0o644); err != nil {
		return fmt.Errorf("signing the embedded broker's lock: %w", err)
	}
	return nil
}

func (b *Broker) release() {
	if err := b.lock.Close(); err != nil {
		slog.Warn("releasing the embedded broker's lock failed", "error", err)
	}
}

func (b *Broker) start(cfg config.Embedded) error {
	crashed, err := exists(b.path(runningFile))
	if err != nil {
		return err
	}
	if crashed {
		if err := recoverFolder(b.dir); err != nil {
			return fmt.Errorf("recovering from a crash: %w", err)
		}
	}
	loaded, err := exists(b.path("meta.json"))
	if err != nil {
		return err
	}
	if err := writeSynced(b.path(runningFile), nil); err != nil {
		return fmt.Errorf("marking the folder as in use: %w", err)
	}
	opts := append(kfakeOptions(b.dir), kfake.Ports(cfg.Port), kfake.BrokerConfigs(map[string]string{
		"log.retention.bytes": strconv.FormatInt(cfg.RetentionBytes, 10),
		// Retention deletes whole files, and a start reads them whole.
		"log.segment.bytes": strconv.FormatInt(min(16<<20, max(1<<20, cfg.RetentionBytes/8)), 10),
		// Its own ticker never comes: it compacts without a copy (compaction.go).
		"log.cleaner.backoff.ms": strconv.FormatInt((100 * 365 * 24 * time.Hour).Milliseconds(), 10),
	}))
	if cfg.SyncWrites {
		opts = append(opts, kfake.SyncWrites())
	}
	b.cluster, err = kfake.NewCluster(opts...)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("port %d is in use (set kafka.embedded.port to another, or to 0 for any): %w", cfg.Port, err)
		}
		return err
	}
	b.addr = b.cluster.ListenAddrs()[0]
	if loaded {
		debug.FreeOSMemory() // loading held every segment in memory
	}
	return nil
}

func kfakeOptions(dir string) []kfake.Opt {
	return []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ClusterID("seralm-embedded"),
		kfake.DataDir(dir),
		kfake.WithLogger(brokerLog{dir}),
	}
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// writeSynced writes a file so that it is there after a power loss.
func writeSynced(path string, data []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
