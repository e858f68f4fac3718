// Package config holds the one configuration of SeRALM: a strict YAML file, then
// SERALM_* environment variables on top, then defaults for what neither names.
//
// It knows field names, defaults and bounds, and nothing of what the values are
// used for. It imports nothing of SeRALM and opens no file but those it is given.
package config

import "time"

// Config is everything a SeRALM process can be told. Every role reads the same
// file, so two processes cannot disagree about a topic name or a model's shape.
type Config struct {
	// DataDir holds what a single machine keeps on disk: the embedded broker's
	// log, checkpoints and replay cursors.
	DataDir     string      `yaml:"data_dir" env:"DATA_DIR"`
	Log         Log         `yaml:"log" envPrefix:"LOG_"`
	Kafka       Kafka       `yaml:"kafka" envPrefix:"KAFKA_"`
	Redis       Redis       `yaml:"redis" envPrefix:"REDIS_"`
	HTTP        HTTP        `yaml:"http" envPrefix:"HTTP_"`
	Gateway     Gateway     `yaml:"gateway" envPrefix:"GATEWAY_"`
	Histories   Histories   `yaml:"histories" envPrefix:"HISTORIES_"`
	Recommender Recommender `yaml:"recommender" envPrefix:"RECOMMENDER_"`
	Trainer     Trainer     `yaml:"trainer" envPrefix:"TRAINER_"`
	Evaluator   Evaluator   `yaml:"evaluator" envPrefix:"EVALUATOR_"`
	Serving     Serving     `yaml:"serving" envPrefix:"SERVING_"`
	Knowledge   Knowledge   `yaml:"knowledge" envPrefix:"KNOWLEDGE_"`
	Alignment   Alignment   `yaml:"alignment" envPrefix:"ALIGNMENT_"`
	Native      Native      `yaml:"native"`
}

// Log configures log/slog on standard error.
type Log struct {
	Level  string `yaml:"level" env:"LEVEL"`   // debug | info | warn | error
	Format string `yaml:"format" env:"FORMAT"` // text | json
}

// Kafka says where the log is. Empty Brokers means the embedded broker.
type Kafka struct {
	Brokers     []string `yaml:"brokers" env:"BROKERS"`
	TopicPrefix string   `yaml:"topic_prefix" env:"TOPIC_PREFIX"`
	Partitions  int32    `yaml:"partitions" env:"PARTITIONS"`   // of interactions, samples, impressions, items, knowledge
	Replication int16    `yaml:"replication" env:"REPLICATION"` // of every topic
	// Retention bounds the topics whose clean-up policy is delete.
	Retention time.Duration `yaml:"retention" env:"RETENTION"`
	TLS       TLS           `yaml:"tls" envPrefix:"TLS_"`
	SASL      SASL          `yaml:"sasl" envPrefix:"SASL_"`
	Embedded  Embedded      `yaml:"embedded" envPrefix:"EMBEDDED_"`
}

// TLS of a client connection. CertFile and KeyFile are for mutual TLS.
type TLS struct {
	Enabled    bool   `yaml:"enabled" env:"ENABLED"`
	CAFile     string `yaml:"ca_file" env:"CA_FILE"`
	CertFile   string `yaml:"cert_file" env:"CERT_FILE"`
	KeyFile    string `yaml:"key_file" env:"KEY_FILE"`
	ServerName string `yaml:"server_name" env:"SERVER_NAME"`
}

// SASL credentials. Mechanism is empty, PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
type SASL struct {
	Mechanism string `yaml:"mechanism" env:"MECHANISM"`
	Username  string `yaml:"username" env:"USERNAME"`
	Password  Secret `yaml:"password" env:"PASSWORD"`
}

