package tokenizer

import (
	"bytes"
	// Not segmentio/encoding/json: on deeply nested input that one recurses until
	// the process dies of its stack; the standard library stops with an error.
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// maxFile bounds a tokenizer.json. Llama 3's is 9 MB.
const maxFile = 64 << 20

// document is a tokenizer.json. The parts that differ from model to model stay
// raw, to be compared with the forms that we know.
type document struct {
	AddedTokens   []addedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Model         struct {
		Type         string         `json:"type"`
		Vocab        map[string]int `json:"vocab"`
		Merges       []jsonMerge    `json:"merges"`
		Dropout      *float64       `json:"dropout"`
		Unknown      *string        `json:"unk_token"`
		Prefix       *string        `json:"continuing_subword_prefix"`
		Suffix       *string        `json:"end_of_word_suffix"`
		ByteFallback bool           `json:"byte_fallback"`
		IgnoreMerges bool           `json:"ignore_merges"`
		MaxWord      int            `json:"max_input_chars_per_word"`
	} `json:"model"`
}

type addedToken struct {
	ID         int    `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Special    bool   `json:"special"`
}

// jsonMerge is written "a b" by older versions of the library, ["a", "b"] by newer.
type jsonMerge [2]string

func (m *jsonMerge) UnmarshalJSON(b []byte) error {
	if b[0] != '"' {
		var two []string
		if err := json.Unmarshal(b, &two); err != nil {
			return err
		}
		if len(two) != 2 {
			return fmt.Errorf("a merge of %d tokens", len(two))
		}
		*m = jsonMerge(two)
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	return m.split(s)
}

func (m *jsonMerge) split(s string) error {
	left, right, ok := strings.Cut(s, " ")
	if !ok || left == "" || right == "" || strings.Contains(right, " ") {
		return fmt.Errorf("merge %.40q is not two tokens", s)
	}
	*m = jsonMerge{left, right}
	return nil
}

// BPEFromJSON reads the tokenizer.json of a language model.
func BPEFromJSON(data []byte) (*BPE, error) {
	t, err := bpeFromJSON(data)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: tokenizer.json: %w", err)
	}
	return t, nil
}

func bpeFromJSON(data []byte) (*BPE, error) {
	d, err := parseDocument(data, "BPE")
	if err != nil {
		return nil, err
	}
	v, err := d.vocabulary()
	if err != nil {
		return nil, err
	}
	m := &d.Model
	for _, c := range []struct {
		bad  bool
		what string
	}{
		{m.Dropout != nil && *m.Dropout != 0, "dropout"},
		{m.Prefix != nil && *m.Prefix != "", "continuing_subword_prefix"},
		{m.Suffix != nil && *m.Suffix != "", "end_of_word_suffix"},
		{m.IgnoreMerges, "ignore_merges"},
	} {
		if c.bad {
			return nil, fmt.Errorf("the model asks for %s, which this does not do", c.what)
		}
	}
	if v.merges, err = v.mergesOf(m.Merges); err != nil {
		return nil, err
	}
	if v.bos, err = d.bos(v); err != nil {
		return nil, err
	}
	if m.ByteFallback {
		p, err := d.metaspace()
		if err != nil {
			return nil, err
		}
		return v.sentencePiece(p)
	}
	digits, err := d.digits()
	if err != nil {
		return nil, err
	}
	return v.byteLevel(digits)
}

func parseDocument(data []byte, want string) (*document, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%d bytes, at most %d are read", len(data), maxFile)
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, err
	}
	// Some old files leave the type of a BPE model out.
	if d.Model.Type != want && !(d.Model.Type == "" && want == "BPE") {
		return nil, fmt.Errorf("the model is %.40q, want %s", d.Model.Type, want)
	}
	return &d, nil
}

// vocabulary orders the tokens by id.
func (d *document) vocabulary() (*vocabulary, error) {
	size := 0
	for token, id := range d.Model.Vocab {
		if id < 0 || id >= maxVocabulary {
			return nil, fmt.Errorf("token %.40q has id %d, want 0 to %d", token, id, maxVocabulary-1)
		}
		size = max(size, id+1)
	}
	for _, a := range d.AddedTokens {
		if a.ID < 0 || a.ID >= maxVocabulary {
			return nil, fmt.Errorf("added token %.40q has id %d, want 0 to %d", a.Content, a.ID, maxVocabulary-1)
		}
		size = max(size, a.ID+1)
	}
	if size == 0 {
		return nil, fmt.Errorf("the vocabulary is empty")
	}
	v := &vocabulary{tokens: make([]string, size), kinds: make([]kind, size), bos: -1}
	for token, id := range d.Model.Vocab {
		if v.tokens[id] != "" {
			return nil, fmt.Errorf("id %d has two tokens, %.40q and %.40q", id, min(token, v.tokens[id]), max(token, v.tokens[id]))
		}
		v.tokens[id] = token
	}
	for _, a := range d.AddedTokens {
		if have := v.tokens[a.ID]; have != "" && have != a.Content {
			return nil, fmt.Errorf("added token %.40q has the id %d of %.40q", a.Content, a.ID, have)
		}
		v.tokens[a.ID] = a.Content
		v.kinds[a.ID] = kindUserDefined
		if a.Special {
			v.kinds[a.ID] = kindSpecial
		} else if a.SingleWord || a.LStrip || a.RStrip {
			return nil, fmt.Errorf("added token %.40q asks for single_word, lstrip or rstrip, which this does not do", a.Content)
		}
	}
	return v, nil
}

// mergesOf turns merges, in order of rank, into pairs of ids. A merge that would
// make a special token is left out: no text may give one.
func (v *vocabulary) mergesOf(list []jsonMerge) (map[pair]merge, error) {
	ids, err := v.index()
	if err != nil {
		return nil, err
	}
	merges := make(map[pair]merge, len(list))
	for rank, m := range list {
		left, ok1 := ids[m[0]]
		right, ok2 := ids[m[1]]
		made, ok3 := ids[m[0]+m[1]]
		if !ok1 || !ok2 || !ok3 {
			return nil, fmt.Errorf("merge %d of %.40q and %.40q: the vocabulary lacks one of them or the result", rank, m[0], m[1])
		}
		p := pair{left, right}
		if _, twice := merges[p]; !twice && v.kinds[made] != kindSpecial {
			merges[p] = merge{int32(rank), made}
		}
	}
	return merges, nil
}

// Forms of the parts of a document, as the library writes them.
const (
	llamaNormalizer = `{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]}`
	digitsForm      = `{"type":"Digits","individual_digits":true}`
)

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// same reports whether raw is the same JSON value as form.
func same(raw json.RawMessage, form string) bool {
	var a, b any
	return json.Unmarshal(raw, &a) == nil && json.Unmarshal([]byte(form), &b) == nil && reflect.DeepEqual(a, b)
}

func excerpt(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil || b.Len() == 0 {
		return "null"
	}
	return fmt.Sprintf("%.200s", b.String())
}

// digits checks that the document is of GPT-2's scheme and returns whether digits
// are split first.
func (d *document) digits() (bool, error) {
	if !isNull(d.Normalizer) {
		return false, fmt.Errorf("a byte-level model with normalizer %s; this reads those without one", excerpt(d.Normalizer))
	}
	var p struct {
		Type          string            `json:"type"`
		PreTokenizers []json.RawMessage `json:"pretokenizers"`
	}
	_ = json.Unmarshal(d.PreTokenizer, &p) // whatever it is, it is compared below
	steps := []json.RawMessage{d.PreTokenizer}
	if p.Type == "Sequence" {
		steps = p.PreTokenizers
	}
	digits := len(steps) == 2 && same(steps[0], digitsForm)
	if digits {
		steps = steps[1:]
	}
	var b struct {
		Type           string `json:"type"`
		AddPrefixSpace bool   `json:"add_prefix_space"`
		UseRegex       *bool  `json:"use_regex"`
	}
	if len(steps) != 1 || json.Unmarshal(steps[0], &b) != nil || b.Type != "ByteLevel" || b.AddPrefixSpace || b.UseRegex != nil && !*b.UseRegex {
		return false, fmt.Errorf("pre-tokenizer %s; this reads ByteLevel as GPT-2 has it, alone or after individual Digits", excerpt(d.PreTokenizer))
	}
	return digits, nil
}

// metaspace checks that the document is of Llama 2's scheme, and returns where a
// leading mark goes.
func (d *document) metaspace() (prefix, error) {
	if isNull(d.PreTokenizer) && same(d.Normalizer, llamaNormalizer) {
		return prefixAlways, nil
	}
	var m struct {
		Type        string `json:"type"`
		Replacement string `json:"replacement"`
		Scheme      string `json:"prepend_scheme"`
		Split       *bool  `json:"split"`
	}
	if isNull(d.Normalizer) && json.Unmarshal(d.PreTokenizer, &m) == nil && m.Type == "Metaspace" && m.Replacement == mark && m.Split != nil && !*m.Split {
		switch m.Scheme {
		case "always":
			return prefixIfMissing, nil
		case "first":
			return prefixFirstOfAll, nil
		case "never":
			return prefixNever, nil
		}
	}
	return 0, fmt.Errorf("normalizer %s and pre-tokenizer %s; of models with byte fallback this reads those of Llama 2's form",
		excerpt(d.Normalizer), excerpt(d.PreTokenizer))
}

// template is the part of a post-processor that says what goes around a text.
type template struct {
	Type       string     `json:"type"`
	Processors []template `json:"processors"`
	Single     []struct {
		SpecialToken *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
	} `json:"single"`
}

// around lists the special tokens before and after the text in a
// TemplateProcessing, wherever it is.
func (d *document) around() (before, after []string, err error) {
	if isNull(d.PostProcessor) {
		return nil, nil, nil
	}
	var t template
	if err := json.Unmarshal(d.PostProcessor, &t); err != nil {
		return nil, nil, fmt.Errorf("post-processor: %w", err)
	}
	steps := []template{t}
	if t.Type == "Sequence" {
		steps = t.Processors
	}
	for _, step := range steps {
		into := &before
		for _, piece := range step.Single {
			if piece.SpecialToken == nil {
				into = &after
				continue
			}
			*into = append(*into, piece.SpecialToken.ID)
		}
	}
	return before, after, nil
}

// bos returns the one token that the post-processor puts before a text, -1 for none.
func (d *document) bos(v *vocabulary) (int32, error) {
	before, _, err := d.around()
	if err != nil || len(before) == 0 {
		return -1, err
	}
	ids, err := v.index()
	if err != nil {
		return -1, err
	}
	id, ok := ids[before[0]]
	if len(before) > 1 || !ok || v.kinds[id] != kindSpecial {
		return -1, fmt.Errorf("the post-processor puts %.80q before a text; this reads those that put one special token there", before)
	}
	return id, nil
}
