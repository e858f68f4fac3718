// Package ops holds no code: what operates SeRALM is configuration, and these tests
// hold it together. They check that what one file names exists in another: metrics,
// roles, files, images, settings, sections of the runbook.
//
// What needs Prometheus itself (the alerts' own unit tests) is run by
// prometheus/check.sh.
package ops

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/segmentio/encoding/json"
	"github.com/stretchr/testify/require"

	"seralm/config"
)

const root = ".."

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return data
}

func parse(t *testing.T, into any, path ...string) {
	t.Helper()
	require.NoError(t, yaml.Unmarshal(read(t, path...), into), filepath.Join(path...))
}

// files lists our files with one of the endings, relative to this folder.
func files(t *testing.T, endings ...string) (paths []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		for _, e := range endings {
			if strings.HasSuffix(path, e) {
				paths = append(paths, path)
			}
		}
		return nil
	}))
	return paths
}

func TestEveryFileParses(t *testing.T) {
	documents := append(files(t, ".yml", ".yaml"), root+"/docker-compose.yml", root+"/.golangci.yml")
	require.Greater(t, len(documents), 6)
	for _, path := range documents {
		var doc map[string]any
		parse(t, &doc, path)
		require.NotEmpty(t, doc, path)
	}
	for _, path := range files(t, ".json") {
		require.True(t, json.Valid(read(t, path)), path)
	}
}

func TestExampleConfigurationsAreAccepted(t *testing.T) {
	paths := files(t, ".yaml")
	require.Contains(t, paths, "config/production.yaml")
	for _, path := range paths {
		_, err := config.Load(path, nil)
		require.NoError(t, err)
	}
}

// What the profiles of docker-compose.yml ask for is one '#' a line away.
func TestKnowledgeAndAlignmentAreACommentAway(t *testing.T) {
	on := regexp.MustCompile(`(?m)^#(knowledge|alignment):`).ReplaceAllString(string(read(t, "config/seralm.yaml")), "$1:")
	path := filepath.Join(t.TempDir(), "seralm.yaml")
	require.NoError(t, os.WriteFile(path, []byte(on), 0o600))
	cfg, err := config.Load(path, nil)
	require.NoError(t, err)
	require.True(t, cfg.Knowledge.Enabled)
	require.True(t, cfg.Alignment.Enabled)
}

func TestExampleSecretsAreKnownSettings(t *testing.T) {
	known, err := config.Variables()
	require.NoError(t, err)
	lines := bufio.NewScanner(strings.NewReader(string(read(t, "config/secrets.env.example"))))
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), "=")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		require.Empty(t, value, "%s: an example holds no secret", name)
		if strings.HasPrefix(name, config.EnvPrefix) {
			require.Contains(t, known, name)
		}
	}
}

// pinned is an image reference with a tag that names one version.
var pinned = regexp.MustCompile(`^[a-z0-9./-]+:v?\d+\.\d+[a-z0-9.-]*$`)

func TestDockerfileBuildsFromPinnedImagesAndFilesThatExist(t *testing.T) {
	stages := map[string]bool{}
	for line := range strings.Lines(string(read(t, "container/Dockerfile"))) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "FROM":
			require.True(t, stages[words[1]] || pinned.MatchString(words[1]), "FROM %s", words[1])
			require.Equal(t, "AS", words[2], "every stage has a name")
			stages[words[3]] = true
		case "COPY":
			if from, ok := strings.CutPrefix(words[1], "--from="); ok {
				require.True(t, stages[from], line)
				continue
			}
			for _, source := range words[1 : len(words)-1] {
				_, err := os.Stat(filepath.Join(root, source))
				require.NoError(t, err, "COPY %s", source)
			}
		}
	}
	require.Subset(t, stages, map[string]bool{"seralm": true, "seralm-serve": true})
}

func TestTheImagesGoIsTheModulesGo(t *testing.T) {
	module := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(read(t, root, "go.mod")))
	image := regexp.MustCompile(`(?m)^FROM golang:(\d+\.\d+)`).FindStringSubmatch(string(read(t, "container/Dockerfile")))
	require.Equal(t, module[1], image[1])
}
