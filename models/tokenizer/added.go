package tokenizer

import (
	"slices"
	"strings"
)

// matcher finds tokens that stand for themselves in a text (special or
// user-defined ones): the leftmost, and of those the longest.
type matcher struct {
	byFirst [256][]needle // longest first
	any     bool
}

type needle struct {
	text string
	id   int32
}

func (m *matcher) add(text string, id int32) {
	if text == "" {
		return
	}
	b := text[0]
	m.byFirst[b] = append(m.byFirst[b], needle{text, id})
	slices.SortStableFunc(m.byFirst[b], func(x, y needle) int { return len(y.text) - len(x.text) })
	m.any = true
}

// find returns where in s the first token is, its length and id; at is -1 when
// there is none.
func (m *matcher) find(s string) (at, length int, id int32) {
	if !m.any {
		return -1, 0, 0
	}
	for i := range len(s) {
		for _, n := range m.byFirst[s[i]] {
			if strings.HasPrefix(s[i:], n.text) {
				return i, len(n.text), n.id
			}
		}
	}
	return -1, 0, 0
}
