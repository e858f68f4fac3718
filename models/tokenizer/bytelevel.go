package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// byteLevel is GPT-2's scheme: a text is split into words by a regular expression,
// a word's symbols are its bytes, and the vocabulary file writes each byte as a
// printable character.
type byteLevel struct {
	// digits makes every digit a word of its own before anything else is split, as
	// SmolLM2 has it.
	digits bool
	byteID [256]int32 // -1 where the vocabulary has no token for a byte
}

// byteRune is GPT-2's bijection from bytes to printable characters: printable
// Latin-1 stands for itself, the rest from U+0100 on.
var byteRune, runeByte = func() (to [256]rune, from map[rune]byte) {
	from = map[rune]byte{}
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if r < '!' || r > '~' && r < 0xA1 || r == 0xAD {
			r = next
			next++
		}
		to[b], from[r] = r, byte(b)
	}
	return to, from
}()

// ByteToken is how a byte-level vocabulary writes a single byte.
func ByteToken(b byte) string { return string(byteRune[b]) }

// bytesOf decodes a token of the vocabulary file. A token with a character that
// stands for no byte is an added one, and stands for itself.
func bytesOf(token string) string {
	b := make([]byte, 0, len(token))
	for _, r := range token {
		c, ok := runeByte[r]
		if !ok {
			return token
		}
		b = append(b, c)
	}
	return string(b)
}

// symbols drops bytes that the vocabulary lacks, as the reference does. (SmolLM2
// lacks some that never occur in valid UTF-8.)
func (l *byteLevel) symbols(dst []int32, word string) []int32 {
	for i := range len(word) {
		if id := l.byteID[word[i]]; id >= 0 {
			dst = append(dst, id)
		}
	}
	return dst
}

func (l *byteLevel) words(text string, _ bool, yield func(string)) {
	if !l.digits {
		splitGPT2(text, yield)
		return
	}
	start := 0
	for i := 0; i < len(text); {
		c, n := classify(text[i:])
		if c == number {
			splitGPT2(text[start:i], yield)
			yield(text[i : i+n])
			start = i + n
		}
		i += n
	}
	splitGPT2(text[start:], yield)
}

func (l *byteLevel) finish(text string) string { return text }

// class is what GPT-2's expression distinguishes.
type class uint8

const (
	other class = iota
	letter
	number
	space
)

var asciiClass = func() (t [utf8.RuneSelf]class) {
	for i := range t {
		t[i] = classOf(rune(i))
	}
	return t
}()

func classOf(r rune) class {
	switch {
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.IsSpace(r):
		return space
	}
	return other
}

// classify returns the class and the length of the first character of s, which is
// not empty. A byte that is not UTF-8 is a character of its own.
func classify(s string) (class, int) {
	if s[0] < utf8.RuneSelf {
		return asciiClass[s[0]], 1
	}
	r, n := utf8.DecodeRuneInString(s)
	return classOf(r), n
}

var contractions = [...]string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}

// splitGPT2 yields the matches of
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// which cover s. Written by hand because regexp has no look-ahead.
func splitGPT2(s string, yield func(string)) {
	for len(s) > 0 {
		n := nextWord(s)
		yield(s[:n])
		s = s[n:]
	}
}

func nextWord(s string) int {
	if s[0] == '\'' {
		for _, c := range contractions {
			if strings.HasPrefix(s, c) {
				return len(c)
			}
		}
	}
	lead := 0
	if s[0] == ' ' {
		lead = 1
	}
	if lead < len(s) {
		if c, n := classify(s[lead:]); c != space {
			end := lead + n
			for end < len(s) {
				d, n := classify(s[end:])
				if d != c {
					break
				}
				end += n
			}
			return end
		}
	}
	// A run of white space leaves its last character to what follows it, unless
	// that is all there is.
	end, last := 0, 0
	for end < len(s) {
		c, n := classify(s[end:])
		if c != space {
			if last > 0 {
				return last
			}
			return end
		}
		last = end
		end += n
	}
	return end
}
