package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDefaultsAreValid(t *testing.T) {
	c, err := Load("", nil)
	require.NoError(t, err)
	require.Equal(t, Default(), c)
}

// One bad file per message: each must name the place and what would be right.
func TestBadFiles(t *testing.T) {
	want := map[string][]string{
		"unknown_key":      {"[3:3]", `unknown field "dims"`},
		"unknown_section":  {"[1:1]", `unknown field "recomender"`},
		"wrong_type":       {"[2:8]", "sixty-four"},
		"duplicate_key":    {"[3:3]", "duplicate"},
		"bad_duration":     {"line 2", "parsecs", "250ms"},
		"not_yaml":         {"[1:8]"},
		"heads":            {"recommender.heads is 3", "divisor of recommender.dim (64)"},
		"dropout":          {"recommender.dropout is 1.5", "below 1"},
		"knowledge_dim":    {"recommender.knowledge_dim is -384", "between 0 and"},
		"other_encoder":    {"recommender.knowledge_dim is 0", "length of knowledge.encoder's vectors"},
		"id_dropout":       {"recommender.id_dropout is 1", "below 1"},
		"no_port":          {`kafka.brokers is "kafka-1"`, `kafka.brokers is "kafka-2:kafka"`, "host:port"},
		"no_mechanism":     {`kafka.sasl.mechanism is ""`, "kafka.tls.enabled is false"},
		"two_documents":    {"a second document", "write all into one"},
		"history_deadline": {"serving.history_deadline", "at most serving.deadline"},
		"half_mtls":        {"kafka.tls.cert_file", "kafka.tls.key_file"},
		"knowledge":        {`knowledge.domain is "music"`, "movies, books, businesses, generic", "knowledge.top_p is 0", `knowledge.dtype is "int8"`, "knowledge.device"},
		"architecture":     {`recommender.architecture is "markov"`, "sasrec, gru4rec, lightsans, paup, caser"},
		"negatives":        {"recommender.negatives is -1", "between 0 and"},
		"k_interests":      {"recommender.k_interests is 51", "between 1 and 50"},
		"paup":             {"recommender.kernel is 13", "times recommender.segments (4) at most recommender.max_len (50)", "recommender.dim is 8"},
		"caser":            {"recommender.max_len is 51", "filters of each height", "recommender.n_v is 0", "recommender.n_h is -1"},
		"alignment": {"knowledge.enabled is false", `alignment.name is "recommender"`, "another than recommender.name", `alignment.view is "warm"`,
			"does not say what of an item's row is its id", "alignment.base", "without knowledge", "alignment.max_staleness is 100", "at least alignment.refresh (200)",
			`alignment.targets is "x"`},
		"rollout": {"alignment.rollout_steps is 0", "alignment.rollout_items is -1", "alignment.rollout_events is 3", "alignment.rollout_tolerance is -0.1"},
	}
	files, err := filepath.Glob("testdata/*.bad.yml")
	require.NoError(t, err)
	require.Len(t, files, len(want), "every bad file has its expectation here")
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".bad.yml")
		t.Run(name, func(t *testing.T) {
			_, err := Load(f, nil)
			require.Error(t, err)
			for _, w := range want[name] {
				require.ErrorContains(t, err, w)
			}
		})
	}
}

func TestKnowledgeIsReadByTheRecommenderWhereItIsWritten(t *testing.T) {
	c, err := Load("", []string{"SERALM_KNOWLEDGE_ENABLED=true"})
	require.NoError(t, err)
	require.Equal(t, 384, c.Recommender.KnowledgeDim)
	c, err = Load("", []string{"SERALM_KNOWLEDGE_ENABLED=true", "SERALM_KNOWLEDGE_ENCODER=/models/bge", "SERALM_RECOMMENDER_KNOWLEDGE_DIM=768"})
	require.NoError(t, err)
	require.Equal(t, 768, c.Recommender.KnowledgeDim)
}

func TestEnvironmentOverridesFileOverridesDefault(t *testing.T) {
	c, err := Load("testdata/full.good.yml", []string{
		"SERALM_TRAINER_LINGER=2s", "SERALM_KAFKA_SASL_PASSWORD=hush", "SERALM_RECOMMENDER_DIM=32",
		"SERALM_ONNXRUNTIME=/lib/ort.so", "SERALM_TEST_KAFKA=ignored:1", "HOME=/elsewhere",
	})
	require.NoError(t, err)
	require.Equal(t, 2*time.Second, c.Trainer.Linger)
	require.Equal(t, []string{"kafka-1:9092", "kafka-2:9092"}, c.Kafka.Brokers)
	require.Equal(t, Secret("hush"), c.Kafka.SASL.Password)
	require.Equal(t, 32, c.Recommender.Dim)
	require.Equal(t, "/lib/ort.so", c.Native.ONNXRuntime)
	require.Equal(t, Default().Serving, c.Serving)
}

func TestWhatIsNotSetHasItsDefault(t *testing.T) {
	for _, written := range []string{"", "# dim: 32\n", "---\n# dim: 32\n", "trainer:\n  # replay: 2\n", "trainer:\n  replay:\n", "log:\n---\n"} {
		f := filepath.Join(t.TempDir(), "seralm.yml")
		require.NoError(t, os.WriteFile(f, []byte(written), 0o600))
		c, err := Load(f, nil)
		require.NoError(t, err, written)
		require.Equal(t, Default(), c, written)
	}
}

func TestMisspeltVariableIsAnError(t *testing.T) {
	_, err := Load("", []string{"SERALM_RECOMENDER_DIM=32"})
	require.ErrorContains(t, err, "SERALM_RECOMENDER_DIM")
}

func TestUnparsableVariableNamesIt(t *testing.T) {
	for variable, want := range map[string]string{
		"SERALM_RECOMMENDER_DIM=wide":   "wide",
		"SERALM_KAFKA_TLS_ENABLED=yep":  "yep",
		"SERALM_TRAINER_LINGER=parsecs": "(write 250ms, 5s, 10m, 24h)",
	} {
		_, err := Load("", []string{variable})
		name, _, _ := strings.Cut(variable, "=")
		require.ErrorContains(t, err, name)
		require.ErrorContains(t, err, want)
	}
}

func TestAListInAVariableMayHaveBlanks(t *testing.T) {
	c, err := Load("", []string{"SERALM_KAFKA_BROKERS=a:1, b:2"})
	require.NoError(t, err)
	require.Equal(t, []string{"a:1", "b:2"}, c.Kafka.Brokers)
}

func TestMissingFileSaysSo(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yml"), nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "--config")
}

func TestShownConfigurationHidesSecretsAndLoadsAgain(t *testing.T) {
	c := Default()
	c.Kafka.SASL.Password = "hush"
	out, err := c.YAML()
	require.NoError(t, err)
	require.NotContains(t, string(out), "hush")

	c.Kafka.SASL.Password = ""
	out, err = c.YAML()
	require.NoError(t, err)
	f := filepath.Join(t.TempDir(), "shown.yml")
	require.NoError(t, os.WriteFile(f, out, 0o600))
	again, err := Load(f, nil)
	require.NoError(t, err)
	require.Equal(t, c, again)
}