// Embedded configures the in-process broker, which listens on 127.0.0.1 only.
type Embedded struct {
	Port int `yaml:"port" env:"PORT"` // 0 = any free port
	// RetentionBytes bounds each partition: start-up reads whole segments back.
	RetentionBytes int64 `yaml:"retention_bytes" env:"RETENTION_BYTES"`
	// SyncWrites fsyncs every produce, which survives power loss, not only kill -9.
	SyncWrites bool `yaml:"sync_writes" env:"SYNC_WRITES"`
}

// Redis says where the materialised views are. Empty Addr means the embedded one.
type Redis struct {
	Addr      string        `yaml:"addr" env:"ADDR"`
	Username  string        `yaml:"username" env:"USERNAME"`
	Password  Secret        `yaml:"password" env:"PASSWORD"`
	DB        int           `yaml:"db" env:"DB"`
	TLS       TLS           `yaml:"tls" envPrefix:"TLS_"`
	KeyPrefix string        `yaml:"key_prefix" env:"KEY_PREFIX"`
	Timeout   time.Duration `yaml:"timeout" env:"TIMEOUT"` // of one command
}

// HTTP is the listener shared by gateway, serving and metrics of a process.
type HTTP struct {
	Addr         string        `yaml:"addr" env:"ADDR"`
	MaxBodyBytes int64         `yaml:"max_body_bytes" env:"MAX_BODY_BYTES"`
	ReadTimeout  time.Duration `yaml:"read_timeout" env:"READ_TIMEOUT"`
	// A process that is told to end fails /readyz for DrainDelay while it serves on, then
	// closes its port and gives what it is answering DrainTimeout.
	DrainDelay   time.Duration `yaml:"drain_delay" env:"DRAIN_DELAY"`
	DrainTimeout time.Duration `yaml:"drain_timeout" env:"DRAIN_TIMEOUT"`
}

// Gateway bounds what the HTTP producer accepts.
type Gateway struct {
	MaxBatch    int           `yaml:"max_batch" env:"MAX_BATCH"`       // events in one request
	MaxBuffered int           `yaml:"max_buffered" env:"MAX_BUFFERED"` // events waiting for the log; above it HTTP 429
	MaxFuture   time.Duration `yaml:"max_future" env:"MAX_FUTURE"`     // an event's time may be this far ahead of our clock
	Source      string        `yaml:"source" env:"SOURCE"`             // default ce_source
}

// Histories configures the consumer that materialises user histories.
type Histories struct {
	Length  int           `yaml:"length" env:"LENGTH"`     // newest items kept per user
	TTL     time.Duration `yaml:"ttl" env:"TTL"`           // of a user without events; 0 = for ever
	Popular int           `yaml:"popular" env:"POPULAR"`   // items kept in the popularity view
	SeenTTL time.Duration `yaml:"seen_ttl" env:"SEEN_TTL"` // how long an event id is remembered
}

