package ops

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

// compose loads docker-compose.yml with Docker Compose's own loader: its schema,
// interpolation and consistency checks are those of `docker compose config`.
func compose(t *testing.T) *types.Project {
	t.Helper()
	dir, err := filepath.Abs(root)
	require.NoError(t, err)
	p, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "docker-compose.yml")}},
		Environment: types.Mapping{},
	}, func(o *loader.Options) { o.Profiles = []string{"*"} })
	require.NoError(t, err)
	return p
}

// roles are those of seralm up that have a service of their own.
var roles = []string{"trainer", "histories", "evaluator", "pregenerator", "knowledge", "generator", "policy", "rollout"}

func TestPrometheusWatchesEveryRole(t *testing.T) {
	watches := string(read(t, "prometheus/prometheus.yml"))
	for _, role := range append([]string{"serve"}, roles...) {
		require.Contains(t, watches, "job_name: "+role+"\n    dns_sd_configs: [{names: ["+role+"],")
	}
}

// Without a profile nothing needs weights; alignment brings what it needs of knowledge.
func TestComposeProfilesBringWholeParts(t *testing.T) {
	with := map[string][]string{"knowledge": {}, "alignment": {}}
	for name, s := range compose(t).Services {
		for _, profile := range s.Profiles {
			if _, ours := with[profile]; ours {
				with[profile] = append(with[profile], name)
			}
		}
		if len(s.Profiles) == 0 && s.Build != nil {
			require.NotEqual(t, "seralm-knowledge", s.Build.Target, name)
		}
	}
	require.ElementsMatch(t, []string{"pregenerator", "knowledge"}, with["knowledge"])
	require.ElementsMatch(t, []string{"pregenerator", "knowledge", "generator", "policy", "rollout"}, with["alignment"])
}

// What each trainer goes on from outlives its container, and is nobody else's.
func TestComposeKeepsCheckpoints(t *testing.T) {
	of := map[string]string{}
	for name, s := range compose(t).Services {
		for _, v := range s.Volumes {
			if v.Target == "/var/lib/seralm" {
				of[name] = v.Source
			}
		}
	}
	require.Equal(t, map[string]string{"trainer": "trainer-data", "policy": "policy-data"}, of)
}

func TestComposeRunsEveryRole(t *testing.T) {
	p := compose(t)
	require.Equal(t, "seralm", p.Name)
	require.ElementsMatch(t, []string{
		"kafka", "redis", "topics", "serve", "trainer", "histories", "evaluator", "prometheus", "grafana", "loadtest",
		"pregenerator", "knowledge", "generator", "policy", "rollout",
	}, p.ServiceNames())
	for _, role := range roles {
		require.Contains(t, p.Services[role].Command, "--roles="+role)
	}
	for _, role := range []string{"pregenerator", "generator", "policy"} {
		require.Equal(t, "seralm-knowledge", p.Services[role].Build.Target, "%s runs the language model, whose weights are in that image", role)
		require.Equal(t, "seralm-knowledge:dev", p.Services[role].Image, role)
	}
	require.Contains(t, string(read(t, "container/Dockerfile")), "native.py setup smollm2 minilm\n")
	require.Equal(t, "seralm-serve", p.Services["serve"].Build.Target, "serving does not carry libtorch")
}

func TestComposeImagesArePinned(t *testing.T) {
	for name, s := range compose(t).Services {
		if s.Build != nil {
			require.FileExists(t, filepath.Join(root, s.Build.Dockerfile), name)
			require.Contains(t, string(read(t, root, s.Build.Dockerfile)), " AS "+s.Build.Target+"\n", name)
			continue
		}
		require.Regexp(t, pinned, s.Image, name)
	}
}

func TestComposeMountsAndFilesExist(t *testing.T) {
	p := compose(t)
	for name, s := range p.Services {
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				_, err := os.Stat(v.Source)
				require.NoError(t, err, "%s mounts %s", name, v.Source)
				require.True(t, v.ReadOnly, "%s may write into the checkout at %s", name, v.Source)
			} else {
				require.Contains(t, p.Volumes, v.Source, name)
			}
		}
		for _, f := range s.EnvFiles {
			require.FileExists(t, f.Path+".example", name)
			require.False(t, bool(f.Required), "%s: a first look needs no secrets", name)
		}
		for _, word := range s.Command {
			if path, ok := strings.CutPrefix(word, "/etc/seralm/"); ok {
				require.True(t, slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == "/etc/seralm/"+path }), "%s: %s is not mounted", name, word)
			}
		}
	}
}

func TestComposeServicesAreBoundedWatchedAndPrivate(t *testing.T) {
	for name, s := range compose(t).Services {
		require.NotNil(t, s.Deploy, name)
		limits := s.Deploy.Resources.Limits
		require.NotNil(t, limits, name)
		require.Positive(t, int64(limits.MemoryBytes), "%s has no bound on memory", name)
		require.Positive(t, float32(limits.NanoCPUs), "%s has no bound on CPU", name)
		require.NotEmpty(t, s.Restart, "%s has no restart policy", name)
		require.NotNil(t, s.Logging, "%s fills the disk with logs", name)
		for _, port := range s.Ports {
			require.Equal(t, "127.0.0.1", port.HostIP, "%s is open to the network", name)
		}
		oneShot := s.Restart == "no" || strings.HasPrefix(s.Restart, "on-failure")
		switch {
		case oneShot:
			require.True(t, s.HealthCheck.Disable, "%s ends; it has no health", name)
		case s.Build != nil: // the image brings its own check
			require.Nil(t, s.HealthCheck, name)
		default:
			require.NotEmpty(t, s.HealthCheck.Test, name)
		}
	}
	require.Contains(t, string(read(t, "container/Dockerfile")), "\nHEALTHCHECK ")
}

func TestComposeStartsThingsAfterWhatTheyNeed(t *testing.T) {
	p := compose(t)
	require.Equal(t, types.ServiceConditionHealthy, p.Services["topics"].DependsOn["kafka"].Condition)
	for _, role := range append([]string{"serve"}, roles...) {
		need := p.Services[role].DependsOn
		require.Equal(t, types.ServiceConditionCompletedSuccessfully, need["topics"].Condition, role)
		require.Equal(t, types.ServiceConditionHealthy, need["redis"].Condition, role)
	}
}
