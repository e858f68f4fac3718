package apptest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every mistake is named, with the place and the remedy, and costs a non-zero exit.
func TestMistakesAreNamed(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer busy.Close()
	data := "SERALM_DATA_DIR=" + filepath.Join(dir, "data")
	for _, c := range []struct {
		story    string
		settings []string
		args     []string
		says     []string
	}{
		{"an unknown key", nil, []string{"config", "check", "--config", file("key.yml", "kafka:\n  brokerz: [x]\n")}, []string{"brokerz", "2"}},
		{"an unknown variable", []string{"SERALM_KAFKA_BROKERZ=x"}, []string{"config", "check"}, []string{"SERALM_KAFKA_BROKERZ", "config show --env"}},
		{"a value out of bounds", []string{"SERALM_RECOMMENDER_DROPOUT=2"}, []string{"up"}, []string{"recommender.dropout", "below 1"}},
		{"a configuration that is not there", nil, []string{"up", "--config", filepath.Join(dir, "none.yml")}, []string{"none.yml", "--config"}},
		{"an unknown role", nil, []string{"up", "--roles=barista"}, []string{"barista", "histories"}},
		{"a port in use", []string{data, "SERALM_HTTP_ADDR=" + busy.Addr().String()}, []string{"up"}, []string{"in use", "http.addr"}},
		{"a data folder that is a file", []string{"SERALM_DATA_DIR=" + file("taken", "")}, []string{"up"}, []string{"taken", "data_dir"}},
		{"no broker anywhere", []string{data}, []string{"train"}, []string{"kafka.brokers", "seralm up"}},
		{"no broker for replay", []string{data}, []string{"replay", "--dataset", "../testdata/ml-latest-small"}, []string{"kafka.brokers"}},
		{"a broker that does not answer", []string{data, "SERALM_KAFKA_BROKERS=127.0.0.1:1"}, []string{"topics", "list"}, []string{"127.0.0.1:1"}},
		{"a data set that is not there", nil, []string{"eval", "prequential", "--dataset", filepath.Join(dir, "nothing")}, []string{"nothing"}},
		{"a truncated data set", nil, []string{"eval", "prequential", "--dataset", truncated(t, dir)}, []string{"ratings.csv.gz"}},
		{"a language model that is not there", []string{data, "SERALM_KNOWLEDGE_ENABLED=true", "SERALM_KNOWLEDGE_MODEL=" + filepath.Join(dir, "none.gguf")},
			[]string{"up"}, []string{"none.gguf", "native.py setup smollm2", "knowledge.model"}},
		{"knowledge without a broker", []string{data}, []string{"knowledge", "stats"}, []string{"kafka.brokers", "seralm up"}},
		{"a demo on somebody's cluster", []string{"SERALM_KAFKA_BROKERS=127.0.0.1:1"}, []string{"demo"}, []string{"kafka.brokers", "seralm up"}},
		{"an objective that makes no sense", nil, []string{"loadtest", "--slo", "p99=fast"}, []string{"--slo", "fast"}},
	} {
		t.Run(c.story, func(t *testing.T) {
			_, errs, status := call(t, seralm, append([]string{"SERALM_HTTP_ADDR=127.0.0.1:0"}, c.settings...), c.args...)
			require.NotZero(t, status)
			for _, s := range c.says {
				require.Contains(t, errs, s)
			}
			require.NotContains(t, errs, "goroutine ", "a mistake is no crash")
		})
	}
}

// truncated makes a data set whose file ends in the middle.
func truncated(t *testing.T, dir string) string {
	t.Helper()
	whole, err := os.ReadFile("../testdata/ml-latest-small/ratings.csv.gz")
	require.NoError(t, err)
	folder := filepath.Join(dir, "truncated")
	require.NoError(t, os.Mkdir(folder, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "ratings.csv.gz"), whole[:len(whole)/2], 0o644))
	return folder
}

func TestServingAloneNeedsARealRedis(t *testing.T) {
	_, errs, status := call(t, seralmServe, []string{"SERALM_HTTP_ADDR=127.0.0.1:0", "SERALM_KAFKA_BROKERS=127.0.0.1:1"})
	require.NotZero(t, status)
	require.Contains(t, errs, "127.0.0.1:1")
}

// The container of seralm-serve is small because of this.
func TestServingDoesNotLinkLibtorch(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "seralm/cmd/seralm-serve").Output()
	require.NoError(t, err)
	for _, pkg := range strings.Fields(string(out)) {
		require.NotContains(t, pkg, "gotch")
		require.NotEqual(t, "seralm/models/tensor", pkg)
	}
}