// Recommender is the model: its architecture, hyper-parameters and optimiser.
// Symbols follow RecBole: hidden_size d, inner_size, n_layers, n_heads.
type Recommender struct {
	Name         string  `yaml:"name" env:"NAME"`                 // key of its snapshots
	Architecture string  `yaml:"architecture" env:"ARCHITECTURE"` // sasrec | gru4rec | lightsans | paup | caser
	Dim          int     `yaml:"dim" env:"DIM"`
	Layers       int     `yaml:"layers" env:"LAYERS"`
	Heads        int     `yaml:"heads" env:"HEADS"`
	Inner        int     `yaml:"inner" env:"INNER"` // of a GRU4Rec: its hidden_size
	MaxLen       int     `yaml:"max_len" env:"MAX_LEN"`
	Dropout      float64 `yaml:"dropout" env:"DROPOUT"`
	LearningRate float64 `yaml:"learning_rate" env:"LEARNING_RATE"`
	ClipNorm     float64 `yaml:"clip_norm" env:"CLIP_NORM"` // of the global gradient; 0 = off
	Seed         uint64  `yaml:"seed" env:"SEED"`
	Device       string  `yaml:"device" env:"DEVICE"` // cpu | cuda:0
	// Threads of libtorch within an operation. One is reproducible to the bit, and
	// leaves the other cores to the other roles: several wait for each other by
	// spinning, which is fast on an idle machine and slow on one that is not
	// (OMP_WAIT_POLICY=passive makes them sleep).
	Threads int `yaml:"threads" env:"THREADS"`
	// KnowledgeDim is the length of the vectors that describe items; 0 = none, a Base,
	// unless knowledge.enabled says otherwise.
	// IDDropout is the share of items that a step of a model with knowledge learns
	// from their vectors alone.
	KnowledgeDim int     `yaml:"knowledge_dim" env:"KNOWLEDGE_DIM"`
	IDDropout    float64 `yaml:"id_dropout" env:"ID_DROPOUT"`
	// Negatives is how many items a step's softmax draws besides those that its events
	// name; 0 = all of them, which is exact and affordable up to some 60,000 items.
	Negatives int `yaml:"negatives" env:"NEGATIVES"`
	// HistoryBias learns one number that an item's score gains for being in the user's
	// history: negative where people do not come back to an item, positive where they do.
	// On streams it is worth turning on (docs/RESULTS.md); RecBole's models have none.
	HistoryBias bool `yaml:"history_bias" env:"HISTORY_BIAS"`
	// Sizes of one architecture each, which the others do not look at.
	Interests  int `yaml:"k_interests" env:"K_INTERESTS"` // LightSANs: what a history is condensed to
	Segments   int `yaml:"segments" env:"SEGMENTS"`       // PAUP: m, likewise
	Kernel     int `yaml:"kernel" env:"KERNEL"`           // PAUP: k1, width of the first convolution
	Vertical   int `yaml:"n_v" env:"N_V"`                 // Caser: vertical filters
	Horizontal int `yaml:"n_h" env:"N_H"`                 // Caser: horizontal filters of each height
}

// Trainer configures the online learning of the recommender from the stream.
type Trainer struct {
	BatchEvents  int           `yaml:"batch_events" env:"BATCH_EVENTS"`   // of one micro-batch, at most
	Linger       time.Duration `yaml:"linger" env:"LINGER"`               // a micro-batch waits this long to fill
	Replay       float64       `yaml:"replay" env:"REPLAY"`               // older targets learnt again per new one
	AdmitAfter   int           `yaml:"admit_after" env:"ADMIT_AFTER"`     // sightings before an item gets its own row
	MaxItems     int           `yaml:"max_items" env:"MAX_ITEMS"`         // items that have a row; those not seen for longest lose it
	MaxUsers     int           `yaml:"max_users" env:"MAX_USERS"`         // histories held for training; the longest idle go first
	DedupWindow  int           `yaml:"dedup_window" env:"DEDUP_WINDOW"`   // event ids remembered
	SnapshotEach time.Duration `yaml:"snapshot_each" env:"SNAPSHOT_EACH"` // at most this often
	SnapshotStep int           `yaml:"snapshot_steps" env:"SNAPSHOT_STEPS"`
	CheckpointN  int           `yaml:"checkpoint_steps" env:"CHECKPOINT_STEPS"`
	Checkpoints  int           `yaml:"checkpoints" env:"CHECKPOINTS"` // kept on disk
	SnapshotKeep int           `yaml:"snapshots" env:"SNAPSHOTS"`     // kept in the topic
	MaxBadSteps  int           `yaml:"max_bad_steps" env:"MAX_BAD_STEPS"`
}

// Evaluator configures prequential (test-then-train) evaluation.
type Evaluator struct {
	Window int `yaml:"window" env:"WINDOW"` // events in the sliding window of the curve
	// MaxLead bounds how many events the evaluator runs ahead of the newest
	// snapshot on a fast replay; MaxWait bounds how long it waits for that.
	MaxLead int64         `yaml:"max_lead" env:"MAX_LEAD"`
	MaxWait time.Duration `yaml:"max_wait" env:"MAX_WAIT"`
}

