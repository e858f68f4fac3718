package stream

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"seralm/config"
)

// RunningBroker returns the address of the embedded broker that another process
// runs on cfg's data folder, and "" when none does: so that `seralm replay` beside
// a `seralm up` needs no configuration.
func RunningBroker(cfg config.Config) (string, error) {
	path := filepath.Join(cfg.DataDir, "kafka", lockFile)
	there, err := exists(path)
	if err != nil || !there {
		return "", err
	}
	lock := flock.New(path)
	free, err := lock.TryLock()
	if err != nil {
		return "", fmt.Errorf("asking who has the embedded broker's folder: %w", err)
	}
	if free {
		return "", lock.Close()
	}
	who, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the address of the running embedded broker: %w", err)
	}
	_, addr, ok := strings.Cut(strings.TrimSpace(string(who)), " at ")
	if !ok {
		return "", fmt.Errorf("the embedded broker on %s is starting; try again", cfg.DataDir)
	}
	return addr, nil
}
