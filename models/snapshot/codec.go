package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"seralm/models/safetensors"
	"seralm/models/vocab"
)

// Parts of a payload.
const (
	partTensors    = "tensors.safetensors"
	partVocabulary = "vocabulary.json"
)

// itemTable is a tensor of every architecture.
const itemTable = "item_embedding.weight"

// KindFull is the kind of a recommender's snapshot in its manifest.
const KindFull = "full"

// ErrInvalid says that a snapshot must not be used.
var ErrInvalid = errors.New("invalid snapshot")

// Encode writes a snapshot and fills in its format, kind, vocabulary hash and parts.
func Encode(s *Snapshot) (manifest, payload []byte, err error) {
	tensors, err := EncodeTensors(s.Tensors)
	if err != nil {
		return nil, nil, err
	}
	ids, err := json.Marshal(s.IDs)
	if err != nil {
		return nil, nil, err
	}
	m := s.Manifest
	m.Format, m.Kind, m.VocabularyHash, m.Parts = Format, KindFull, vocab.Hash(s.IDs), nil
	for _, p := range []struct {
		name string
		data []byte
	}{{partTensors, tensors}, {partVocabulary, ids}} {
		sum := sha256.Sum256(p.data)
		m.Parts = append(m.Parts, Part{p.name, int64(len(p.data)), hex.EncodeToString(sum[:])})
		payload = append(payload, p.data...)
	}
	if manifest, err = json.Marshal(m); err != nil {
		return nil, nil, fmt.Errorf("encoding the manifest: %w", err)
	}
	return manifest, payload, nil
}

// DecodeManifest reads a manifest alone.
func DecodeManifest(manifest []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return m, fmt.Errorf("%w: manifest: %w", ErrInvalid, err)
	}
	if m.Format != Format {
		return m, fmt.Errorf("%w: format %d, this program reads %d", ErrInvalid, m.Format, Format)
	}
	return m, nil
}

// Decode reads a snapshot and checks all it can: sizes and hashes of the parts,
// that every value is finite, that the item table has the architecture's shape
// and that the vocabulary is the manifest's.
func Decode(manifest, payload []byte) (*Snapshot, error) {
	m, err := DecodeManifest(manifest)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Manifest: m}
	rest := payload
	for _, p := range m.Parts {
		if p.Size < 0 || p.Size > int64(len(rest)) {
			return nil, fmt.Errorf("%w: part %s: %d bytes expected, %d left", ErrInvalid, p.Name, p.Size, len(rest))
		}
		data := rest[:p.Size]
		rest = rest[p.Size:]
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != p.SHA256 {
			return nil, fmt.Errorf("%w: part %s: sha256 is %x, the manifest says %s", ErrInvalid, p.Name, sum, p.SHA256)
		}
		switch p.Name {
		case partTensors:
			if s.Tensors, err = DecodeTensors(data); err != nil {
				return nil, fmt.Errorf("%w: part %s: %w", ErrInvalid, p.Name, err)
			}
		case partVocabulary:
			if err := json.Unmarshal(data, &s.IDs); err != nil {
				return nil, fmt.Errorf("%w: part %s: %w", ErrInvalid, p.Name, err)
			}
		}
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes belong to no part", ErrInvalid, len(rest))
	}
	return s, s.check()
}

func (s *Snapshot) check() error {
	if h := vocab.Hash(s.IDs); h != s.VocabularyHash {
		return fmt.Errorf("%w: the vocabulary's hash is %s, the manifest says %s", ErrInvalid, h, s.VocabularyHash)
	}
	if want := vocab.FirstItem + len(s.IDs); s.Architecture.Rows != want {
		return fmt.Errorf("%w: %d item rows for %d items", ErrInvalid, s.Architecture.Rows, len(s.IDs))
	}
	if table, want := s.Tensors[itemTable].Shape, []int64{int64(s.Architecture.Rows), int64(s.Architecture.Dim)}; !slices.Equal(table, want) {
		return fmt.Errorf("%w: %s is %v, the architecture says %v", ErrInvalid, itemTable, table, want)
	}
	for name, t := range s.Tensors {
		for i, v := range t.Data {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("%w: tensor %s: value %d is %v", ErrInvalid, name, i, v)
			}
		}
	}
	p := s.Probe
	if len(p.Rows) != len(p.Histories) || len(p.Scores) != len(p.Histories) {
		return fmt.Errorf("%w: a probe of %d histories has %d lists of rows and %d of scores", ErrInvalid, len(p.Histories), len(p.Rows), len(p.Scores))
	}
	for i := range p.Histories {
		if len(p.Rows[i]) != len(p.Scores[i]) {
			return fmt.Errorf("%w: probe %d has %d rows and %d scores", ErrInvalid, i, len(p.Rows[i]), len(p.Scores[i]))
		}
		for _, r := range append(append([]int32(nil), p.Histories[i]...), p.Rows[i]...) {
			if r < vocab.Unknown || int(r) >= s.Architecture.Rows {
				return fmt.Errorf("%w: probe %d names row %d of %d", ErrInvalid, i, r, s.Architecture.Rows)
			}
		}
	}
	return nil
}

// EncodeTensors writes tensors as safetensors.
func EncodeTensors(tensors map[string]Tensor) ([]byte, error) {
	var named []safetensors.Named
	for name, t := range tensors {
		named = append(named, safetensors.Named{Name: name, DType: safetensors.F32, Shape: t.Shape, Data: safetensors.FromFloat32s(t.Data)})
	}
	return safetensors.Encode(named, nil)
}

// DecodeTensors is the inverse of EncodeTensors.
func DecodeTensors(data []byte) (map[string]Tensor, error) {
	named, _, err := safetensors.Decode(data)
	if err != nil {
		return nil, err
	}
	tensors := make(map[string]Tensor, len(named))
	for _, n := range named {
		values, err := n.Float32s()
		if err != nil {
			return nil, err
		}
		tensors[strings.Clone(n.Name)] = Tensor{n.Shape, values}
	}
	return tensors, nil
}