// Serving configures the scorer and the look-up API.
type Serving struct {
	DefaultN        int           `yaml:"default_n" env:"DEFAULT_N"`
	MaxN            int           `yaml:"max_n" env:"MAX_N"`
	Deadline        time.Duration `yaml:"deadline" env:"DEADLINE"`                 // of one look-up, fallbacks included
	HistoryDeadline time.Duration `yaml:"history_deadline" env:"HISTORY_DEADLINE"` // of the history look-up
	Concurrency     int           `yaml:"concurrency" env:"CONCURRENCY"`           // scorings at once; 0 = cores
	ProbeTolerance  float64       `yaml:"probe_tolerance" env:"PROBE_TOLERANCE"`   // |logits - trainer's| a snapshot may show
	AllowRollback   bool          `yaml:"allow_rollback" env:"ALLOW_ROLLBACK"`     // accept a lower (epoch, step)
	Catalogue       int           `yaml:"catalogue" env:"CATALOGUE"`               // items described in memory, at most; about 350 bytes each
	// Unannounced lets items be recommended that no item event ever described. An
	// item's deletion is forgotten when its topic's delete.retention.ms has passed:
	// where every item is announced and some are deleted, turn this off.
	Unannounced bool `yaml:"unannounced" env:"UNANNOUNCED"`
}

// Knowledge configures what a language model writes about items, and what encodes it.
type Knowledge struct {
	// Enabled adds the roles pregenerator and knowledge to those of `seralm up`, and the
	// vectors of the encoder that set-up fetched to the recommender. For another
	// encoder, say how long its vectors are (recommender.knowledge_dim).
	Enabled bool   `yaml:"enabled" env:"ENABLED"`
	Domain  string `yaml:"domain" env:"DOMAIN"` // of the prompts
	// Model is a GGUF file, or a folder as Hugging Face writes it; Encoder such a
	// folder. Empty means those that set-up fetched (native.smollm2, native.minilm).
	Model   string `yaml:"model" env:"MODEL"`
	Encoder string `yaml:"encoder" env:"ENCODER"`
	// Temperature 0 takes the most probable token each time. A changed setting is for
	// texts to come: none is written again for it.
	Temperature float64 `yaml:"temperature" env:"TEMPERATURE"`
	TopP        float64 `yaml:"top_p" env:"TOP_P"`
	MaxTokens   int     `yaml:"max_tokens" env:"MAX_TOKENS"` // of one text
	Batch       int     `yaml:"batch" env:"BATCH"`           // texts written at a time
	Type        string  `yaml:"dtype" env:"DTYPE"`           // of the language model's weights: float32 | bf16 | auto, what the device computes faster
	Threads     int     `yaml:"threads" env:"THREADS"`       // of libtorch, for each of the two models
	Device      string  `yaml:"device" env:"DEVICE"`         // cpu | cuda:0
	MaxItems    int     `yaml:"max_items" env:"MAX_ITEMS"`   // items known by id in memory, at most; about 250 bytes each
}

