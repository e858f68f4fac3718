package pregenerator

import "container/heap"

// queue holds the items that wait for a text, the newest first. It is bounded by the
// ledger, which holds its entries.
type queue []*entry

func (q *queue) add(e *entry)    { heap.Push(q, e) }
func (q *queue) remove(e *entry) { heap.Remove(q, e.position) }
func (q *queue) moved(e *entry)  { heap.Fix(q, e.position) }

// take removes up to n items: in turns the newest, and the first of popular that
// waits. When none of these is left, the newest.
func (q *queue) take(n int, popular []*entry) []*entry {
	var out []*entry
	for len(out) < n && len(*q) > 0 {
		next := (*q)[0]
		if len(out)%2 == 1 {
			for len(popular) > 0 && popular[0].position < 0 {
				popular = popular[1:]
			}
			if len(popular) > 0 {
				next = popular[0]
			}
		}
		q.remove(next)
		out = append(out, next)
	}
	return out
}

// newer reports whether a comes before b where nothing but their age counts.
func newer(a, b *entry) bool {
	switch {
	case a.time != b.time:
		return a.time > b.time
	case a.written != b.written:
		return a.written > b.written
	}
	return a.at.offset > b.at.offset
}

// For container/heap.

func (q *queue) Len() int { return len(*q) }

func (q *queue) Less(i, j int) bool { return newer((*q)[i], (*q)[j]) }

func (q *queue) Swap(i, j int) {
	all := *q
	all[i], all[j] = all[j], all[i]
	all[i].position, all[j].position = i, j
}

func (q *queue) Push(x any) {
	e := x.(*entry)
	e.position = len(*q)
	*q = append(*q, e)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	e.position = -1
	return e
}
