package feature

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"seralm/config"
)

// go-redis prints to standard error what it also returns.
func init() { redis.SetLogger(silent{}) }

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// Store is a connection to the views, safe for concurrent use.
type Store struct {
	client   *redis.Client
	keys     keys
	embedded *embedded // nil with a real Redis
}

// Open connects to cfg.Addr, or starts an embedded server inside this process when
// it is empty, and checks that it answers. The embedded server keeps nothing on
// disk: the histories consumer fills it from the log again.
func Open(ctx context.Context, cfg config.Redis) (*Store, error) { return connect(ctx, cfg, nil) }

// OpenPatiently is Open for who can do without for a while: that nothing answers at
// cfg.Addr, or a server that is not ready yet, is told to away, and the connection is
// there when Redis is. A server that answers and refuses is an error still.
func OpenPatiently(ctx context.Context, cfg config.Redis, away func(error)) (*Store, error) {
	return connect(ctx, cfg, away)
}

func connect(ctx context.Context, cfg config.Redis, away func(error)) (*Store, error) {
	// One pool of a few connections per core: a look-up holds one for some tens of
	// microseconds, so more would only queue inside Redis, which has one thread.
	size := 8 * runtime.GOMAXPROCS(0)
	opts := &redis.Options{
		Addr: cfg.Addr, Username: cfg.Username, Password: string(cfg.Password), DB: cfg.DB,
		DialTimeout: max(cfg.Timeout, time.Second), ReadTimeout: cfg.Timeout, WriteTimeout: cfg.Timeout,
		PoolTimeout: cfg.Timeout, PoolSize: size, MaxActiveConns: size, PipelinePoolSize: 4,
		// A look-up's own deadline is shorter than the timeout, and must cut it.
		ContextTimeoutEnabled: true,
		// Every command here may run twice. One retry gets over a connection that a
		// failover closed; waiting out an outage is the caller's decision.
		MaxRetries: 1, DialerRetries: 1,
		DisableIdentity:          true, // a round trip per connection that Redis 7.0 answers with an error
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	var err error
	if opts.TLSConfig, err = cfg.TLS.Client("redis.tls"); err != nil {
		return nil, err
	}
	s := &Store{keys: keys{cfg.KeyPrefix}}
	if cfg.Addr == "" {
		if s.embedded, err = startEmbedded(); err != nil {
			return nil, err
		}
		opts.Addr, opts.Password = s.embedded.server.Addr(), s.embedded.password
		opts.TLSConfig, opts.Username, opts.DB = nil, "", 0
	}
	s.client = redis.NewClient(opts)
	err = s.Ping(ctx)
	if err == nil {
		return s, nil
	}
	refused := refuses(err)
	if away != nil && !refused {
		away(err)
		return s, nil
	}
	_ = s.Close() // the ping's error says more
	remedy := "start it, or leave redis.addr empty for the embedded one"
	if refused {
		remedy = "it answers, and refuses: check redis.username, SERALM_REDIS_PASSWORD and its ACL"
	}
	return nil, fmt.Errorf("connecting to Redis at redis.addr %q: %w (%s)", cfg.Addr, err, remedy)
}

// refuses reports whether a server answered with what does not pass by itself, as its
// start and its having too many clients do.
func refuses(err error) bool {
	var answered redis.Error
	return errors.As(err, &answered) && !redis.IsLoadingError(err) && !redis.IsMasterDownError(err) && !redis.IsMaxClientsError(err)
}

// Ping asks the server for a sign of life.
func (s *Store) Ping(ctx context.Context) error { return s.client.Ping(ctx).Err() }

// Close closes the connections, and the embedded server with all it holds.
func (s *Store) Close() error {
	err := s.client.Close()
	if s.embedded != nil {
		s.embedded.close()
	}
	return err
}
