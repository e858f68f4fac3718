package experiments

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"seralm/config"
	"seralm/producers/dataset"
)

// Provenance says what a result is a result of.
type Provenance struct {
	Program     string             `json:"program"` // version
	Protocol    string             `json:"protocol"`
	Dataset     string             `json:"dataset"`
	Fingerprint string             `json:"fingerprint"` // of the data set's stream
	Summary     dataset.Summary    `json:"summary"`
	Recommender config.Recommender `json:"recommender"`
	Trainer     config.Trainer     `json:"trainer"`
	ConfigHash  string             `json:"config_hash"`
	Machine     string             `json:"machine"`
	Began       time.Time          `json:"began"`
	Seconds     float64            `json:"seconds"`
}

func newProvenance(protocol string, cfg config.Config, d *dataset.Dataset) (Provenance, error) {
	text, err := json.Marshal([]any{cfg.Recommender, cfg.Trainer})
	if err != nil {
		return Provenance{}, err
	}
	sum := sha256.Sum256(text)
	return Provenance{
		Program: config.Version, Protocol: protocol, Dataset: d.Name(), Fingerprint: d.Fingerprint(), Summary: d.Summary(),
		Recommender: cfg.Recommender, Trainer: cfg.Trainer, ConfigHash: hex.EncodeToString(sum[:8]),
		Machine: machine(), Began: time.Now().UTC(),
	}, nil
}

// protocolOf says which protocol a result file is of.
func protocolOf(path string) (string, error) {
	var kind struct{ Protocol string }
	if err := readJSON(path, &kind); err != nil {
		return "", err
	}
	return kind.Protocol, nil
}

// readJSON reads a result file.
func readJSON(path string, to any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, to); err != nil {
		return fmt.Errorf("%s is no result file: %w", path, err)
	}
	return nil
}

func machine() string {
	model := "unknown processor"
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, %s/%s", model, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
}