// Alignment configures how the language model learns from the recommender what to
// write. The model, its encoder and where they run are those of knowledge.
type Alignment struct {
	// Enabled adds the roles generator, policy and rollout to those of `seralm up`, and has the
	// recommender's trainer learn from the samples, too.
	Enabled bool   `yaml:"enabled" env:"ENABLED"`
	Name    string `yaml:"name" env:"NAME"` // of the policy: key of its snapshots

	// Sampling, by the generator. One of Every instances of the stream, by chance, is
	// sampled from, Candidates texts each, Group instances at a time; fewer where it takes
	// turns with the policy, whose iteration has Batch.
	Every       int     `yaml:"every" env:"EVERY"`
	Candidates  int     `yaml:"candidates" env:"CANDIDATES"`
	Group       int     `yaml:"group" env:"GROUP"`
	Temperature float64 `yaml:"temperature" env:"TEMPERATURE"` // of the policy softmax(logits / temperature); there is no top-p
	MaxTokens   int     `yaml:"max_tokens" env:"MAX_TOKENS"`
	// Refresh is how many iterations the policy makes before the generator takes its
	// and the recommender's newest snapshots. 0 takes turns: texts are always of the newest.
	Refresh int `yaml:"refresh" env:"REFRESH"`

	// Reward is instance, p(y|x,s), or catalogue, the change of the whole objective over
	// the Reservoir of recent instances. View cold judges a text as if nothing else were
	// known of its item.
	Reward    string `yaml:"reward" env:"REWARD"`
	View      string `yaml:"view" env:"VIEW"`
	Reservoir int    `yaml:"reservoir" env:"RESERVOIR"`
	// Base is the recommender.name of a model without knowledge, trained beforehand, whose
	// p(y|x) the estimator paper divides by.
	Base string `yaml:"base" env:"BASE"`

	// Learning, by the policy trainer: Batch instances an iteration.
	Batch     int     `yaml:"batch" env:"BATCH"`
	Estimator string  `yaml:"estimator" env:"ESTIMATOR"` // leave_one_out | paper | best_of_k
	Clip      float64 `yaml:"clip" env:"CLIP"`           // of an advantage
	Weighting string  `yaml:"weighting" env:"WEIGHTING"` // of the texts of an older policy: token | text | none
	Truncate  float64 `yaml:"truncate" env:"TRUNCATE"`   // most that a weight is
	Penalty   string  `yaml:"penalty" env:"PENALTY"`     // for leaving the reference: reward | loss
	Alpha     float64 `yaml:"alpha" env:"ALPHA"`         // of the penalty; 0 = none
	// MaxStaleness is how many iterations old a text's policy may be; older ones are
	// dropped and counted. The generator's pace keeps them within Refresh.
	MaxStaleness int      `yaml:"max_staleness" env:"MAX_STALENESS"`
	LearningRate float64  `yaml:"learning_rate" env:"LEARNING_RATE"`
	ClipNorm     float64  `yaml:"clip_norm" env:"CLIP_NORM"` // of the global gradient; 0 = off
	Rank         int      `yaml:"rank" env:"RANK"`           // of the adapter (LoRA)
	Scale        float64  `yaml:"scale" env:"SCALE"`         // of the adapter; LoRA's alpha
	Targets      []string `yaml:"targets" env:"TARGETS"`     // weights that it adapts: q, k, v, o, gate, up, down
	Seed         uint64   `yaml:"seed" env:"SEED"`
	CheckpointN  int      `yaml:"checkpoint_steps" env:"CHECKPOINT_STEPS"`
	MaxBadSteps  int      `yaml:"max_bad_steps" env:"MAX_BAD_STEPS"`

	// Rolling out, by the pregenerator and the role rollout. A roll-out begins when the
	// policy is RolloutSteps iterations past the last one that was rolled out; it writes
	// RolloutItems texts at most, of the most popular and the newest items. It is
	// promoted when, on the newest RolloutEvents held-out interactions, log p(y|x,s) is
	// not worse by more than RolloutTolerance nats, held otherwise.
	RolloutSteps     int64   `yaml:"rollout_steps" env:"ROLLOUT_STEPS"`
	RolloutItems     int     `yaml:"rollout_items" env:"ROLLOUT_ITEMS"`   // 0 = all
	RolloutEvents    int     `yaml:"rollout_events" env:"ROLLOUT_EVENTS"` // a quarter of it must be there
	RolloutTolerance float64 `yaml:"rollout_tolerance" env:"ROLLOUT_TOLERANCE"`
}

// MiniLMDim is the length of the vectors of the encoder that set-up fetches.
const MiniLMDim = 384

// Native says where the native libraries and the default weights are.
type Native struct {
	ONNXRuntime string `yaml:"onnxruntime" env:"ONNXRUNTIME"` // path of libonnxruntime.so
	SmolLM2     string `yaml:"smollm2" env:"SMOLLM2"`         // path of the language model's GGUF file
	MiniLM      string `yaml:"minilm" env:"MINILM"`           // folder of the text encoder
}

