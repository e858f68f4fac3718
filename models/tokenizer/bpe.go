package tokenizer

import (
	"fmt"
	"strings"
)

// BPE is a byte-pair tokenizer of a language model.
type BPE struct {
	tokens  []string // as the vocabulary writes them, by id
	text    []string // what each stands for in a text; "" for a special one
	ids     map[string]int32
	special []bool
	bos     int32 // -1: the model wants none
	scheme  scheme
	symbols func(dst []int32, word string) []int32 // scheme.symbols, bound once
	merger  *merger
	always  matcher // user-defined tokens, which are text and found in any
	parsed  matcher // those and the special ones, for EncodeSpecial
}

// scheme is in what a byte-level and a SentencePiece vocabulary differ.
type scheme interface {
	// words splits a stretch of text where no merge can cross; first is whether
	// nothing comes before it.
	words(text string, first bool, yield func(word string))
	// symbols appends what a word is before the first merge.
	symbols(dst []int32, word string) []int32
	// finish undoes on decoded text what words added to it.
	finish(text string) string
}

// Part is a piece of a prompt: text, or one special token.
type Part struct {
	text    string
	special bool
}

// Text is a part in which no special token is ever found. Neighbouring texts are
// joined before they are split into tokens.
func Text(s string) Part { return Part{text: s} }

// Special is the special token of that name, such as <|im_start|>.
func Special(name string) Part { return Part{text: name, special: true} }

// Encode returns the tokens of text, in which special tokens are plain characters.
func (t *BPE) Encode(text string) []int32 { return t.encode(nil, text, true, &t.always) }

// EncodeSpecial is Encode, except that the name of a special token in text becomes
// that token: only for text that nobody else had a hand in.
func (t *BPE) EncodeSpecial(text string) []int32 { return t.encode(nil, text, true, &t.parsed) }

// EncodeParts returns the tokens of a prompt. A special token that the vocabulary
// does not have is an error: a prompt without it would not be the model's format.
func (t *BPE) EncodeParts(parts ...Part) ([]int32, error) {
	var ids []int32
	var text strings.Builder
	flush := func() {
		ids = t.encode(ids, text.String(), len(ids) == 0, &t.always)
		text.Reset()
	}
	for _, p := range parts {
		if !p.special {
			text.WriteString(p.text)
			continue
		}
		id, ok := t.ids[p.text]
		if !ok || !t.special[id] {
			return nil, fmt.Errorf("tokenizer: the vocabulary has no special token %q: the prompt format is another model's", p.text)
		}
		flush()
		ids = append(ids, id)
	}
	flush()
	return ids, nil
}

func (t *BPE) encode(dst []int32, text string, first bool, added *matcher) []int32 {
	word := func(w string) { dst = t.merger.encode(dst, w, t.symbols) }
	stretch := func(s string) {
		if s != "" {
			t.scheme.words(s, first, word)
			first = false
		}
	}
	for {
		at, n, id := added.find(text)
		if at < 0 {
			stretch(text)
			return dst
		}
		stretch(text[:at])
		dst, first = append(dst, id), false
		text = text[at+n:]
	}
}

// Decode returns the text of ids. Special tokens, and ids that the vocabulary does
// not have, stand for nothing. It is the inverse of Encode to the byte (SentencePiece
// cannot tell its mark ▁ from a space, and some of its models drop a leading one),
// so a sequence that ends within a character gives text that is not valid UTF-8;
// see strings.ToValidUTF8.
func (t *BPE) Decode(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		if t.has(id) {
			b.WriteString(t.text[id])
		}
	}
	return t.scheme.finish(b.String())
}

func (t *BPE) has(id int32) bool { return id >= 0 && int(id) < len(t.tokens) }

// Size returns the number of ids: they are 0 to Size()-1. A model's embedding may
// be taller (padded), never shorter.
func (t *BPE) Size() int { return len(t.tokens) }

// ID returns the id of a token as the vocabulary writes it, special or not.
func (t *BPE) ID(token string) (id int32, ok bool) {
	id, ok = t.ids[token]
	return id, ok
}

// Token returns the token of an id as the vocabulary writes it, "" for one that it
// does not have.
func (t *BPE) Token(id int32) string {
	if !t.has(id) {
		return ""
	}
	return t.tokens[id]
}

// BOS returns the special token that the model expects before every text, if it
// expects one. Encode does not put it there.
func (t *BPE) BOS() (id int32, ok bool) { return t.bos, t.bos >= 0 }

// kind is what a token is for.
type kind uint8

const (
	kindNormal      kind = iota
	kindSpecial          // steers the model; never made from text
	kindUserDefined      // text, found before anything is split
	kindUnused           // a name to keep an id; never made from text
)

// vocabulary is what both file formats are reduced to.
type vocabulary struct {
	tokens []string // by id; "" where there is none
	kinds  []kind
	merges map[pair]merge
	bos    int32
}

// maxVocabulary bounds the ids of a file: four times the largest in use.
const maxVocabulary = 1 << 20

func (v *vocabulary) index() (map[string]int32, error) {
	ids := make(map[string]int32, len(v.tokens))
	for id, token := range v.tokens {
		if token == "" {
			continue
		}
		if first, twice := ids[token]; twice {
			return nil, fmt.Errorf("token %q has two ids, %d and %d", token, first, id)
		}
		ids[token] = int32(id)
	}
	return ids, nil
}

// usable is whether a token may be made from text by merging.
func (v *vocabulary) usable(id int) bool { return v.kinds[id] == kindNormal && v.tokens[id] != "" }

// byteLevel finishes a tokenizer of GPT-2's scheme.
func (v *vocabulary) byteLevel(digits bool) (*BPE, error) {
	ids, err := v.index()
	if err != nil {
		return nil, err
	}
	l := &byteLevel{digits: digits}
	for b, r := range byteRune {
		l.byteID[b] = -1
		if id, ok := ids[string(r)]; ok && v.usable(int(id)) {
			l.byteID[b] = id
		}
	}
	return v.build(ids, l, bytesOf), nil
}

// sentencePiece finishes a tokenizer of Llama 2's scheme.
func (v *vocabulary) sentencePiece(p prefix) (*BPE, error) {
	ids, err := v.index()
	if err != nil {
		return nil, err
	}
	s, err := newSentencePiece(v.tokens, v.usable, p)
	if err != nil {
		return nil, err
	}
	return v.build(ids, s, pieceText), nil
}

func (v *vocabulary) build(ids map[string]int32, s scheme, text func(token string) string) *BPE {
	t := &BPE{tokens: v.tokens, ids: ids, bos: v.bos, scheme: s, symbols: s.symbols, merger: newMerger(v.merges),
		text: make([]string, len(v.tokens)), special: make([]bool, len(v.tokens))}
	for id, token := range v.tokens {
		switch v.kinds[id] {
		case kindSpecial:
			t.special[id] = true
			t.parsed.add(token, int32(id))
		case kindUserDefined:
			t.text[id] = token
			t.always.add(token, int32(id))
			t.parsed.add(token, int32(id))
		default:
			t.text[id] = text(token)
		}
	}
	return t
}
