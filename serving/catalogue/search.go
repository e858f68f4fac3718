package catalogue

import (
	"context"
	"strings"
)

// Search finds at most n items whose title holds query, ignoring case, or whose
// id equals it: titles that begin with it first, then titles with a word that
// does, then the rest, each in the order the items were first heard of. Hidden
// and deleted items are not found. It looks at every title, and returns what it
// has when ctx ends.
func (c *Catalogue) Search(ctx context.Context, query string, n int) []*Item {
	query = strings.ToLower(strings.TrimSpace(query))
	if n <= 0 {
		return nil
	}
	c.mu.RLock()
	all := c.order // append only: this prefix never changes
	c.mu.RUnlock()

	const first, word, inside = 0, 1, 2
	var found [3][]*Item
	for i, item := range all {
		if i%4096 == 0 && ctx.Err() != nil {
			break
		}
		e := item.Entry()
		if e == nil || !e.Recommendable() {
			continue
		}
		rank := -1
		switch at := strings.Index(e.folded, query); {
		case at == 0 || strings.EqualFold(item.ID, query):
			rank = first
		case at > 0 && strings.Contains(e.folded, " "+query):
			rank = word
		case at > 0:
			rank = inside
		}
		if rank >= 0 && len(found[rank]) < n {
			found[rank] = append(found[rank], item)
			if rank == first && len(found[first]) == n {
				break
			}
		}
	}
	hits := append(append(found[first], found[word]...), found[inside]...)
	return hits[:min(n, len(hits))]
}
