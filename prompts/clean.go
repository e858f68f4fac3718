package prompts

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// disarmed replaces what special tokens of chat templates are spelt with:
// <|im_start|>, </s>, <<SYS>>, <start_of_turn>, [INST], ... Without these four
// characters there is no such token, whichever model reads the prompt; a list of
// tokens would be one model behind. The other forms are those that a tokenizer
// which normalises its input (NFKC, NFKD) would turn into them.
var disarmed = map[rune]rune{
	'<': '‹', '＜': '‹', '﹤': '‹', '≮': '‹',
	'>': '›', '＞': '›', '﹥': '›', '≯': '›',
	'[': '(', '［': '(', '﹇': '(',
	']': ')', '］': ')', '﹈': ')',
}

// clean makes text from outside into one line of at most limit bytes: valid UTF-8,
// no control or format characters, runs of white space collapsed to one space, and
// nothing that a chat template would take for its own.
func clean(s string, limit int) string {
	var b strings.Builder
	space := false // between what is written and what comes
	for i, r := range s {
		switch {
		case r == utf8.RuneError && isBroken(s[i:]):
			continue
		case unicode.IsSpace(r) || unicode.IsControl(r):
			space = true
			continue
		case unicode.Is(unicode.Cf, r) && r != '\u200c' && r != '\u200d':
			// Invisible: directions, tags that spell hidden text. The two joiners are
			// part of how Persian, Hindi and emoji are written.
			continue
		}
		if space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		space = false
		if safe, ok := disarmed[r]; ok {
			r = safe
		}
		b.WriteRune(r)
		if b.Len() > limit {
			return cut(b.String(), limit)
		}
	}
	return b.String()
}

// isBroken tells bytes that are no UTF-8 from a replacement character in the text.
func isBroken(s string) bool {
	_, size := utf8.DecodeRuneInString(s)
	return size == 1
}

const ellipsis = "…"

// cut shortens s to at most limit bytes, ellipsis included: after a word where one
// ends in the second half, else after a whole rune.
func cut(s string, limit int) string {
	end := limit - len(ellipsis)
	for !utf8.RuneStart(s[end]) {
		end--
	}
	if s[end] != ' ' {
		if word := strings.LastIndexByte(s[:end], ' '); word >= end/2 {
			end = word
		}
	}
	return strings.TrimRight(s[:end], " ,;:.-") + ellipsis
}
