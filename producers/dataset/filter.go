package dataset

// filter leaves out what the options say, and numbers what remains of each user
// from 1.
//
// Values go first. Then the users and items with too few interactions go, both
// counted once, on what the values left: not again after the others are gone, so
// that the result may hold users or items with fewer. These are thresholds on
// activity, as the paper states them ("user >= 35, item >= 10"); it is not the
// iterated k-core, which shrinks a set until every remaining count holds.
func (t *table) filter(o Options, s *Summary) error {
	if o.MinValue != 0 {
		if !t.valued {
			return &FormatError{File: t.file, What: "there is no value column to hold against a minimum", Remedy: "leave the minimum out, or name the column"}
		}
		t.keep(func(e event) bool { return e.value >= o.MinValue })
		s.BelowValue = s.Read - len(t.events)
	}
	if o.MinUser > 0 || o.MinItem > 0 {
		users, items := t.counts()
		before := len(t.events)
		t.keep(func(e event) bool { return int(users[e.user]) >= o.MinUser && int(items[e.item]) >= o.MinItem })
		s.BelowCount = before - len(t.events)
	}
	if len(t.events) == 0 {
		return &FormatError{File: t.file, What: "no interaction is left by the minimum value and counts", Remedy: "lower them"}
	}
	next := make([]uint32, len(t.users.ids))
	for i := range t.events {
		e := &t.events[i]
		next[e.user]++
		e.seq = next[e.user]
	}
	return nil
}

func (t *table) counts() (users, items []uint32) {
	users, items = make([]uint32, len(t.users.ids)), make([]uint32, len(t.items.ids))
	for _, e := range t.events {
		users[e.user]++
		items[e.item]++
	}
	return users, items
}

func (t *table) keep(want func(event) bool) {
	n := 0
	for _, e := range t.events {
		if want(e) {
			t.events[n] = e
			n++
		}
	}
	t.events = t.events[:n]
}
