package tokenizer

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// mark is how SentencePiece writes a space.
const mark = "▁"

// prefix says where a text gets a leading mark, so that its first word looks like
// any other.
type prefix int

const (
	prefixNever      prefix = iota
	prefixAlways            // before every stretch of text between special tokens (normalizer Prepend, and GGUF)
	prefixIfMissing         // the same, unless there is a mark already (Metaspace, "always")
	prefixFirstOfAll        // as prefixIfMissing, at the very beginning only (Metaspace, "first")
)

// sentencePiece is Llama 2's scheme: spaces become marks, a word's symbols are its
// characters, and a character that the vocabulary lacks becomes its bytes.
type sentencePiece struct {
	prefix    prefix
	character map[rune]int32
	byteID    [256]int32
	// split is whether a word may end before every mark that follows something
	// else. That is exact as long as no token has a mark after another character,
	// for then no merge crosses such a place; and it makes words short.
	split bool
}

// byteToken recognises SentencePiece's name of a byte, <0x0A>.
func byteToken(token string) (b byte, ok bool) {
	if len(token) != 6 || !strings.HasPrefix(token, "<0x") || token[5] != '>' {
		return 0, false
	}
	n, err := strconv.ParseUint(token[3:5], 16, 8)
	return byte(n), err == nil
}

// newSentencePiece finds symbols among tokens; usable says which may be made from
// text.
func newSentencePiece(tokens []string, usable func(id int) bool, p prefix) (*sentencePiece, error) {
	s := &sentencePiece{prefix: p, character: map[rune]int32{}, split: true}
	for i := range s.byteID {
		s.byteID[i] = -1
	}
	for id, token := range tokens {
		if b, ok := byteToken(token); ok {
			s.byteID[b] = int32(id)
			continue
		}
		if !usable(id) {
			continue
		}
		if r, n := utf8.DecodeRuneInString(token); n == len(token) && utf8.ValidString(token) {
			s.character[r] = int32(id)
		}
		if i := strings.LastIndex(token, mark); i > 0 && strings.Trim(token[:i], mark) != "" {
			s.split = false
		}
	}
	for b, id := range s.byteID {
		if id < 0 {
			return nil, fmt.Errorf("the vocabulary has no token <0x%02X>: without byte fallback some text has no tokens", b)
		}
	}
	return s, nil
}

func (s *sentencePiece) symbols(dst []int32, word string) []int32 {
	for len(word) > 0 {
		r, n := utf8.DecodeRuneInString(word)
		if id, ok := s.character[r]; ok && (n > 1 || r != utf8.RuneError) {
			dst = append(dst, id)
		} else {
			for i := range n {
				dst = append(dst, s.byteID[word[i]])
			}
		}
		word = word[n:]
	}
	return dst
}

func (s *sentencePiece) words(text string, first bool, yield func(string)) {
	text = strings.ReplaceAll(text, " ", mark)
	switch has := strings.HasPrefix(text, mark); {
	case s.prefix == prefixAlways, s.prefix == prefixIfMissing && !has, s.prefix == prefixFirstOfAll && first && !has:
		text = mark + text
	}
	if !s.split {
		yield(text)
		return
	}
	for start := 0; start < len(text); {
		// The word is its leading marks and everything up to the next mark.
		end := start
		for strings.HasPrefix(text[end:], mark) {
			end += len(mark)
		}
		if i := strings.Index(text[end:], mark); i >= 0 {
			end += i
		} else {
			end = len(text)
		}
		yield(text[start:end])
		start = end
	}
}

// finish takes off the space that a leading mark became.
func (s *sentencePiece) finish(text string) string {
	if s.prefix != prefixNever {
		return strings.TrimPrefix(text, " ")
	}
	return text
}

// pieceText is what a token of the vocabulary stands for.
func pieceText(token string) string {
	if b, ok := byteToken(token); ok {
		return string([]byte{b})
	}
	return strings.ReplaceAll(token, mark, " ")
}