// The defaults of Native. The Makefile sets them with -ldflags -X, so that a built
// binary finds what set-up fetched.
var onnxRuntime, smolLM2, miniLM string

// UnknownVersion is that of a program that was built by hand.
const UnknownVersion = "unknown"

// Version of the program; the Makefile sets it with -ldflags -X.
var Version = UnknownVersion

// Default returns the configuration of a single machine with nothing installed:
// embedded broker and views, SASRec, loopback HTTP.
func Default() Config {
	return Config{
		DataDir: "data",
		Log:     Log{Level: "info", Format: "text"},
		Kafka: Kafka{
			Brokers: []string{}, Partitions: 4, Replication: 1, Retention: 7 * 24 * time.Hour,
			Embedded: Embedded{RetentionBytes: 256 << 20},
		},
		Redis:     Redis{KeyPrefix: "seralm", Timeout: 250 * time.Millisecond},
		HTTP:      HTTP{Addr: "127.0.0.1:8080", MaxBodyBytes: 1 << 20, ReadTimeout: 10 * time.Second, DrainTimeout: 10 * time.Second},
		Gateway:   Gateway{MaxBatch: 1000, MaxBuffered: 100_000, MaxFuture: 5 * time.Minute, Source: "seralm/gateway"},
		Histories: Histories{Length: 200, Popular: 1000, SeenTTL: 24 * time.Hour},
		Recommender: Recommender{
			Name: "recommender", Architecture: "sasrec", Dim: 64, Layers: 2, Heads: 2, Inner: 256, MaxLen: 50,
			Dropout: 0.2, LearningRate: 1e-3, ClipNorm: 5, Seed: 1, Device: "cpu", Threads: 1, IDDropout: 0.3,
			Interests: 5, Segments: 4, Kernel: 10, Vertical: 4, Horizontal: 8,
		},
		Trainer: Trainer{
			BatchEvents: 256, Linger: 100 * time.Millisecond, Replay: 4, AdmitAfter: 1, MaxItems: 1_000_000, MaxUsers: 1_000_000, DedupWindow: 200_000,
			SnapshotEach: 5 * time.Second, SnapshotStep: 50, CheckpointN: 200, Checkpoints: 3, SnapshotKeep: 4, MaxBadSteps: 10,
		},
		Evaluator: Evaluator{Window: 10_000, MaxLead: 5_000, MaxWait: 10 * time.Second},
		Serving: Serving{
			DefaultN: 10, MaxN: 500, Deadline: 50 * time.Millisecond, HistoryDeadline: 20 * time.Millisecond,
			ProbeTolerance: 1e-3, Catalogue: 1_000_000, Unannounced: true,
		},
		Knowledge: Knowledge{
			Domain: "generic", Temperature: 0.7, TopP: 0.95, MaxTokens: 96, Batch: 16, Type: "auto", Threads: 1, Device: "cpu",
			MaxItems: 1_000_000,
		},
		Alignment: Alignment{
			Name: "policy", Every: 1, Candidates: 4, Group: 16, Temperature: 0.7, MaxTokens: 96, Refresh: 50,
			Reward: "catalogue", View: "cold", Reservoir: 4096,
			Batch: 4, Estimator: "leave_one_out", Clip: 5, Weighting: "token", Truncate: 3, Penalty: "reward", Alpha: 0.02,
			MaxStaleness: 100, LearningRate: 1e-3, ClipNorm: 1, Rank: 8, Scale: 16, Targets: []string{"q", "k", "v", "o"}, Seed: 1,
			CheckpointN: 25, MaxBadSteps: 5,
			RolloutSteps: 50, RolloutItems: 500, RolloutEvents: 4000, RolloutTolerance: 0.02,
		},
		Native: Native{ONNXRuntime: onnxRuntime, SmolLM2: smolLM2, MiniLM: miniLM},
	}
}
