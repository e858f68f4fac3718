package stream

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Knowledge is what is known of an item beyond its id: a text about it and the
// vector that an encoder made of the text. The topic is compacted: the latest
// record of an item is its knowledge, whichever model wrote the one before, and a
// null value says that it has none any more.
type Knowledge struct {
	Item string `json:"item"`
	// Text is what was encoded. It may be empty only when the vector came from
	// elsewhere (OriginImport).
	Text   string `json:"text,omitempty"`
	Vector Vector `json:"vector"`
	// PromptHash and Policy say what the text answers and which language model wrote
	// it: knowledge is made again when one of them changes. Texts of OriginLLM have
	// both.
	PromptHash string       `json:"prompt_hash,omitempty"`
	Policy     ModelVersion `json:"policy"`
	Encoder    string       `json:"encoder"` // name and version of what made the vector
	Origin     Origin       `json:"origin"`
	Time       time.Time    `json:"time"`
}

// ModelVersion names the parameters of a model that learns: they differ at every step.
type ModelVersion struct {
	Name string `json:"name,omitempty"`
	Step int64  `json:"step,omitempty"`
}

// String writes the version as name@step.
func (v ModelVersion) String() string { return v.Name + "@" + strconv.FormatInt(v.Step, 10) }

// Origin says where a text of knowledge came from.
type Origin string

// The origins: written by a language model; the item's own title and categories,
// until a model has written one; or brought by the operator.
const (
	OriginLLM    Origin = "llm"
	OriginTitle  Origin = "title"
	OriginImport Origin = "import"
)

// Bounds of knowledge: the text in bytes, the vector in numbers.
const (
	MaxKnowledgeText = 16 << 10
	MaxVector        = 4096
)

// Vector is written in JSON as the base64 (RFC 4648, padded) of its numbers as
// little-endian IEEE 754 float32, 4 bytes each: a third of the decimals' length,
// and read back bit for bit. In Python: numpy.frombuffer(base64.b64decode(s), "<f4").
type Vector []float32

// MarshalText writes the vector as base64.
func (v Vector) MarshalText() ([]byte, error) {
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return base64.StdEncoding.AppendEncode(nil, raw), nil
}

// UnmarshalText reads what MarshalText wrote.
func (v *Vector) UnmarshalText(text []byte) error {
	raw, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("a vector is base64: %w", err)
	}
	if len(raw)%4 != 0 {
		return fmt.Errorf("a vector is of 4 bytes a number, not of %d bytes", len(raw))
	}
	out := make(Vector, len(raw)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	*v = out
	return nil
}

// Validate reports the first rule that the knowledge breaks, as *InvalidError.
func (k Knowledge) Validate() error {
	if err := checkName("item", k.Item, true); err != nil {
		return err
	}
	switch k.Origin {
	case OriginLLM, OriginTitle, OriginImport:
	default:
		return &InvalidError{"origin", fmt.Sprintf("%.32q is none of llm, title, import", string(k.Origin))}
	}
	if err := checkText("text", k.Text, MaxKnowledgeText); err != nil {
		return err
	}
	if k.Text == "" && k.Origin != OriginImport {
		return &InvalidError{"text", "it is empty"}
	}
	if err := checkVector(k.Vector); err != nil {
		return err
	}
	if err := checkName("prompt_hash", k.PromptHash, k.Origin == OriginLLM); err != nil {
		return err
	}
	if err := checkName("policy", k.Policy.Name, k.Origin == OriginLLM); err != nil {
		return err
	}
	if k.Policy.Step < 0 {
		return &InvalidError{"policy", "its step is negative"}
	}
	return checkName("encoder", k.Encoder, true)
}

func checkVector(v Vector) error {
	if len(v) == 0 || len(v) > MaxVector {
		return &InvalidError{"vector", fmt.Sprintf("it is not of 1 to %d numbers", MaxVector)}
	}
	for _, x := range v {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return &InvalidError{"vector", "one is not a finite number"}
		}
	}
	return nil
}

func (k Knowledge) key() string     { return k.Item }
func (k Knowledge) when() time.Time { return k.Time }

// NoKnowledge as the body of NewRecord removes the knowledge of the item that the
// key names.
type NoKnowledge struct{}

// DecodeKnowledge reads a record of the knowledge topic; a null value says that the
// item has no knowledge any more (Event.Deleted, with Body.Item set).
func DecodeKnowledge(rec *kgo.Record) (Event[Knowledge], error) {
	ev, err := decode(rec, TypeKnowledge, func(key string) Knowledge { return Knowledge{Item: key} })
	ev.Body.Time = ev.Time
	return ev, err
}
