// Package snapshot is the form in which a model leaves its trainer: a manifest
// that says what it is and a payload with its tensors and vocabulary, each part
// with its SHA-256; and the form in which a trainer's state lies on disk.
//
// It reads and writes bytes and files. It knows nothing of Kafka, and nothing of
// how a model computes.
package snapshot

import "time"

// Format is the version of the manifest that this package writes.
const Format = 1

// Tensor is a float32 tensor, row major.
type Tensor struct {
	Shape []int64
	Data  []float32
}

// Architecture is what has to be known to compute with the tensors; the names of
// the sizes are RecBole's.
type Architecture struct {
	Name   string `json:"name"`
	Rows   int    `json:"rows"` // height of the item table, reserved rows included
	Dim    int    `json:"dim"`
	Layers int    `json:"layers"`
	Heads  int    `json:"heads"`
	Inner  int    `json:"inner"`
	MaxLen int    `json:"max_len"`

	// Of one architecture each, 0 elsewhere.
	Interests  int `json:"k_interests,omitempty"` // LightSANs: what a history is condensed to
	Segments   int `json:"segments,omitempty"`    // PAUP: m, likewise
	Kernel     int `json:"kernel,omitempty"`      // PAUP: k1, width of the first convolution
	Vertical   int `json:"n_v,omitempty"`         // Caser: vertical filters
	Horizontal int `json:"n_h,omitempty"`         // Caser: horizontal filters of each height
}

// Version orders the snapshots of a model: a later epoch is a later writer.
type Version struct{ Epoch, Step int64 }

// Less reports whether v is older than w.
func (v Version) Less(w Version) bool {
	return v.Epoch < w.Epoch || v.Epoch == w.Epoch && v.Step < w.Step
}

// Probe is what the trainer's own model answers to a few histories: Scores[i][k]
// is the logit of row Rows[i][k] for Histories[i].
type Probe struct {
	Histories [][]int32   `json:"histories,omitempty"`
	Rows      [][]int32   `json:"rows,omitempty"`
	Scores    [][]float32 `json:"scores,omitempty"`
}

// Part is a piece of the payload.
type Part struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Manifest describes a snapshot.
type Manifest struct {
	Format         int                `json:"format"`
	Model          string             `json:"model"`
	Epoch          int64              `json:"epoch"`
	Step           int64              `json:"step"`
	Kind           string             `json:"kind"` // full
	Architecture   Architecture       `json:"architecture"`
	VocabularyHash string             `json:"vocabulary_hash"`
	Offsets        map[int32]int64    `json:"offsets"`   // next offset of each partition of interactions
	Watermark      time.Time          `json:"watermark"` // latest event time learnt
	Created        time.Time          `json:"created"`
	Parts          []Part             `json:"parts"`
	Metrics        map[string]float64 `json:"metrics,omitempty"`
	Probe          Probe              `json:"probe"`
}

// Version of the snapshot.
func (m Manifest) Version() Version { return Version{m.Epoch, m.Step} }

// Snapshot is a model in memory.
type Snapshot struct {
	Manifest
	IDs     []string // of rows vocab.FirstItem, vocab.FirstItem+1, ...
	Tensors map[string]Tensor
}
