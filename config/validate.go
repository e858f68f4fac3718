package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Architectures that a recommender can be built with.
var Architectures = []string{"sasrec", "gru4rec", "lightsans", "paup", "caser"}

// Domains that there are prompts for.
var Domains = []string{"movies", "books", "businesses", "generic"}

// Validate reports every value that is out of bounds, each by its YAML path with
// what it may be.
func (c Config) Validate() error {
	var v validator
	v.check(c.DataDir != "", "data_dir", c.DataDir, "a folder")
	v.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	v.oneOf("log.format", c.Log.Format, "text", "json")

	k := c.Kafka
	for _, b := range k.Brokers {
		v.address("kafka.brokers", b)
	}
	v.check(!strings.ContainsAny(k.TopicPrefix, " /\\,:\"'\t\n"), "kafka.topic_prefix", k.TopicPrefix, "letters, digits, '.', '_' and '-'")
	v.between("kafka.partitions", int64(k.Partitions), 1, 10_000)
	v.between("kafka.replication", int64(k.Replication), 1, 100)
	v.atLeast("kafka.retention", k.Retention, time.Minute)
	v.between("kafka.embedded.port", int64(k.Embedded.Port), 0, 65535)
	v.between("kafka.embedded.retention_bytes", k.Embedded.RetentionBytes, 1<<20, 1<<40)
	v.oneOf("kafka.sasl.mechanism", k.SASL.Mechanism, "", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
	v.check(k.SASL.Mechanism != "PLAIN" || k.TLS.Enabled, "kafka.sasl.mechanism", k.SASL.Mechanism, "SCRAM-SHA-512 or SCRAM-SHA-256 without kafka.tls, for PLAIN sends the password as it is")
	v.check(k.SASL.Mechanism == "" || k.SASL.Username != "", "kafka.sasl.username", k.SASL.Username, "set when kafka.sasl.mechanism is")
	v.check(k.SASL.Mechanism != "" || k.SASL.Username == "" && k.SASL.Password == "", "kafka.sasl.mechanism", k.SASL.Mechanism, "SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN when a user or a password is given")
	v.tls("kafka.tls", k.TLS)

	if c.Redis.Addr != "" {
		v.address("redis.addr", c.Redis.Addr)
	}
	v.check(c.Redis.KeyPrefix != "" && !strings.ContainsAny(c.Redis.KeyPrefix, "{} "), "redis.key_prefix", c.Redis.KeyPrefix, "a word without braces or blanks")
	v.between("redis.db", int64(c.Redis.DB), 0, 1<<16)
	v.atLeast("redis.timeout", c.Redis.Timeout, time.Millisecond)
	v.tls("redis.tls", c.Redis.TLS)

	v.address("http.addr", c.HTTP.Addr)
	v.between("http.max_body_bytes", c.HTTP.MaxBodyBytes, 1<<10, 1<<30)
	v.atLeast("http.read_timeout", c.HTTP.ReadTimeout, time.Millisecond)
	v.atLeast("http.drain_delay", c.HTTP.DrainDelay, 0)
	v.atLeast("http.drain_timeout", c.HTTP.DrainTimeout, 0)
	v.between("gateway.max_batch", int64(c.Gateway.MaxBatch), 1, 100_000)
	v.between("gateway.max_buffered", int64(c.Gateway.MaxBuffered), 1, 100_000) // what the client itself holds
	v.atLeast("gateway.max_future", c.Gateway.MaxFuture, 0)
	v.check(c.Gateway.Source != "" && plain(c.Gateway.Source), "gateway.source", c.Gateway.Source, "a name of up to 256 bytes, without control characters")
	v.between("histories.length", int64(c.Histories.Length), 1, 100_000)
	v.atLeast("histories.ttl", c.Histories.TTL, 0)
	v.between("histories.popular", int64(c.Histories.Popular), 1, 1_000_000)
	v.atLeast("histories.seen_ttl", c.Histories.SeenTTL, time.Second)

	r := c.Recommender
	v.check(r.Name != "" && plain(r.Name) && !strings.ContainsAny(r.Name, "/ "), "recommender.name", r.Name, "a word of up to 256 bytes, without '/', blanks or control characters")
	v.oneOf("recommender.architecture", r.Architecture, Architectures...)
	v.between("recommender.dim", int64(r.Dim), 2, 4096)
	v.between("recommender.layers", int64(r.Layers), 1, 64)
	v.between("recommender.heads", int64(r.Heads), 1, 64)
	v.check(r.Heads > 0 && r.Dim%r.Heads == 0, "recommender.heads", r.Heads, fmt.Sprintf("a divisor of recommender.dim (%d)", r.Dim))
	v.between("recommender.inner", int64(r.Inner), 1, 1<<16)
	v.between("recommender.max_len", int64(r.MaxLen), 2, 4096)
	v.check(r.Dropout >= 0 && r.Dropout < 1, "recommender.dropout", r.Dropout, "at least 0 and below 1")
	v.check(r.LearningRate > 0 && r.LearningRate <= 1, "recommender.learning_rate", r.LearningRate, "above 0 and at most 1")
	v.check(r.ClipNorm >= 0, "recommender.clip_norm", r.ClipNorm, "0 (off) or more")
	v.device("recommender.device", r.Device)
	v.between("recommender.threads", int64(r.Threads), 1, 1024)
	v.between("recommender.knowledge_dim", int64(r.KnowledgeDim), 0, 4096) // what a record of knowledge may hold
	v.check(r.IDDropout >= 0 && r.IDDropout < 1, "recommender.id_dropout", r.IDDropout, "at least 0 and below 1")
	v.between("recommender.negatives", int64(r.Negatives), 0, 1<<24)
	v.sizes(r)

	t := c.Trainer
	v.between("trainer.batch_events", int64(t.BatchEvents), 1, 50_000) // whose order has room in a step's record
	v.atLeast("trainer.linger", t.Linger, time.Millisecond)
	v.check(t.Replay >= 0 && t.Replay <= 1000, "trainer.replay", t.Replay, "0 to 1000")
	v.between("trainer.admit_after", int64(t.AdmitAfter), 1, 1000)
	v.check(t.MaxItems >= t.BatchEvents && t.MaxItems <= 1<<24, "trainer.max_items", t.MaxItems, "trainer.batch_events to 16777216")
	v.between("trainer.max_users", int64(t.MaxUsers), 1, 1<<31)
	v.between("trainer.dedup_window", int64(t.DedupWindow), 1, 100_000_000)
	v.atLeast("trainer.snapshot_each", t.SnapshotEach, time.Millisecond)
	v.between("trainer.snapshot_steps", int64(t.SnapshotStep), 1, 1<<31)
	v.between("trainer.checkpoint_steps", int64(t.CheckpointN), 1, 1<<31)
	v.between("trainer.checkpoints", int64(t.Checkpoints), 2, 1000)
	v.between("trainer.snapshots", int64(t.SnapshotKeep), 2, 1000)
	v.between("trainer.max_bad_steps", int64(t.MaxBadSteps), 1, 1<<20)

	v.between("evaluator.window", int64(c.Evaluator.Window), 1, 10_000_000)
	v.between("evaluator.max_lead", c.Evaluator.MaxLead, 1, 1<<40)
	v.atLeast("evaluator.max_wait", c.Evaluator.MaxWait, 0)

	s := c.Serving
	v.between("serving.max_n", int64(s.MaxN), 1, 10_000)
	v.between("serving.default_n", int64(s.DefaultN), 1, int64(s.MaxN))
	v.atLeast("serving.deadline", s.Deadline, time.Millisecond)
	v.atLeast("serving.history_deadline", s.HistoryDeadline, time.Millisecond)
	v.check(s.HistoryDeadline <= s.Deadline, "serving.history_deadline", s.HistoryDeadline, "at most serving.deadline")
	v.between("serving.concurrency", int64(s.Concurrency), 0, 4096)
	v.between("serving.catalogue", int64(s.Catalogue), 1, 1<<31)
	v.check(s.ProbeTolerance > 0, "serving.probe_tolerance", s.ProbeTolerance, "above 0")

	n := c.Knowledge
	if n.Enabled {
		v.check(c.Recommender.KnowledgeDim > 0, "recommender.knowledge_dim", c.Recommender.KnowledgeDim, "the length of knowledge.encoder's vectors, as knowledge.enabled is set")
	}
	v.oneOf("knowledge.domain", n.Domain, Domains...)
	v.check(n.Temperature >= 0 && n.Temperature <= 10, "knowledge.temperature", n.Temperature, "0 to 10")
	v.check(n.TopP > 0 && n.TopP <= 1, "knowledge.top_p", n.TopP, "above 0 and at most 1")
	v.between("knowledge.max_tokens", int64(n.MaxTokens), 1, 2048)
	v.between("knowledge.batch", int64(n.Batch), 1, 1024)
	v.oneOf("knowledge.dtype", n.Type, "float32", "bf16", "auto")
	v.between("knowledge.threads", int64(n.Threads), 1, 1024)
	v.device("knowledge.device", n.Device)
	v.between("knowledge.max_items", int64(n.MaxItems), 1, 1<<31)
	v.alignment(c)
	return errors.Join(v.errs...)
}

func (v *validator) alignment(c Config) {
	a := c.Alignment
	if a.Enabled {
		v.check(c.Knowledge.Enabled, "knowledge.enabled", c.Knowledge.Enabled, "true, as alignment.enabled is: what is aligned is what writes knowledge")
	}
	v.check(a.Name != "" && !strings.ContainsAny(a.Name, "/ "), "alignment.name", a.Name, "a word without '/' or blanks")
	v.check(a.Name != c.Recommender.Name, "alignment.name", a.Name, "another than recommender.name: both are keys of one topic")
	v.between("alignment.every", int64(a.Every), 1, 1<<31)
	v.between("alignment.candidates", int64(a.Candidates), 1, 64)
	v.between("alignment.group", int64(a.Group), 1, 1024)
	v.check(a.Temperature > 0 && a.Temperature <= 10, "alignment.temperature", a.Temperature, "above 0 and at most 10")
	v.between("alignment.max_tokens", int64(a.MaxTokens), 1, 1024)
	v.between("alignment.refresh", int64(a.Refresh), 0, 1<<20)
	v.oneOf("alignment.reward", a.Reward, "instance", "catalogue")
	v.check(a.View == "cold", "alignment.view", a.View, "cold: a published recommender does not say what of an item's row is its id, which the warm view would need")
	v.between("alignment.reservoir", int64(a.Reservoir), 1, 1<<20)
	v.check(!strings.ContainsAny(a.Base, "/ "), "alignment.base", a.Base, "a recommender.name, or empty")
	v.between("alignment.batch", int64(a.Batch), 1, 4096)
	v.oneOf("alignment.estimator", a.Estimator, "leave_one_out", "paper", "best_of_k")
	if a.Estimator == "paper" {
		v.check(a.Base != "", "alignment.base", a.Base, "the recommender.name of a model without knowledge, which the estimator paper divides by")
		v.check(a.Reward == "instance", "alignment.reward", a.Reward, "instance with the estimator paper, which divides probabilities")
	}
	if a.Estimator == "leave_one_out" || a.Estimator == "best_of_k" {
		v.check(a.Candidates > 1, "alignment.candidates", a.Candidates, "2 or more with the estimator "+a.Estimator+", which compares them")
	}
	v.check(a.Clip > 0, "alignment.clip", a.Clip, "above 0")
	v.oneOf("alignment.weighting", a.Weighting, "token", "text", "none")
	v.check(a.Truncate >= 1, "alignment.truncate", a.Truncate, "1 or more")
	v.oneOf("alignment.penalty", a.Penalty, "reward", "loss")
	v.check(a.Alpha >= 0 && a.Alpha <= 1e6, "alignment.alpha", a.Alpha, "0 (off) or more")
	if a.Estimator == "best_of_k" {
		v.check(a.Weighting == "none", "alignment.weighting", a.Weighting, "none with the estimator best_of_k, which takes texts as they are")
		v.check(a.Alpha == 0, "alignment.alpha", a.Alpha, "0 with the estimator best_of_k, which takes texts as they are")
	}
	v.check(a.MaxStaleness >= a.Refresh, "alignment.max_staleness", a.MaxStaleness, fmt.Sprintf("at least alignment.refresh (%d)", a.Refresh))
	v.check(a.LearningRate > 0 && a.LearningRate <= 1, "alignment.learning_rate", a.LearningRate, "above 0 and at most 1")
	v.check(a.ClipNorm >= 0, "alignment.clip_norm", a.ClipNorm, "0 (off) or more")
	v.between("alignment.rank", int64(a.Rank), 1, 1024)
	v.check(a.Scale > 0, "alignment.scale", a.Scale, "above 0")
	v.check(len(a.Targets) > 0, "alignment.targets", a.Targets, "at least one")
	for _, t := range a.Targets {
		v.oneOf("alignment.targets", t, "q", "k", "v", "o", "gate", "up", "down")
	}
	v.between("alignment.checkpoint_steps", int64(a.CheckpointN), 1, 1<<31)
	v.between("alignment.max_bad_steps", int64(a.MaxBadSteps), 1, 1<<20)
	v.between("alignment.rollout_steps", a.RolloutSteps, 1, 1<<31)
	v.between("alignment.rollout_items", int64(a.RolloutItems), 0, 1<<31)
	v.between("alignment.rollout_events", int64(a.RolloutEvents), 4, 1<<20)
	v.check(a.RolloutTolerance >= 0 && a.RolloutTolerance <= 10, "alignment.rollout_tolerance", a.RolloutTolerance, "0 to 10 nats")
}

type validator struct{ errs []error }

func (v *validator) check(ok bool, key string, got any, want string) {
	if !ok {
		v.errs = append(v.errs, fmt.Errorf("configuration: %s is %#v; it must be %s", key, got, want))
	}
}

func (v *validator) between(key string, got, lo, hi int64) {
	v.check(got >= lo && got <= hi, key, got, fmt.Sprintf("between %d and %d", lo, hi))
}

func (v *validator) atLeast(key string, got, lo time.Duration) {
	v.check(got >= lo, key, got.String(), "at least "+lo.String())
}

func (v *validator) oneOf(key, got string, allowed ...string) {
	v.check(slices.Contains(allowed, got), key, got, "one of "+strings.Join(allowed, ", "))
}

// sizes checks what one architecture has, and no other looks at.
func (v *validator) sizes(r Recommender) {
	switch r.Architecture {
	case "lightsans":
		v.between("recommender.k_interests", int64(r.Interests), 1, int64(r.MaxLen))
	case "paup":
		v.between("recommender.segments", int64(r.Segments), 1, int64(r.MaxLen))
		v.check(r.Kernel >= 1 && r.Kernel*r.Segments <= r.MaxLen, "recommender.kernel", r.Kernel,
			fmt.Sprintf("at least 1, and times recommender.segments (%d) at most recommender.max_len (%d)", r.Segments, r.MaxLen))
		v.check(r.Dim >= 16, "recommender.dim", r.Dim, "at least 16 for paup, whose convolutions have a sixteenth of it as channels")
	case "caser":
		v.check(r.MaxLen <= 50, "recommender.max_len", r.MaxLen, "at most 50 for caser, which has filters of each height up to it; 10 is usual")
		v.between("recommender.n_v", int64(r.Vertical), 1, 1024)
		v.between("recommender.n_h", int64(r.Horizontal), 1, 1024)
	}
}

func (v *validator) device(key, got string) {
	v.check(got == "cpu" || strings.HasPrefix(got, "cuda:"), key, got, "cpu or cuda:N")
}

func (v *validator) address(key, got string) {
	_, port, err := net.SplitHostPort(got)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	v.check(err == nil, key, got, "host:port, the port a number")
}

func (v *validator) tls(key string, t TLS) {
	v.check((t.CertFile == "") == (t.KeyFile == ""), key+".cert_file", t.CertFile, "given together with "+key+".key_file")
	v.check(t.Enabled || (t.CAFile == "" && t.CertFile == ""), key+".enabled", t.Enabled, "true when a certificate file is given")
	v.check(t.Enabled || t.ServerName == "", key+".enabled", t.Enabled, "true when "+key+".server_name is given")
}

// plain says that the log takes the name.
func plain(name string) bool {
	return len(name) <= 256 && utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl)
}
