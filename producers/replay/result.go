package replay

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"seralm/producers/dataset"
)

// Result says what a run did. Its String is the report to show at the end.
type Result struct {
	Name          string
	Events, Items int // interactions and rows of the catalogue that this run wrote
	// SkippedEvents and SkippedItems were in the log already, written by earlier runs.
	SkippedEvents, SkippedItems int
	Left                        int     // interactions still to write, after an error
	Seconds                     float64 // of writing interactions
	Gaps                        int     // waits that were cut to MaxGap
	Summary                     dataset.Summary
}

// Rate returns interactions per second.
func (r Result) Rate() float64 {
	if r.Seconds == 0 {
		return 0
	}
	return float64(r.Events) / r.Seconds
}

func (r Result) String() string {
	var b strings.Builder
	line := func(n int, format string, args ...any) {
		if n > 0 {
			fmt.Fprintf(&b, "\n  "+format, append([]any{thousands(n)}, args...)...)
		}
	}
	switch {
	case r.Events == 0 && r.Items == 0 && r.Left == 0 && r.SkippedEvents > 0:
		fmt.Fprintf(&b, "%s is in the log already; nothing was written (--restart writes it again)", r.Name)
	case r.Events == 0 && r.Items == 0:
		b.WriteString("nothing was written")
	default:
		fmt.Fprintf(&b, "%s: %s interactions and %s catalogue items written", r.Name, thousands(r.Events), thousands(r.Items))
		if r.Events > 0 {
			d := time.Duration(r.Seconds * float64(time.Second))
			fmt.Fprintf(&b, " in %s, %s interactions a second", d.Round(10*time.Millisecond), thousands(int(r.Rate())))
		}
	}
	line(r.SkippedEvents, "%s interactions and %s catalogue items were in the log before", thousands(r.SkippedItems))
	line(r.Left, "%s interactions are left: replay again to go on")
	line(r.Gaps, "%s gaps were longer than %s at this speed, and were cut to that", MaxGap)
	s := r.Summary
	line(s.BelowValue, "%s of the data set's interactions are below the minimum value, left out")
	line(s.BelowCount, "%s are of users or items with too few, left out")
	line(s.BeyondEnd, "%s are beyond the limit, left out")
	return b.String()
}

// thousands writes a number with separators.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
