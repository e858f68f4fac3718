package prompts

import "strings"

// maxWords bounds what Words returns, in bytes; an encoder reads some 256 tokens.
const maxWords = 1000

// Words are what is encoded of an item before a language model has written anything:
// title and categories, and the description of an item that has neither. They are empty
// for an item that says nothing. No model is asked, so nothing is disarmed.
func Words(it Item) string {
	out := line(it.Title)
	var categories []string
	for _, c := range it.Categories {
		if c = line(c); c != "" {
			categories = append(categories, c)
		}
	}
	if list := strings.Join(categories, ", "); out != "" && list != "" {
		out += ". " + list
	} else {
		out += list
	}
	if out == "" {
		out = line(prefix(it.Text, 4*maxWords))
	}
	return prefix(out, maxWords)
}

// line makes s one line.
func line(s string) string { return strings.Join(strings.Fields(s), " ") }

// prefix shortens s to at most limit bytes, after a whole rune.
func prefix(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.TrimSpace(strings.ToValidUTF8(s[:limit], ""))
}
