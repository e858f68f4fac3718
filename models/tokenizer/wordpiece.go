package tokenizer

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// WordPiece is the tokenizer of an uncased BERT: text is cleaned, stripped of
// accents and lower-cased, split at white space and punctuation, and each word is
// cut into the longest pieces that the vocabulary has.
type WordPiece struct {
	size               int
	ids                map[string]int32
	cls, sep, pad, unk int32
	maxWord            int // characters of a word; a longer one is unknown
	longest            int // bytes of the longest piece, its prefix included
}

// continuation begins every piece that is not the first of its word.
const continuation = "##"

const (
	bertNormalizer   = `{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}`
	bertPreTokenizer = `{"type":"BertPreTokenizer"}`
)

// WordPieceFromJSON reads the tokenizer.json of an uncased BERT. Its own
// truncation and padding are not applied: see Encode.
func WordPieceFromJSON(data []byte) (*WordPiece, error) {
	w, err := wordPieceFromJSON(data)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: tokenizer.json: %w", err)
	}
	return w, nil
}

func wordPieceFromJSON(data []byte) (*WordPiece, error) {
	d, err := parseDocument(data, "WordPiece")
	if err != nil {
		return nil, err
	}
	v, err := d.vocabulary()
	if err != nil {
		return nil, err
	}
	if !same(d.Normalizer, bertNormalizer) || !same(d.PreTokenizer, bertPreTokenizer) {
		return nil, fmt.Errorf("normaliser %s and pre-tokenizer %s; this reads those of an uncased BERT", excerpt(d.Normalizer), excerpt(d.PreTokenizer))
	}
	if d.Model.Prefix == nil || *d.Model.Prefix != continuation {
		return nil, fmt.Errorf("continuing_subword_prefix is not %q", continuation)
	}
	w := &WordPiece{size: len(v.tokens), maxWord: d.Model.MaxWord}
	if w.maxWord < 1 || w.maxWord > maxPiece {
		return nil, fmt.Errorf("max_input_chars_per_word is %d, want 1 to %d", w.maxWord, maxPiece)
	}
	if w.ids, err = v.index(); err != nil {
		return nil, err
	}
	before, after, err := d.around()
	if err != nil {
		return nil, err
	}
	if len(before) != 1 || len(after) != 1 || d.Model.Unknown == nil {
		return nil, fmt.Errorf("the post-processor puts %.80q before and %.80q after a text; this reads those with one token each", before, after)
	}
	for name, id := range map[string]*int32{before[0]: &w.cls, after[0]: &w.sep, *d.Model.Unknown: &w.unk, "[PAD]": &w.pad} {
		found, ok := w.ids[name]
		if !ok {
			return nil, fmt.Errorf("the vocabulary has no %.40q", name)
		}
		*id = found
	}
	for id, token := range v.tokens {
		// What no text may become, and what is not a piece of any.
		if v.kinds[id] == kindSpecial {
			delete(w.ids, token)
			continue
		}
		w.longest = max(w.longest, len(token))
	}
	return w, nil
}

// Encode returns the tokens of text between [CLS] and [SEP], at most maxLen in all
// (what is beyond is cut off, [SEP] is not). The names of special tokens in text
// are plain characters. maxLen is at least 2.
func (w *WordPiece) Encode(text string, maxLen int) []int32 {
	out := []int32{w.cls}
	var word []rune
	flush := func() {
		if len(word) > 0 {
			out = w.word(out, word)
			word = word[:0]
		}
	}
	limit := max(maxLen, 2) - 1
	for _, r := range normalise(text) {
		if len(out) >= limit {
			break
		}
		switch {
		case unicode.IsSpace(r):
			flush()
		case isPunctuation(r):
			flush()
			word = append(word, r)
			flush()
		case len(word) <= w.maxWord: // one too many is enough to know that it is unknown
			word = append(word, r)
		}
	}
	flush()
	return append(out[:min(len(out), limit)], w.sep)
}

// word appends the pieces of a word, or [UNK] for one that cannot be cut.
func (w *WordPiece) word(dst []int32, word []rune) []int32 {
	if len(word) > w.maxWord {
		return append(dst, w.unk)
	}
	n, s := len(dst), string(word)
	piece := make([]byte, 0, 64)
	for start := 0; start < len(s); {
		piece = piece[:0]
		if start > 0 {
			piece = append(piece, continuation...)
		}
		lead := len(piece)
		piece = append(piece, s[start:]...)
		end := min(len(piece), max(w.longest, lead))
		var id int32
		for ; end > lead; end-- {
			var found bool
			if id, found = w.ids[string(piece[:end])]; found {
				break
			}
		}
		if end == lead {
			return append(dst[:n], w.unk)
		}
		dst = append(dst, id)
		start += end - lead
	}
	return dst
}

// normalise cleans text as BERT does: control characters go, every white space is
// a space, CJK characters stand alone, accents go, upper case goes.
func normalise(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	for _, r := range text {
		switch {
		case r == 0 || r == utf8.RuneError:
		case r == '\t' || r == '\n' || r == '\r':
			b.WriteByte(' ')
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs): // before white space: \v, \f and U+0085 are dropped
		case unicode.IsSpace(r):
			b.WriteByte(' ')
		case isCJK(r):
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFD.String(b.String()))
}

func isCJK(r rune) bool {
	switch {
	case r >= 0x4E00 && r <= 0x9FFF, r >= 0x3400 && r <= 0x4DBF, r >= 0x20000 && r <= 0x2A6DF, r >= 0x2A700 && r <= 0x2B73F,
		r >= 0x2B740 && r <= 0x2B81F, r >= 0x2B920 && r <= 0x2CEAF, r >= 0xF900 && r <= 0xFAFF, r >= 0x2F800 && r <= 0x2FA1F:
		return true
	}
	return false
}

func isPunctuation(r rune) bool {
	switch {
	case r >= '!' && r <= '/', r >= ':' && r <= '@', r >= '[' && r <= '`', r >= '{' && r <= '~':
		return true
	}
	return unicode.IsPunct(r)
}

// Size returns the number of ids: they are 0 to Size()-1.
func (w *WordPiece) Size() int { return w.size }

// Pad returns the id that fills a batch's shorter texts.
func (w *WordPiece) Pad() int32 { return w.pad }
