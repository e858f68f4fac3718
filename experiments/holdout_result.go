package experiments

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"seralm/config"
	"seralm/producers/dataset"
)

// Protocols of a HoldoutResult.
const (
	LeaveOneOutProtocol = "leave-one-out"
	ColdStartProtocol   = "cold-start"
)

// HoldoutResult is the file of leave-one-out or of cold start on one data set: arms
// that can be compared case by case.
type HoldoutResult struct {
	Protocol     string          `json:"protocol"`
	Hide         float64         `json:"hide,omitempty"` // share of the items
	Dataset      string          `json:"dataset"`
	Fingerprint  string          `json:"fingerprint"` // of the data set's stream
	Interactions int             `json:"interactions"`
	Summary      dataset.Summary `json:"summary"`
	Arms         []*ArmResult    `json:"arms"`

	seen string // the range of Seen, where the cases are no longer all
}

// ArmResult is what the seeds of an arm came to.
type ArmResult struct {
	Name        string             `json:"name"`
	Recommender config.Recommender `json:"recommender"` // but for the seed
	Training    Training           `json:"training"`
	Knowledge   Source             `json:"knowledge"`
	ConfigHash  string             `json:"config_hash"`
	Runs        []Run              `json:"runs"`
}

// Run is one seed.
type Run struct {
	Seed    uint64    `json:"seed"`
	Program string    `json:"program"` // version
	Machine string    `json:"machine"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	Counts  Counts    `json:"counts"`
	// Knowledge of this seed, where each has its own.
	Knowledge *Source            `json:"knowledge,omitempty"`
	Targets   string             `json:"targets,omitempty"` // that an epoch learns
	Best      int                `json:"best_epoch,omitempty"`
	Curve     []Epoch            `json:"curve,omitempty"`
	Test      map[string]float64 `json:"test"` // means of Cases
	Cases     Cases              `json:"cases"`
}

// ReadHoldout reads a result file.
func ReadHoldout(path string) (*HoldoutResult, error) {
	r := &HoldoutResult{}
	if err := readJSON(path, r); err != nil {
		return nil, err
	}
	if r.Protocol != LeaveOneOutProtocol && r.Protocol != ColdStartProtocol {
		return nil, fmt.Errorf("%s is a result of the protocol %q; leave-one-out or cold start is needed", path, r.Protocol)
	}
	for _, a := range r.Arms {
		for _, run := range a.Runs {
			if err := run.Cases.check(); err != nil {
				return nil, fmt.Errorf("%s: arm %q, seed %d: %w", path, a.Name, run.Seed, err)
			}
		}
	}
	return r, nil
}

func (c Cases) check() error {
	for _, list := range []Numbers{c.Items, c.Rank, c.Masked, c.LogP} {
		if len(list) != len(c.Users) {
			return fmt.Errorf("the lists of its cases have %d and %d entries: the file is damaged", len(c.Users), len(list))
		}
	}
	for _, list := range []Numbers{c.Cold, c.Seen} {
		if len(list) != len(c.Users) && len(list) > 0 {
			return fmt.Errorf("the lists of its cases have %d and %d entries: the file is damaged", len(c.Users), len(list))
		}
	}
	if len(c.Users) == 0 {
		return errors.New("it has no cases")
	}
	return nil
}

// openHoldout reads the file at path, or begins one.
func openHoldout(path string, d *dataset.Dataset, hide float64) (*HoldoutResult, error) {
	fresh := &HoldoutResult{Protocol: LeaveOneOutProtocol, Hide: hide, Dataset: d.Name(), Fingerprint: d.Fingerprint(), Interactions: d.Len(), Summary: d.Summary()}
	if hide > 0 {
		fresh.Protocol = ColdStartProtocol
	}
	if path == "" {
		return fresh, nil
	}
	r, err := ReadHoldout(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return nil, err
	}
	if err := sameQuestion(fresh, r); err != nil {
		return nil, fmt.Errorf("%s holds results that these cannot stand beside: %w; name another file", path, err)
	}
	return r, nil
}

// sameQuestion says why two results cannot be compared.
func sameQuestion(a, b *HoldoutResult) error {
	switch {
	case a.Protocol != b.Protocol || a.Hide != b.Hide:
		return fmt.Errorf("protocols %s (hidden: %g) and %s (hidden: %g)", a.Protocol, a.Hide, b.Protocol, b.Hide)
	case a.Fingerprint != b.Fingerprint || a.Interactions != b.Interactions:
		return fmt.Errorf("different data, %s (%d interactions, %.12s) and %s (%d interactions, %.12s)",
			a.Dataset, a.Interactions, a.Fingerprint, b.Dataset, b.Interactions, b.Fingerprint)
	}
	return nil
}

// arm returns the arm of the settings, added if it is not there.
func (r *HoldoutResult) arm(a Arm) (*ArmResult, error) {
	cfg := a.Recommender
	cfg.Seed = 0 // the runs have their own
	text, err := json.Marshal([]any{cfg, a.Training, a.Knowledge.Source})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	hash := hex.EncodeToString(sum[:8])
	for _, there := range r.Arms {
		if there.Name != a.Name {
			continue
		}
		if there.ConfigHash != hash {
			return nil, fmt.Errorf("the file holds an arm %q of other settings (%s, these are %s): give this arm another name, or name another file", a.Name, there.ConfigHash, hash)
		}
		return there, nil
	}
	arm := &ArmResult{Name: a.Name, Recommender: cfg, Training: a.Training, Knowledge: a.Knowledge.Source, ConfigHash: hash}
	r.Arms = append(r.Arms, arm)
	return arm, nil
}

// run returns the finished run of a seed, nil if there is none.
func (a *ArmResult) run(seed uint64) *Run {
	for i := range a.Runs {
		if a.Runs[i].Seed == seed {
			return &a.Runs[i]
		}
	}
	return nil
}

// seeds in the order of their numbers.
func (a *ArmResult) seeds() []uint64 {
	var out []uint64
	for _, r := range a.Runs {
		out = append(out, r.Seed)
	}
	slices.Sort(out)
	return out
}

// save writes the file.
func (r *HoldoutResult) save(path string) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return WriteFile(path, func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	})
}
